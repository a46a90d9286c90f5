"""``pbs-push push``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pbs_push.access.host import HostConfig
from pbs_push.access.rights import Access
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.keys import configured_key, key_of_file
from pbs_push.cli.options import (
    config_dir,
    is_given,
    make_output,
    output_options,
    push_options,
    require_needed,
)
from pbs_push.cli.places import TargetPlace, find_source, remote_target, repository_target
from pbs_push.cli.pushing import Work, carry_out
from pbs_push.cli.values import AUTH_ID, FINGERPRINT, REPOSITORY
from pbs_push.formats.keys import CryptKey
from pbs_push.names import ROOT, AuthId, Repository
from pbs_push.push.document import Sides
from pbs_push.push.options import PushOptions

_NO_TARGET: Final = "no target: give REPOSITORY, or set PBS_REPOSITORY, or use --remote"


@dataclass(frozen=True, slots=True)
class _Arguments:
    """The command line of a push, as click has read it."""

    source: str
    repository: Repository | None
    fingerprint: bytes | None
    remote: str | None
    remote_store: str | None
    config_dir: Path | None
    local_user: AuthId
    encryption_key: str | None
    keyfile: Path | None
    options: Mapping[str, Any]
    """Those of the table, by the names of PushOptions."""

    def check(self) -> None:
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

    @property
    def sides(self) -> Sides:
        """What is pushed where, as far as the command line tells."""
        repository = self.repository if self.remote is None else None
        here, there = self.options["source_namespace"], self.options["target_namespace"]
        return Sides(self.source, here, repository, there)

    def prepare(self) -> Work:
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
        return Work(source.datastore, place.target, options)

    def _key(self, host: HostConfig, access: Access) -> CryptKey | None:
        if self.encryption_key is not None:
            return configured_key(self.encryption_key, host, access)
        return None if self.keyfile is None else key_of_file(self.keyfile)

    def _target(self, host: HostConfig) -> TargetPlace:
        if self.remote is not None and self.remote_store is not None:
            return remote_target(host, self.remote, self.remote_store)
        if self.repository is None:
            raise click.UsageError(_NO_TARGET)
        return repository_target(self.repository, self.fingerprint)


@click.command(
    "push",
    epilog=help_text(),
    help="""Push the datastore SOURCE, a directory or the name of a datastore of this host, to
    REPOSITORY, written [[AUTH-ID@]HOST[:PORT]:]DATASTORE (default: PBS_REPOSITORY).

    The password or token secret comes from PBS_PASSWORD, PBS_PASSWORD_FD, PBS_PASSWORD_FILE or
    PBS_PASSWORD_CMD; a terminal is asked if none is set.""",
)
@click.argument("source")
@click.argument("repository", required=False, type=REPOSITORY, envvar="PBS_REPOSITORY")
@click.option(
    "--fingerprint",
    type=FINGERPRINT,
    envvar="PBS_FINGERPRINT",
    help="SHA-256 of the target's certificate: trust that one alone.  [env: PBS_FINGERPRINT]",
)
@click.option("--remote", metavar="NAME", help="A remote of remote.cfg, instead of REPOSITORY.")
@click.option("--remote-store", metavar="STORE", help="With --remote: the datastore there.")
@config_dir
@click.option(
    "--local-user",
    type=AUTH_ID,
    default=ROOT,
    help="Whose rights on this host count.  [default: root@pam]",
)
@click.option(
    "--encryption-key",
    metavar="NAME",
    help="Encrypt what is not, with this key of encryption-keys.cfg.",
)
@click.option(
    "--keyfile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Encrypt what is not, with the key in this file.",
)
@push_options
@output_options
def command(
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    source: str,
    repository: Repository | None,
    fingerprint: bytes | None,
    remote: str | None,
    remote_store: str | None,
    config_dir: Path | None,
    local_user: AuthId,
    encryption_key: str | None,
    keyfile: Path | None,
    **options: Any,
) -> int:
    """Push; the exit status is returned."""
    output = make_output(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    asked = _Arguments(
        source,
        repository,
        fingerprint,
        remote,
        remote_store,
        config_dir,
        local_user,
        encryption_key,
        keyfile,
        options,
    )
    asked.check()
    return carry_out(asked.sides, asked.prepare, output)
