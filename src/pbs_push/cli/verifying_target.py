"""``pbs-push verify SOURCE --target``: carried out, with progress, results and a status."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pbs_push.access.filters import GroupFilters
from pbs_push.access.host import HostConfig
from pbs_push.cli import environment
from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import error_line, safe_json, say
from pbs_push.cli.options import GivenProxy, Output
from pbs_push.cli.sources import find_source
from pbs_push.cli.targets import Reach, remote_target, repository_target
from pbs_push.cli.terminal import terminal, told_beside
from pbs_push.cli.verify_target_lines import (
    TargetVerifyLines,
    TargetVerifyShown,
    closing_line,
    summary_lines,
)
from pbs_push.errors import ConfigError, PbsPushError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import ROOT, Namespace, Repository
from pbs_push.push.document import Sides, Span
from pbs_push.remote.target import Target
from pbs_push.verify.target import TargetVerification
from pbs_push.verify.target_options import DEFAULT_PARALLEL, TargetVerifyOptions
from pbs_push.verify.target_report import TargetReport


@dataclass(frozen=True, slots=True)
class TargetArguments:
    """The command line of a target's verification, as click has read it."""

    source: str
    config_dir: Path | None
    keyfile: Path | None
    parallel: int | None
    scope: Mapping[str, Any]
    """``source_namespace``, ``max_depth``, ``group_filters``, as PushOptions has them."""
    repository: Repository | None
    fingerprint: bytes | None
    remote: str | None
    remote_store: str | None
    encryption_key: str | None
    timeout_s: float | None
    proxy: GivenProxy | None
    options: Mapping[str, Any]
    """All others, by the names of TargetVerifyOptions."""

    @classmethod
    def of(
        cls,
        source: str,
        config_dir: Path | None,
        keyfile: Path | None,
        parallel: int | None,
        scope: Mapping[str, Any],
        others: dict[str, Any],
    ) -> TargetArguments:
        """``others`` are of the target. What the environment says of it counts where they do not.

        Raises UsageError for variables that cannot be understood.
        """
        own = (
            *("repository", "fingerprint", "remote", "remote_store", "encryption_key"),
            *("timeout_s", "proxy"),
        )
        mine = {name: others.pop(name) for name in own}
        try:
            if mine["remote"] is None:
                mine["fingerprint"] = mine["fingerprint"] or environment.fingerprint()
                if others["target_namespace"] is None:
                    others["target_namespace"] = environment.namespace()
        except ConfigError as error:
            raise click.UsageError(str(error)) from None
        others["target_namespace"] = others["target_namespace"] or Namespace()
        return cls(source, config_dir, keyfile, parallel, scope, **mine, options=others)

    def carry_out(self, output: Output) -> int:
        """Verify, and show what was found; the exit status is returned.

        Raises PbsPushError for what ends all of it, after the JSON document.
        """
        report, failure, began = TargetReport(self._sides), None, time.time()
        try:
            host = HostConfig.load(self.config_dir)
            source = find_source(self.source, host).datastore
            options = self._options(host)
            with (
                self._target(host) as target,
                _shown(output) as shown,
            ):
                verification = TargetVerification(source, target, options, shown)
                report = verification.report
                run_interruptibly(verification.run, verification.cancel)
        except PbsPushError as error:
            report.error = failure = error
        report.span = report.span or Span(began, time.time())  # it never began
        if output.json:
            print(safe_json(report.to_dict(), indent=2 if output.pretty else None))
        elif not output.quiet and (failure is None or report.counts):
            print("\n".join(summary_lines(report)))
        if failure is not None:
            raise failure
        if report.differs:
            say(error_line(closing_line(report)))
        return report.exit_status

    @property
    def _sides(self) -> Sides:
        here, there = self.scope["source_namespace"], self.options["target_namespace"]
        return Sides(self.source, here, self.repository, there)  # a remote is known once opened

    def _target(self, host: HostConfig) -> Target:
        reach = Reach(self.timeout_s, self.proxy)
        if self.remote is not None and self.remote_store is not None:
            return remote_target(host, self.remote, self.remote_store, reach).target
        if self.repository is None:
            raise click.UsageError("give --target, or --remote")
        return repository_target(self.repository, self.fingerprint, reach).target

    def _key(self, host: HostConfig) -> CryptKey | None:
        if self.keyfile is None and self.encryption_key is None:
            return None
        from pbs_push.cli.keys import configured_key, key_of_file  # noqa: PLC0415  (with a key)

        if self.encryption_key is not None:
            return configured_key(self.encryption_key, host, host.access(ROOT))
        return None if self.keyfile is None else key_of_file(self.keyfile)

    def _options(self, host: HostConfig) -> TargetVerifyOptions:
        return TargetVerifyOptions(
            source_namespace=self.scope["source_namespace"],
            max_depth=self.scope["max_depth"],
            group_filters=GroupFilters(tuple(self.scope["group_filters"])),
            key=self._key(host),
            parallel=self.parallel or DEFAULT_PARALLEL,
            **self.options,
        )


def _shown(output: Output) -> TargetVerifyShown:
    """A display on a terminal, else lines; both on stderr."""
    console = terminal(output)
    importance = told_beside(output, console)
    if console is None:
        return TargetVerifyLines(importance)
    from pbs_push.cli.verify_target_display import (  # noqa: PLC0415  (only terminals need rich)
        TargetVerifyDisplay,
    )

    return TargetVerifyDisplay(console, importance)
