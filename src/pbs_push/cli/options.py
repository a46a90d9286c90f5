"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pbs_push.access.values import parse_duration
from pbs_push.cli.finishing import (
    Finishing,
    finish_options,
    given_for_an_end,
    make_finishing,
)
from pbs_push.cli.values import Value
from pbs_push.push.options import OPTIONS, Option, PushOptions

if TYPE_CHECKING:
    from pbs_push.remote.proxy import Proxy

F = TypeVar("F", bound=Callable[..., Any])

config_dir: Final = click.option(
    "--config-dir",
    type=click.Path(path_type=Path),
    help="Where this host's configuration lies.  [default: /etc/proxmox-backup, if it is there]",
)


def _timeout(text: str) -> float:
    from pbs_push.remote.limits import Limits  # noqa: PLC0415  (not for a list)

    seconds = parse_duration(text)
    Limits.of(seconds)
    return seconds


timeout: Final = click.option(
    "--timeout",
    "timeout_s",
    type=Value("time", _timeout),
    metavar="TIME",
    help="Give a connection or a request up when the target has not got on for so long: 90, 5m."
    "  [default: by what is waited for, up to 15m]",
)


@dataclass(frozen=True, slots=True)
class GivenProxy:
    """What ``--proxy`` says: None for ``none``, which is not the same as not to say anything."""

    proxy: Proxy | None


def _proxy(text: str) -> GivenProxy:
    from pbs_push.remote.proxy import Proxy  # noqa: PLC0415  (not for a list)

    return GivenProxy(None if text == "none" else Proxy.parse(text, "--proxy"))


proxy: Final = click.option(
    "--proxy",
    type=Value("url", _proxy),
    metavar="URL|none",
    help="Reach the target through this HTTP proxy, or directly.  [env: ALL_PROXY, HTTPS_PROXY, "
    "NO_PROXY]",
)

json_flag: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout (docs/json.md)."
)


SCOPE: Final = ("source_namespace", "max_depth", "group_filters")
"""Options that say which part of a source it is, by the names of PushOptions."""


def is_given(parameter: str) -> bool:
    """Whether a parameter stands on the command line itself, and not in the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def push_options(command: F) -> F:
    """All options of a push that are in the table: arguments by the names of PushOptions."""
    return _with_options(command, lambda _option: True)


def job_options(command: F) -> F:
    """Those that a job of ``sync.cfg`` cannot say."""
    return _with_options(command, lambda option: option.job is None)


def which_options(command: F) -> F:
    """Those that say which groups are meant."""
    names = ("source_namespace", "target_namespace", "max_depth", "group_filters")
    flags = {OPTIONS[name].flag for name in names}
    return _with_options(command, lambda option: option.flag in flags)


def scope_options(command: F) -> F:
    """Those that say which part of a source it is, ``SCOPE``."""
    scope = [OPTIONS[name] for name in SCOPE]
    return _with_options(command, lambda option: option in scope)


def _with_options(command: F, wanted: Callable[[Option], bool]) -> F:
    for one in reversed(fields(PushOptions)):
        option = OPTIONS[one.name]
        if option.flag is None or not wanted(option):
            continue
        default = one.default if one.default_factory is MISSING else one.default_factory()
        command = _click_option(option.flag, option, one.name, default)(command)
    return command


def _click_option(flag: str, option: Option, name: str, default: Any) -> Callable[[F], F]:
    if option.read is not None:
        read = option.read if option.many else _checked(option, name, option.read)
        return click.option(
            flag,
            name,
            type=Value(option.metavar.lower(), read),
            metavar=option.metavar,
            multiple=option.many,
            default=() if option.many else default,
            help=option.help,
        )
    if option.choices:
        kind = click.Choice(option.choices)
        return click.option(flag, name, type=kind, default=default, help=option.help)
    return click.option(flag, name, is_flag=True, help=option.help)


def _checked(option: Option, name: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: option.check(name, read(text))


def require_needed(values: Mapping[str, Any]) -> None:
    """Raise UsageError for an option of a push that has no effect without another."""
    for name in values:
        option = OPTIONS[name]
        if option.needs is not None and values[name] and not values[option.needs]:
            needed = OPTIONS[option.needs].flag
            raise click.UsageError(f"{option.flag} has no effect without {needed}")


@dataclass(frozen=True, slots=True)
class Output:
    """What is shown: the plan alone, results as one JSON document, fewer or more lines.

    ``pretty``: the document is indented. ``rate``: bytes a second for which a plan tells the time;
    ``measure``: find that out. ``log_json``: events are lines of JSON. ``finishing``: whom to tell
    how it ended. ``name`` is that of the push, where it has one.
    """

    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    pretty: bool = True
    rate: float | None = None
    measure: bool = False
    log_json: bool = False
    finishing: Finishing = field(default_factory=Finishing)
    name: str | None = None


def output_options(command: F) -> F:
    """``--dry-run`` and those of ``plan_output_options``; ``make_output`` takes them."""
    command = finish_options(plan_output_options(command))
    for option in (
        click.option(
            "--log-json",
            is_flag=True,
            help="Tell progress, warnings and errors on stderr as JSON, an event a line.",
        ),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
    ):
        command = option(command)
    return command


def plan_output_options(command: F) -> F:
    """``--json``, ``--output-format``, ``--quiet`` and ``--verbose``."""
    for option in (
        click.option("--verbose", "-v", is_flag=True, help="Tell more."),
        click.option("--quiet", "-q", is_flag=True, help="Only tell errors and warnings."),
        click.option(
            "--output-format",
            type=click.Choice(("text", "json", "json-pretty")),
            help="As PBS's own commands have it; --json is json-pretty.",
        ),
        json_flag,
    ):
        command = option(command)
    return command


def make_output(values: dict[str, Any]) -> Output:
    """Take what belongs to ``output_options`` out of a command's ``values``. Raises UsageError."""
    dry_run, as_json = values.pop("dry_run"), values.pop("as_json")
    quiet, verbose = values.pop("quiet"), values.pop("verbose")
    form = values.pop("output_format")
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other")
    if as_json and form == "text":
        raise click.UsageError("--json and --output-format text contradict each other")
    is_json = as_json or form in ("json", "json-pretty")
    pretty = form != "json" or as_json
    rate, measure = values.pop("rate", None), values.pop("measure", False)
    if rate is not None and measure:
        raise click.UsageError("give either --rate or --measure, not both")
    log_json = values.pop("log_json", False)
    if log_json and (quiet or verbose):
        raise click.UsageError("--log-json has all events: --quiet and --verbose have no effect")
    if dry_run and (without := given_for_an_end()):
        raise click.UsageError(f"{without} has no effect with --dry-run")
    finishing = make_finishing(values) if "metrics_file" in values else Finishing()
    return Output(dry_run, is_json, quiet, verbose, pretty, rate, measure, log_json, finishing)
