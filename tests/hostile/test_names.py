"""Texts that people put into files of this host, and paths: none of them steers a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.push.world import Store

from .conftest import Cli
from .server import ESCAPE

WORD = "x\x1b[2J\x9b1m\u202e\x7f"

REMOTE = "remote: far\n\thost {host}\n\tauth-id {auth}\n\tpassword x\n\tcomment {comment}\n"
JOB = "sync: {name}\n\tstore here\n\tremote {remote}\n\tremote-store there\n\tsync-direction push\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    store = Store(tmp_path / "here")
    store.add("vm/1", 0)
    (folder / "datastore.cfg").write_text(f"datastore: here\n\tpath {store.path}\n")
    return folder


FILES = {
    "a remote's host": ("remote.cfg", REMOTE.format(host=WORD, auth="a@pbs", comment="x")),
    "a remote's user": ("remote.cfg", REMOTE.format(host="h", auth=WORD, comment="x")),
    "a remote's comment": ("remote.cfg", REMOTE.format(host="h", auth="a@pbs", comment=WORD)),
    "a job's name": ("sync.cfg", JOB.format(name=WORD, remote="far")),
    "a job's remote": ("sync.cfg", JOB.format(name="j", remote=WORD)),
    "a key of a job": ("sync.cfg", JOB.format(name="j", remote="far") + f"\t{WORD} 1\n"),
    "a comment of a job": ("sync.cfg", JOB.format(name="j", remote="far") + f"\tcomment {WORD}\n"),
    "a schedule of a job": (
        "sync.cfg",
        JOB.format(name="j", remote="far") + f"\tschedule {WORD}\n",
    ),
    "a filter of a job": (
        "sync.cfg",
        JOB.format(name="j", remote="far") + f"\tgroup-filter {WORD}\n",
    ),
    "no section": ("sync.cfg", f"{WORD}\n"),
    "a datastore's path": ("datastore.cfg", f"datastore: here\n\tpath /no/{WORD}\n"),
    "a datastore's name": ("datastore.cfg", f"datastore: {WORD}\n\tpath /\n"),
    "an access control list": ("acl.cfg", f"acl:1:/{WORD}:{WORD}:{WORD}\n"),
    "a user": ("user.cfg", f"user: {WORD}\n\tenable {WORD}\n"),
    "keys": ("encryption-keys.cfg", f"encryption-key: {WORD}\n\tkey {WORD}\n"),
}


@pytest.mark.parametrize("what", FILES)
def test_no_text_of_a_configuration_steers_a_terminal(what: str, etc: Path, cli: Cli) -> None:
    name, text = FILES[what]
    (etc / name).write_text(text)
    at = ("--config-dir", etc)
    for arguments in (
        ("job", "list"),
        ("job", "list", "--json"),
        ("job", "run", "j"),
        ("list", "here"),
        ("push", "here", "--remote", "far", "--remote-store", "there", "--timeout", "1"),
        ("push", "here", "a@pbs@127.0.0.1:1:there", "--local-user", "b@pbs"),
    ):
        cli(*arguments, *at)


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", f"/no/{ESCAPE}"),
        ("list", f"no-{ESCAPE}"),
        ("push", "/", f"{ESCAPE}:x"),
        ("push", "/", "h:x", "--fingerprint", ESCAPE),
        ("push", "/", "h:x", "--ns", ESCAPE),
        ("push", "/", "h:x", "--group-filter", f"regex:({ESCAPE}"),
        ("push", "/", "h:x", "--timeout", ESCAPE),
        ("push", "/", "h:x", "--keyfile", f"/no/{ESCAPE}"),
        ("push", "/", "h:x", "--config-dir", f"/no/{ESCAPE}"),
        ("push", "/", "h:x", f"--{ESCAPE}"),
        ("bench", "--datastore", f"/no/{ESCAPE}"),
        (ESCAPE,),
    ],
)
def test_no_text_of_a_command_line_does(arguments: tuple[str, ...], cli: Cli) -> None:
    ran = cli(*arguments)
    assert ran.status in (1, 2), ran


def test_no_path_of_a_source_does(tmp_path: Path, cli: Cli) -> None:
    store = Store(tmp_path / f"a\n{WORD}")
    store.add("vm/1", 0)
    for path in store.chunk_files():
        path.unlink()
    assert cli("list", store.path).status == 0
    assert cli("list", store.path, "--json").status == 0
    ran = cli("push", store.path, "a@pbs@127.0.0.1:1:store", "--retries", "0", "--timeout", "1")
    assert ran.status == 1, ran
