"""Each command line of the documentation is understood, and does what its page says."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import click
import pytest
from tests.commands_in_docs import PAGES, ROOT, CommandLine, command_lines

from pbs_push.cli.app import app
from pbs_push.demo.sample import sample_enc_key

from .conftest import SECRET, Cli, Place

NEW_TO_PUSHING = ("index.md", "from-pbs-sync-job.md", "install.md", "how-it-works.md")
"""Pages that are read with the hands on the keyboard: all that they say is run."""

_SOURCE = "/mnt/datastore/main"
_REPOSITORY = "sync@pbs!push@backup.example.org:offsite"
_NOT_RUN = ("serve", "bench")
"""The first runs until Ctrl-C, the other for long; tests of their own run them."""


def all_lines() -> list[CommandLine]:
    return [line for page in PAGES for line in command_lines(page)]


def test_there_are_many() -> None:
    assert len(all_lines()) >= 30


@pytest.mark.parametrize("line", all_lines(), ids=str)
def test_it_is_understood(line: CommandLine) -> None:
    """Options exist, their values are such, arguments are as many as there should be."""
    parse(app, "pbs-push", list(line.words))


def parse(command: click.Command, name: str, words: list[str]) -> None:
    if words in (["--help"], ["--version"]):
        return
    with command.make_context(name, words) as context:
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            found, chosen, rest = command.resolve_command(context, rest)
            assert found is not None
            assert chosen is not None
            parse(chosen, found, rest)


def test_what_does_not_exist_would_be_found() -> None:
    with pytest.raises(click.NoSuchOption):
        parse(app, "pbs-push", ["push", "a", "b", "--no-such"])
    with pytest.raises(click.BadParameter):
        parse(app, "pbs-push", ["push", "a", "b", "--retries", "often"])


@pytest.fixture
def world(
    place: Place, small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A host as the pages speak of it; its configuration is returned."""
    etc = tmp_path / "etc"
    etc.mkdir()
    host, port = place.server.address
    secret = base64.b64encode(SECRET.encode()).decode()
    (etc / "datastore.cfg").write_text(f"datastore: main\n\tpath {small_source}\n")
    (etc / "remote.cfg").write_text(
        f"remote: offsite\n\thost {host}\n\tport {port}\n\tauth-id root@pam!push\n"
        f"\tpassword {secret}\n\tfingerprint {place.fingerprint}\n"
    )
    (etc / "sync.cfg").write_text(job_of_the_page())
    key = {"kdf": None, "data": base64.b64encode(sample_enc_key()).decode()}
    (tmp_path / "site.key").write_text(json.dumps(key))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBS_REPOSITORY", place.repository)
    return etc


def job_of_the_page() -> str:
    """The job in from-pbs-sync-job.md, to the store that the tests have."""
    text = (ROOT / "docs" / "from-pbs-sync-job.md").read_text()
    begin = text.index("sync: nightly")
    job = text[begin : text.index("```", begin)]
    return job.replace("remote-store backup", "remote-store offsite")


def real(line: CommandLine, source: Path, place: Place, etc: Path) -> list[str]:
    """With what there is in place of what the page takes as an example."""
    there = {_SOURCE: str(source), _REPOSITORY: place.repository, "backup": "offsite"}
    words = [there.get(word, word) for word in line.words]
    if words[0] == "--version":
        return words
    if words[0] == "run":
        return [*words, "--config", str(_configuration(etc, source, place))]
    quick = ["--no-rates"] if words[0] == "check" else []
    return [*words, *quick, "--config-dir", str(etc)]


def _configuration(etc: Path, source: Path, place: Place) -> Path:
    """A file that names one push."""
    path = etc.parent / "pbs-push.toml"
    lines = ("[push.main]", f'source = "{source}"', f'repository = "{place.repository}"')
    more = (f'fingerprint = "{place.fingerprint}"', 'password-env = "PBS_PASSWORD"')
    path.write_text("\n".join((*lines, *more)) + "\n")
    return path


@pytest.mark.parametrize("page", NEW_TO_PUSHING)
def test_what_is_read_while_typing_works(
    cli: Cli, place: Place, small_source: Path, world: Path, page: str
) -> None:
    """One after the other, as somebody would type them."""
    for line in command_lines(ROOT / "docs" / page):
        if line.words[0] not in _NOT_RUN:
            cli(*real(line, small_source, place, world)).succeeded()
    if page in ("index.md", "from-pbs-sync-job.md"):
        assert place.snapshots()


def test_the_job_and_the_command_do_the_same(
    cli: Cli, place: Place, small_source: Path, world: Path
) -> None:
    lines = list(command_lines(ROOT / "docs" / "from-pbs-sync-job.md"))
    pushes = [line for line in lines if line.words[0] == "push"]
    assert len(pushes) == 2
    cli("job", "run", "nightly", "--config-dir", world).succeeded()
    there = place.snapshots()
    assert there
    for line in pushes:
        document = cli(*real(line, small_source, place, world), "--dry-run", "--json")
        plan = json.loads(document.succeeded().out)
        assert plan["to-push"] == 0
    assert place.snapshots() == there


def test_readme_pushes(cli: Cli, place: Place, small_source: Path, world: Path) -> None:
    """Those with all their words, once in the order of the page."""
    ran = 0
    for line in command_lines(ROOT / "README.md"):
        if line.words[0] in _NOT_RUN or "…" in line.words:
            continue
        cli(*real(line, small_source, place, world)).succeeded()
        ran += 1
    assert ran >= 5
