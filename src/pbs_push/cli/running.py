"""Running the pushes of a configuration file one after another, and telling how they ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pbs_push.cli.config_file import ConfigFile, default_path, unknown
from pbs_push.cli.configured import ConfiguredPush, configured
from pbs_push.cli.ended import Ended, summed
from pbs_push.cli.exit_status import EXIT_OK
from pbs_push.cli.lines import (
    PROGRAM,
    WARNING,
    error_line,
    one_line,
    printable,
    safe_json,
    say,
    warning_line,
)
from pbs_push.cli.options import Output
from pbs_push.cli.pushing import carried_out
from pbs_push.errors import Cancelled, ConfigError, PbsPushError, os_reason
from pbs_push.names import Namespace
from pbs_push.push.document import Json, Span, bare_head
from pbs_push.push.report import Report, worst


def list_pushes(path: Path | None, output: Output) -> int:
    """Show the pushes of a file; the exit status is returned. Raises ConfigError."""
    began = time.time()
    try:
        pushes = _loaded(path)
    except ConfigError as error:
        if output.json:
            _print(_list_document(path, began, error, []), output)
        raise
    if output.json:
        _print(_list_document(path, began, None, pushes), output)
        return EXIT_OK
    width = max(len(push.name) for push in pushes)
    for push in pushes:
        print(printable(f"{push.name:<{width}}  {_route(push)}"))
    return EXIT_OK


def run_pushes(path: Path | None, names: Sequence[str] | None, output: Output) -> int:
    """Run those of these names (None: all); the exit status is returned.

    Raises ConfigError before anything is done, Cancelled.
    """
    began = time.time()
    try:
        pushes = _chosen(path, names)
    except ConfigError as error:
        if output.json:
            _print(_document(path, began, error.exit_status, error, [], ()), output)
        raise
    ended: list[tuple[str, Ended]] = []
    for push in pushes:
        ended.append((push.name, _carried_out(push, output)))
        if isinstance(ended[-1][1].failure, Cancelled):
            break
    status = worst(one.status for _, one in ended)
    left = [push.name for push in pushes[len(ended) :]]
    if output.json:
        _print(_document(path, began, status, None, ended, left), output)
    if output.log_json and not output.dry_run:
        statuses = {name: one.status for name, one in ended}
        _event("run-ended", {"exit-status": status, "pushes": statuses, "not-begun": left})
    return status


def _carried_out(push: ConfiguredPush, output: Output) -> Ended:
    """Run one, and say how it ended."""
    events = output.log_json and not output.dry_run
    if events:
        _event("push-begun", {"push": push.name})
    elif not output.quiet:
        say(f"{PROGRAM}: {push.name}: {one_line(_route(push))}")
    shown = replace(output, finishing=push.finishing, name=push.name)
    ended = _ended(push, shown)
    if events:
        return ended  # the summary has said all
    if isinstance(ended.failure, Cancelled):
        text = f"{PROGRAM}: {push.name}: interrupted: {one_line(str(ended.failure))}"
        say(text, WARNING)
    elif ended.failure is not None:
        say(error_line(f"{push.name}: {ended.failure}"))
    else:
        for line in ended.lines:
            say(error_line(f"{push.name}: {line}"))
    return ended


def _ended(push: ConfiguredPush, output: Output) -> Ended:
    """How one ended, whatever the system said: the next one is to begin all the same."""
    try:
        return carried_out(push.sides, push.prepare, output, several=push.several)
    except BrokenPipeError:  # nobody reads what we print
        raise
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        report = Report(push.sides)
        report.error = PbsPushError(f"{where}{os_reason(error)}")
        if output.log_json:
            _event("summary", {"push": push.name} | summed(report))
        return Ended(report.to_dict, report.exit_status, report.error)


def _loaded(path: Path | None) -> list[ConfiguredPush]:
    file = ConfigFile.load(path)
    for text in file.warnings:
        say(warning_line(text))
    return configured(file)


def _chosen(path: Path | None, names: Sequence[str] | None) -> list[ConfiguredPush]:
    pushes = {push.name: push for push in _loaded(path)}
    for name in names or ():
        if name not in pushes:
            raise ConfigError(f"{path or default_path()}: push {unknown(name, pushes)}")
    chosen = [pushes[name] for name in dict.fromkeys(pushes if names is None else names)]
    if lacking := [push.lacks for push in chosen if push.lacks is not None]:
        raise ConfigError("; ".join(lacking))
    return chosen


def _route(push: ConfiguredPush) -> str:
    here = _place(push.sides.source, push.sides.source_namespace)
    there = _place(push.repository, push.sides.target_namespace)
    return f"{here} -> {', '.join((there, *push.also))}"


def _place(store: str, namespace: Namespace) -> str:
    return store if namespace.is_root else f"{store}/{namespace}"


def _list_document(
    path: Path | None, began: float, error: ConfigError | None, pushes: Sequence[ConfiguredPush]
) -> Json:
    status = EXIT_OK if error is None else error.exit_status
    return {
        **bare_head("run-list", status, error, Span(began, time.time())),
        "config": str(path or default_path()),
        "pushes": [_listed(push) for push in pushes],
    }


def _listed(push: ConfiguredPush) -> Json:
    sides = push.sides.to_dict()
    sides["target"]["repository"] = push.repository
    also = {"also": list(push.also)} if push.also else {}
    return {"push": push.name, **sides, **also}


def _document(
    path: Path | None,
    began: float,
    status: int,
    error: PbsPushError | None,
    ended: Sequence[tuple[str, Ended]],
    left: Sequence[str],
) -> Json:
    return {
        **bare_head("run", status, error, Span(began, time.time())),
        "config": str(path or default_path()),
        "reports": [{"push": name, **one.document()} for name, one in ended],
        "not-begun": list(left),
    }


def _print(document: Json, output: Output) -> None:
    print(safe_json(document, indent=2 if output.pretty else None))


def _event(name: str, content: Json) -> None:
    from pbs_push.cli.event_json import tell  # noqa: PLC0415  (for who asks for it)

    tell(name, content)
