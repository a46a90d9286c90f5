"""Writes the man pages, one for each command, into build/man: python docs/make_man.py [FOLDER].

Each is made of what click knows of the command (arguments, options with their short help) and of
the command's section in docs/cli.md. `make man` does it, and so does the build of a wheel
(setup.py), which is why nothing is imported here but click and the modules of the commands.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pbs_push.cli.app import app
from pbs_push.cli.exit_status import EXIT_STATUSES
from pbs_push.cli.lines import PROGRAM
from pbs_push.version import VERSION

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS.parent / "build" / "man"


@dataclass(frozen=True)
class Named:
    """A command and how it is called, ``("job", "run")``; the program itself is ``()``."""

    path: tuple[str, ...]
    command: click.Command
    summary: str
    """What it does, in one line."""

    @property
    def page(self) -> str:
        """The page's name: ``pbs-push-job-run``."""
        return "-".join((PROGRAM, *self.path))

    @property
    def call(self) -> str:
        """As it is typed: ``pbs-push job run``."""
        return " ".join((PROGRAM, *self.path))


def commands(group: click.Group = app, path: tuple[str, ...] = ()) -> Iterator[Named]:
    """The program, and all its commands."""
    yield Named(path, group, _summary(group, path))
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield Named((*path, name), command, _summary(command, (*path, name)))


def _summary(command: click.Command, path: tuple[str, ...]) -> str:
    text = app.summaries.get(" ".join(path)) or command.get_short_help_str(limit=200)
    return text.rstrip(".")


def page(named: Named) -> str:
    """One man page, as roff."""
    command = named.command
    context = click.Context(command, info_name=named.call, help_option_names=["-h", "--help"])
    lines = [
        f'.TH {named.page.upper()} 1 "{_date()}" "{PROGRAM} {VERSION}" "User Commands"',
        *_section("NAME", [f"{_escaped(named.page)} \\- {_escaped(named.summary)}"]),
        *_section("SYNOPSIS", _synopsis(named, context)),
        *_section("DESCRIPTION", _description(named)),
    ]
    if isinstance(command, click.Group):
        lines += _section("COMMANDS", _listed_commands(named))
    lines += _section("OPTIONS", _options(command, context))
    statuses = [(f"\\fB{one}\\fR", _escaped(text)) for one, text in EXIT_STATUSES.items()]
    lines += _section("EXIT STATUS", _terms(statuses))
    lines += _section("SEE ALSO", [_see_also(named)])
    return "\n".join(lines) + "\n"


def _date() -> str:
    """Of the build; where builds are to be the same, SOURCE_DATE_EPOCH says it."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    when = now if seconds is None else datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return when.date().isoformat()


def _section(name: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    return [f".SH {name}", *lines]


def _synopsis(named: Named, context: click.Context) -> Iterator[str]:
    words = " ".join(named.command.collect_usage_pieces(context))
    yield f"\\fB{_escaped(named.call)}\\fR {_escaped(words)}"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = (one for one in command.get_params(context) if isinstance(one, click.Option))
    records = [one.get_help_record(context) for one in options]
    yield from _terms(
        (f"\\fB{_escaped(names)}\\fR", _escaped(text)) for names, text in filter(None, records)
    )


def _terms(pairs: Sequence[tuple[str, str]] | Iterator[tuple[str, str]]) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", term, _begin(text))


def _listed_commands(named: Named) -> Iterator[str]:
    found = [one for one in _all() if one.path[:-1] == named.path and one.path]
    yield from _terms(
        (f"\\fB{_escaped(one.page)}\\fR(1)", _escaped(f"{one.summary}.")) for one in found
    )


def _see_also(named: Named) -> str:
    names = [one.page for one in _all() if one != named and one.path]
    pages = [PROGRAM, *names] if named.path else names
    return ",\n".join(f"\\fB{_escaped(name)}\\fR(1)" for name in pages)


def _all() -> list[Named]:
    return list(commands())


def _description(named: Named) -> Iterator[str]:
    """The section of docs/cli.md, or where that has none, what ``--help`` says."""
    text = (DOCS / "cli.md").read_text()
    found = re.search(
        rf"^## {re.escape(named.call)}(?: [A-Z\[][^\n]*)?\n(.*?)(?=^## |\Z)", text, re.S | re.M
    )
    if found and named.path:
        yield from roff(found[1])
        if named.path != ("push",) and re.search(r"\babove\b|as for `push`", found[1]):
            yield from (
                ".PP",
                f"What is as above, or as for push, is in \\fB{PROGRAM}\\-push\\fR(1).",
            )
        return
    yield from roff(click.unstyle(named.command.help or ""))


def roff(markdown: str) -> Iterator[str]:
    """Headings, paragraphs, lists, tables and code blocks of Markdown; the rest is text."""
    for block in re.split(r"\n\s*\n", markdown.strip("\n")):
        lines = block.splitlines()
        if lines and lines[0].startswith("#"):
            yield f".SS {_inline(lines[0].lstrip('# '))}"
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("```") or lines[0].startswith("    "):
            code = (line for line in lines if not line.startswith("```"))
            yield from (".PP", ".nf", *(_begin(_escaped(line)) for line in code), ".fi")
        elif lines[0].startswith("|"):
            yield from _table(lines)
        elif lines[0].startswith("- "):
            yield from _list(lines)
        else:
            yield from (".PP", _begin(_inline(" ".join(line.strip() for line in lines))))


def _list(lines: list[str]) -> Iterator[str]:
    for item in re.split(r"\n(?=- )", "\n".join(lines)):
        text = " ".join(line.strip() for line in item.splitlines())[2:]
        yield from (".IP \\(bu 2", _begin(_inline(text)))


def _table(lines: list[str]) -> Iterator[str]:
    """Rows as terms with their meaning: a terminal is too narrow for columns of sentences."""
    for line in lines[2:]:
        first, *rest = (_inline(cell.strip()) for cell in line.strip("| ").split(" | "))
        yield from (".TP", first, _begin("; ".join(rest)))


def _inline(text: str) -> str:
    """Bold and code as bold, links as their text."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*[^*]+\*\*)", text)
    return "".join(
        f"\\fB{_escaped(part.strip('`*'))}\\fR" if part[:1] in ("`", "*") else _escaped(part)
        for part in parts
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _begin(text: str) -> str:
    """A line of text; a dot at its begin would be a request."""
    return f"\\&{text}" if text.startswith((".", "'")) else text


def write(folder: Path = FOLDER) -> list[Path]:
    """Write all pages; says which."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for named in commands():
        made.append(folder / f"{named.page}.1")
        made[-1].write_text(page(named), encoding="utf-8")
    return made


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
