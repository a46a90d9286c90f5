"""The command line of ``pbs-push push``: checked, and carried out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import click

from pbs_push.access.host import HostConfig
from pbs_push.access.rights import Access
from pbs_push.cli import environment
from pbs_push.cli.also import AlsoTarget
from pbs_push.cli.credentials import find_key_password, find_secret
from pbs_push.cli.keys import configured_key, key_of_file
from pbs_push.cli.options import GivenProxy, Output, is_given, require_needed
from pbs_push.cli.pushing import carry_out
from pbs_push.cli.sources import find_source
from pbs_push.cli.targets import Reach, TargetPlace, remote_target, repository_target
from pbs_push.cli.work import Work
from pbs_push.cli.worker_options import THREADS, AskedWorkers
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.names import AuthId, Repository
from pbs_push.push.document import Sides
from pbs_push.push.options import PushOptions
from pbs_push.remote.auth import Secret
from pbs_push.remote.target import Target

_NO_TARGET: Final = "no target: give REPOSITORY, or set PBS_REPOSITORY, or use --remote"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line of a push, as click has read it."""

    source: str
    repository: Repository | None
    fingerprint: bytes | None
    remote: str | None
    remote_store: str | None
    config_dir: Path | None
    local_user: AuthId
    options: Mapping[str, Any]
    """Those of the table, by the names of PushOptions."""
    encryption_key: str | None = None
    keyfile: Path | None = None
    timeout_s: float | None = None
    proxy: GivenProxy | None = None
    workers: AskedWorkers = THREADS
    also: tuple[AlsoTarget, ...] = ()
    """Further targets."""
    secret: Callable[[AuthId], Secret] = find_secret
    """Where the target's secret comes from, if it is given by itself."""
    key_password: Callable[[Path], Secret] = find_key_password

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Arguments:
        """Of what click has read of ``side_options.sides`` and of the table's options.

        What the environment says of the target counts where the command line says nothing.
        Raises UsageError for variables that cannot be understood.
        """
        mine, options = cls._sorted(values)
        if mine["remote"] is None:
            try:
                mine["repository"] = mine["repository"] or environment.repository()
                mine["fingerprint"] = mine["fingerprint"] or environment.fingerprint()
                there = None if is_given("target_namespace") else environment.namespace()
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
            if there is not None:
                options["target_namespace"] = there
        return cls(**mine, options=options)

    @classmethod
    def said(cls, values: Mapping[str, Any]) -> Arguments:
        """The same, whatever the environment says."""
        mine, options = cls._sorted(values)
        return cls(**mine, options=options)

    @classmethod
    def _sorted(cls, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What are fields of this class, and what are options of the table."""
        own = ({one.name for one in fields(cls)} - {"options"}) & set(values)
        options = {name: value for name, value in values.items() if name not in own}
        return {name: values[name] for name in own}, options

    def carry_out(self, output: Output) -> int:
        """Push; the exit status is returned. Raises UsageError, PbsPushError."""
        self._check()
        for one in self.also:
            os.environ.pop(one.variable or "", None)  # no program that is run is to have it
        return carry_out(self.sides, self._prepare, output, several=bool(self.also))

    @property
    def prepared(self) -> Callable[[], Work]:
        """What opens both sides, as soon as it is called. Raises UsageError."""
        self._check()
        return self._prepare

    def _check(self) -> None:
        """Raise UsageError for options that contradict each other or would have no effect."""
        if self.remote is not None:
            if self.remote_store is None:
                raise click.UsageError("--remote needs --remote-store, the datastore there")
            if is_given("repository"):
                raise click.UsageError("give either REPOSITORY or --remote, not both")
            if is_given("fingerprint"):
                raise click.UsageError("--fingerprint has no effect with --remote")
        elif self.remote_store is not None:
            raise click.UsageError("--remote-store has no effect without --remote")
        elif self.repository is None:
            raise click.UsageError(_NO_TARGET)
        if self.encryption_key is not None and self.keyfile is not None:
            raise click.UsageError("give either --encryption-key or --keyfile, not both")
        require_needed(self.options)
        if self.also:
            if self.workers != THREADS:
                raise click.UsageError(
                    "--also has no effect with --processes or --dask: what is read once is shared "
                    "by threads of one process"
                )
            self._check_different()

    def _check_different(self) -> None:
        from pbs_push.push.fan_out import check_different  # noqa: PLC0415  (for who has several)

        first = None if self.remote is not None else self.repository
        given = (first, *(one.repository for one in self.also))
        try:
            check_different([one for one in given if one is not None])
        except ConfigError as error:
            raise click.UsageError(f"--also: {error}") from None

    @property
    def sides(self) -> Sides:
        """What is pushed where, as far as the command line tells."""
        repository = self.repository if self.remote is None else None
        here, there = self.options["source_namespace"], self.options["target_namespace"]
        return Sides(self.source, here, repository, there)

    def _prepare(self) -> Work:
        """Open both sides. Raises PbsPushError."""
        host = HostConfig.load(self.config_dir)
        access = host.access(self.local_user)
        source = find_source(self.source, host)
        place = self._target(host)
        options = PushOptions(
            **self.options,
            encryption_key=self._key(host, access),
            access=access,
            source_name=source.name,
            remote_name=place.remote_name,
        )
        others = tuple(self._others(host, options))
        return Work(source.datastore, place.target, options, self.workers, others=others)

    def _others(
        self, host: HostConfig, options: PushOptions
    ) -> Iterator[tuple[Target, PushOptions]]:
        for one in self.also:
            place = one.open(host, self._reach)
            namespace = options.target_namespace if one.namespace is None else one.namespace
            yield (
                place.target,
                replace(options, target_namespace=namespace, remote_name=place.remote_name),
            )

    def _key(self, host: HostConfig, access: Access) -> CryptKey | None:
        if self.encryption_key is not None:
            return configured_key(self.encryption_key, host, access)
        return None if self.keyfile is None else key_of_file(self.keyfile, self.key_password)

    @property
    def _reach(self) -> Reach:
        return Reach(self.timeout_s, self.proxy)

    def _target(self, host: HostConfig) -> TargetPlace:
        reach = self._reach
        if self.remote is not None and self.remote_store is not None:
            return remote_target(host, self.remote, self.remote_store, reach)
        if self.repository is None:
            raise click.UsageError(_NO_TARGET)
        return repository_target(self.repository, self.fingerprint, reach, self.secret)
