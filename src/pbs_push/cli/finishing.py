"""What is done when a push has ended: metrics, a page, a command, a webhook (docs/monitoring.md).

Nothing of it changes the exit status: a report that cannot be delivered is a warning.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import string
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pbs_push.cli.lines import safe_json, say, warning_line
from pbs_push.errors import ConfigError, PbsPushError, os_reason

if TYPE_CHECKING:
    from pbs_push.cli.sampling import Sampling
    from pbs_push.push.fan_out_report import FanOutReport
    from pbs_push.push.report import Report

    AnyReport = Report | FanOutReport

F = TypeVar("F", bound=Callable[..., Any])

_WEBHOOK_S: Final = 60.0
"""For all of the request: a server could send a line now and then for ever."""
WEBHOOK_VARIABLE: Final = "PBS_PUSH_WEBHOOK"


@dataclass(frozen=True, slots=True)
class Finishing:
    """Whom to tell how a push ended. ``failures``: commands and webhooks only of those."""

    metrics_file: Path | None = None
    command: str | None = None
    webhook: str | None = None
    template: Path | None = None
    failures: bool = False
    html: Path | None = None

    def sampling(self) -> Sampling | None:
        """What is to hear the events for the page, if there is to be one."""
        if self.html is None:
            return None
        from pbs_push.cli.sampling import Sampling  # noqa: PLC0415  (for who asks for it)

        return Sampling()

    def tell(self, report: AnyReport, samplings: Sequence[Sampling] = ()) -> None:
        """Tell them; what cannot be told is a warning.

        The page needs what ``samplings`` heard, one for each target.
        """
        if self.html is not None and samplings:
            _or_warn(lambda: _write_page(self.html or Path(), report, samplings))
        if self.metrics_file is not None:
            from pbs_push.cli.metrics import write_metrics  # noqa: PLC0415  (for who asks for it)

            _or_warn(lambda: write_metrics(self.metrics_file or Path(), report.reports))
        if self.failures and report.exit_status == 0:
            return
        if self.command is not None:
            _or_warn(lambda: self._run(self.command or "", report))
        if self.webhook is not None:
            _or_warn(lambda: self._post(self.webhook or "", report))

    def check(self) -> None:
        """Raise ConfigError for what cannot work: it is known before the push, not after hours."""
        for flag, path in (("--metrics-file", self.metrics_file), ("--html", self.html)):
            if path is not None and not path.parent.is_dir():
                raise ConfigError(f"{flag} {path}: there is no such folder")
            if path is not None and path.exists() and not path.is_file():  # reading one may not end
                raise ConfigError(f"{flag} {path}: something is there that is no file")
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://")):
            raise ConfigError("--webhook: it must begin with http:// or https://")
        if self.template is not None:
            from pbs_push.push.report import Report  # noqa: PLC0415  (for who asks for it)

            self._body(Report())
        if self.command is not None:
            try:
                words = shlex.split(self.command)
            except ValueError as error:
                raise ConfigError(f"--on-finish: {error}") from None
            if not words:
                raise ConfigError("--on-finish: it names no command")
            if shutil.which(words[0]) is None:
                raise ConfigError(f"--on-finish: '{words[0]}': there is no such command")

    def _run(self, command: str, report: AnyReport) -> None:
        words = shlex.split(command)
        environment = {name: value for name, value in os.environ.items() if not _is_secret(name)}
        environment["PBS_PUSH_EXIT_STATUS"] = str(report.exit_status)
        text = safe_json(report.to_dict()).encode()
        try:
            done = subprocess.run(words, input=text, check=False, env=environment)
        except OSError as error:
            raise ConfigError(f"--on-finish: '{words[0]}': {os_reason(error)}") from None
        if done.returncode:
            raise ConfigError(f"--on-finish: '{words[0]}' ended with status {done.returncode}")

    def _post(self, url: str, report: AnyReport) -> None:
        from pbs_push.remote.webhook import post  # noqa: PLC0415  (for who asks for it)

        body = self._body(report)
        kind = "application/json" if _is_json(body) else "text/plain; charset=utf-8"
        _within(_WEBHOOK_S, lambda: post(url, body, kind))

    def _body(self, report: AnyReport) -> str:
        """The report as JSON, or the template with its values filled in."""
        if self.template is None:
            return safe_json(report.to_dict())
        try:
            text = self.template.read_text(encoding="utf-8")
            return string.Template(text).substitute(values_of(report))
        except OSError as error:
            raise ConfigError(f"--webhook-template {self.template}: {os_reason(error)}") from None
        except (KeyError, ValueError) as error:
            raise ConfigError(f"--webhook-template {self.template}: {error}") from None


def _within(limit_s: float, work: Callable[[], None]) -> None:
    """Do it in a thread, and wait for so long.

    Raises what it raises, ConfigError when it is late.
    """
    wrong: list[PbsPushError] = []

    def run() -> None:
        try:
            work()
        except PbsPushError as error:
            wrong.append(error)

    thread = threading.Thread(target=run, name="webhook", daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        raise ConfigError(f"--webhook: it has not answered for {limit_s:g} s")
    if wrong:
        raise wrong[0]


def values_of(report: AnyReport) -> dict[str, str]:
    """What a template may name, summed over all targets; texts are such that they can stand between
    quotes in JSON."""
    reports = report.reports
    sides = [one.sides for one in reports if one.sides is not None]
    targets = [str(one.target) for one in sides if one.target is not None]
    sums = [one.to_dict()["sums"] for one in reports]
    counts = [one.counts_to_dict()["snapshots"] for one in reports]
    errors = [str(one.error) for one in reports if one.error is not None]
    values: dict[str, Any] = {
        "result": "ok" if report.exit_status == 0 else "failed",
        "exit_status": report.exit_status,
        "source": sides[0].source if sides else "",
        "target": ", ".join(targets),
        "pushed": sum(count["pushed"] for count in counts),
        "failed": sum(one.failed for one in reports),
        "skipped": sum(count["skipped"] for count in counts),
        "remains": sum(one.remains for one in reports),
        "removed": sum(one.removed.snapshots for one in reports),
        "sent_bytes": sum(one["sent-bytes"] for one in sums),
        "reused_bytes": sum(one["reused-bytes"] for one in sums),
        "seconds": round(report.seconds, 3),
        "error": "; ".join(errors),
    }
    return {name: json.dumps(str(value))[1:-1] for name, value in values.items()}


def finish_options(command: F) -> F:
    """The options; ``make_finishing`` takes them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given_for_an_end() -> str | None:
    """An option of these that stands on the command line itself, None if there is none."""
    context = click.get_current_context()
    for flag in _FLAGS:
        source = context.get_parameter_source(flag.removeprefix("--").replace("-", "_"))
        if source is click.core.ParameterSource.COMMANDLINE:
            return flag
    return None


def make_finishing(values: dict[str, Any]) -> Finishing:
    """Take what belongs to ``finish_options`` out of a command's ``values``. Raises UsageError."""
    made = Finishing(
        values.pop("metrics_file"),
        values.pop("on_finish"),
        values.pop("webhook"),
        values.pop("webhook_template"),
        values.pop("notify") == "failure",
        values.pop("html"),
    )
    if made.template is not None and made.webhook is None:
        raise click.UsageError("--webhook-template has no effect without --webhook")
    try:
        made.check()
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    return made


_FLAGS: Final = (
    "--metrics-file",
    "--html",
    "--on-finish",
    "--webhook",
    "--webhook-template",
    "--notify",
)
_PATH: Final = click.Path(path_type=Path, dir_okay=False)
_OPTIONS: Final = (
    click.option(
        "--metrics-file",
        metavar="FILE",
        type=_PATH,
        help="Write what became of it for Prometheus (node_exporter's textfile collector).",
    ),
    click.option(
        "--html",
        metavar="FILE",
        type=_PATH,
        help="Write what became of it as one page: rate, groups, what was left out, problems.",
    ),
    click.option(
        "--on-finish",
        metavar="COMMAND",
        help="Run this when it has ended, with the report as JSON on its stdin.",
    ),
    click.option(
        "--webhook",
        metavar="URL",
        envvar=WEBHOOK_VARIABLE,
        help=f"Post the report there, as JSON.  [env: {WEBHOOK_VARIABLE}]",
    ),
    click.option(
        "--webhook-template", metavar="FILE", type=_PATH, help="With --webhook: what is posted."
    ),
    click.option(
        "--notify",
        type=click.Choice(("always", "failure")),
        default="always",
        help="When --on-finish and --webhook are for.  [default: always]",
    ),
)


def _write_page(path: Path, report: AnyReport, samplings: Sequence[Sampling]) -> None:
    from pbs_push.cli.private_file import write_private  # noqa: PLC0415  (for who asks for it)
    from pbs_push.cli.push_page import push_page, push_pages  # noqa: PLC0415

    for sampling in samplings:
        sampling.end()
    reports = report.reports
    if len(reports) == 1:
        text = push_page(reports[0], samplings[0])
    else:
        text = push_pages(list(zip(reports, samplings, strict=True)))
    write_private(path, text, "--html")


def _or_warn(work: Callable[[], None]) -> None:
    try:
        work()
    except PbsPushError as error:
        say(warning_line(str(error)))


def _is_secret(name: str) -> bool:
    return name.startswith(("PBS_PASSWORD", "PBS_ENCRYPTION_PASSWORD", WEBHOOK_VARIABLE))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
