"""The manual says what the command does: options, statuses, keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from pbs_push.cli.app import app
from pbs_push.cli.exit_status import markdown_table
from pbs_push.push.document import key_of
from pbs_push.push.outcome import Skip

from .conftest import Cli
from .test_results import full_plan, full_report

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_exit_statuses() -> None:
    assert markdown_table() in (DOCS / "exit-status.md").read_text()


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        if name == "bench":
            continue  # it has a page of its own
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def section_of(path: tuple[str, ...]) -> str:
    text = (DOCS / "cli.md").read_text()
    begin = text.index(f"## pbs-push {' '.join(path)}")
    return text[begin : text.find("\n## ", begin)]


@pytest.mark.parametrize(
    ("path", "command"), list(commands(app)), ids=lambda value: str(value)[:20]
)
def test_every_option_is_in_the_manual(path: tuple[str, ...], command: click.Command) -> None:
    section = section_of(path)
    if "with the same options" in section:
        section += section_of(("push",))
    options = {name for parameter in command.params for name in parameter.opts if "--" in name}
    named = set(re.findall(r"`(--[a-z-]+)", section))
    assert options <= named
    others = {
        name for _, other in commands(app) for parameter in other.params for name in parameter.opts
    }
    assert named <= others


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("which", ["report", "plan", "list"])
def test_every_key_is_in_the_manual(cli: Cli, small_source: Path, which: str) -> None:
    if which == "report":
        document: Any = full_report().to_dict()
    elif which == "plan":
        document = full_plan().to_dict()
    else:
        document = json.loads(cli("list", small_source, "--json").out)
        for namespace in document["namespaces"]:
            for group in namespace["groups"]:
                for snapshot in group["snapshots"]:
                    del snapshot["verification"]  # PBS's own
    text = (DOCS / "json.md").read_text()
    documented = set(re.findall(r"`([a-z-]+)`", text))
    assert keys(document) - documented == set()
    if which != "list":
        assert {key_of(skip) for skip in Skip} <= documented
