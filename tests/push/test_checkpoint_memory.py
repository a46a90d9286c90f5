"""Where this host keeps which groups may have a checkpoint."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from pbs_push.names import Group, Namespace, Repository
from pbs_push.push import checkpoint_memory
from pbs_push.push.checkpoint_memory import CheckpointMemory

HERE = Repository.parse("me@pbs@host:store")
THERE = Repository.parse("me@pbs@host:other")
GROUP = Group("vm", "100")
ROOT = Namespace()


def may_have(target: Repository, namespace: Namespace, group: Group) -> bool:
    """As a new run knows."""
    return CheckpointMemory(target).may_have(namespace, group)


def test_what_is_kept_is_of_one_group_until_it_is_dropped() -> None:
    memory = CheckpointMemory(HERE)
    memory.keep(ROOT, GROUP)
    memory.keep(ROOT, GROUP)
    assert may_have(HERE, ROOT, GROUP)
    assert not may_have(HERE, ROOT, Group("vm", "101"))
    assert not may_have(HERE, Namespace.parse("a"), GROUP)
    assert not may_have(THERE, ROOT, GROUP)
    memory.drop(ROOT, GROUP)
    memory.drop(ROOT, GROUP)
    assert not may_have(HERE, ROOT, GROUP)


def test_a_service_keeps_it_in_its_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}:/elsewhere")
    CheckpointMemory(HERE).keep(ROOT, GROUP)
    assert len(list(tmp_path.iterdir())) == 1
    assert may_have(HERE, ROOT, GROUP)


@pytest.mark.parametrize("has_home", [True, False])
def test_other_users_have_it_below_their_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_home: bool
) -> None:
    def found(_user: int) -> pwd.struct_passwd:
        if not has_home:
            raise KeyError
        return pwd.struct_passwd(("x", "x", 1, 1, "", str(tmp_path), ""))

    monkeypatch.setattr(checkpoint_memory, "OF_OTHERS", None)
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setattr(pwd, "getpwuid", found)
    CheckpointMemory(HERE).keep(ROOT, GROUP)
    assert (tmp_path / ".local/state/pbs-push").is_dir() is has_home
    assert may_have(HERE, ROOT, GROUP) is has_home


def test_a_link_in_its_place_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_memory, "OF_ROOT", tmp_path / "state")
    memory = CheckpointMemory(HERE)
    memory.keep(ROOT, GROUP)
    (kept,) = (tmp_path / "state").iterdir()
    kept.unlink()
    kept.symlink_to(tmp_path / "victim")
    memory.keep(ROOT, GROUP)
    assert not (tmp_path / "victim").exists()
    memory.drop(ROOT, GROUP)
