"""The programs in docs/examples do what they say, with a target made up and with one of yours."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.push.world import ME, SECRET, STORE, World

_EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

ENDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "progress": (0, ("8 snapshots to push\n", "8 pushed, 0 failed\n")),
    "in_event_loop": (0, ("no time left: stopped\n", "the loop goes on\n", "26 pushed\n")),
    "outcomes": (0, (",group,", ",vm/100,", ",pushed,")),
    "proof": (3, ("not-pushed\n", "19 are equal\n")),
    "own_snapshot": (0, (": 1 chunks sent\n", ": 0 chunks sent\n", "read back: the same\n")),
}
"""How each ends without arguments, and what it prints."""


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.syspath_prepend(str(_EXAMPLES))
    monkeypatch.setattr(sys, "argv", [name])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(_EXAMPLES / f"{name}.py"), run_name="__main__")
    sys.modules.pop("place", None)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("name", ENDS)
def test_without_a_target_of_ones_own(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, parts = ENDS[name]
    assert run(name, monkeypatch) == status
    said = capsys.readouterr().out
    assert [part for part in parts if part not in said] == []


@pytest.mark.parametrize("name", ENDS)
def test_with_one(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with World(tmp_path) as world:
        world.source.add("vm/1", 1)
        server = world.serve()
        monkeypatch.setenv("PBS_REPOSITORY", str(server.repository(STORE, ME)))
        monkeypatch.setenv("PBS_PASSWORD", SECRET)
        monkeypatch.setenv("PBS_FINGERPRINT", server.fingerprint.hex(":"))
        monkeypatch.setenv("SOURCE", str(world.source.path))
        assert run(name, monkeypatch) == (3 if name == "proof" else 0)
        world.settle()
        assert world.there.has("vm/1") == (name not in ("proof", "own_snapshot"))
        assert world.there.has("host/own-files") == (name == "own_snapshot")
    assert ("0 are equal" in capsys.readouterr().out) == (name == "proof")


def test_each_is_short() -> None:
    paths = sorted(_EXAMPLES.glob("*.py"))
    assert {path.stem for path in paths} == {*ENDS, "place", "test_nightly"}
    assert [path.name for path in paths if len(path.read_text().splitlines()) >= 60] == []


def test_the_page_shows_what_is_run() -> None:
    """If this fails: python docs/make_examples.py."""
    made = runpy.run_path(str(_EXAMPLES.parent / "make_examples.py"))
    assert set(made["ORDER"]) == {path.stem for path in _EXAMPLES.glob("*.py")}
    assert (_EXAMPLES.parent / "examples.md").read_text() == made["page"]()


# -- the one that is a test itself: its tests are run here, too --


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, _EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_NIGHTLY = _loaded("test_nightly")
source = _NIGHTLY.source
test_machines_are_pushed = _NIGHTLY.test_machines_are_pushed
test_one_fails_and_the_other_does_not = _NIGHTLY.test_one_fails_and_the_other_does_not
test_no_rights = _NIGHTLY.test_no_rights
