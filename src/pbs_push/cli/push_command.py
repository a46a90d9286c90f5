"""``pbs-push push``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.host import HostConfig
from pbs_push.access.rights import Access
from pbs_push.cli.documents import Sides
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.keys import configured_key, key_of_file
from pbs_push.cli.options import (
    Safety,
    config_dir,
    make_output,
    output_options,
    safety_options,
)
from pbs_push.cli.places import TargetPlace, find_source, remote_target, repository_target
from pbs_push.cli.pushing import Work, carry_out
from pbs_push.cli.values import (
    AUTH_ID,
    FINGERPRINT,
    GROUP_FILTER,
    NAMESPACE,
    PARALLEL,
    REPOSITORY,
    SIZE,
    MaxRemovals,
)
from pbs_push.formats.keys import CryptKey
from pbs_push.names import MAX_NAMESPACE_DEPTH, ROOT, AuthId, Namespace, Repository
from pbs_push.push.options import DEFAULT_READ_AHEAD, ChunkOrder, PushOptions

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
    ns: Namespace
    remote_ns: Namespace
    max_depth: int | None
    group_filter: tuple[GroupFilter, ...]
    transfer_last: int | None
    encrypted_only: bool
    verified_only: bool
    remove_vanished: bool
    safety: Safety
    rate_out: int | None
    burst_out: int | None
    parallel: int | None
    read_ahead: int
    chunk_order: ChunkOrder
    encryption_key: str | None
    keyfile: Path | None

    def check(self) -> None:
        """Raise UsageError for options that contradict each other or would have no effect."""
        if self.remote is not None:
            if self.remote_store is None:
                raise click.UsageError("--remote needs --remote-store, the datastore there")
            if _is_given("repository"):
                raise click.UsageError("give either REPOSITORY or --remote, not both")
            if _is_given("fingerprint"):
                raise click.UsageError("--fingerprint has no effect with --remote")
        elif self.remote_store is not None:
            raise click.UsageError("--remote-store has no effect without --remote")
        elif self.repository is None:
            raise click.UsageError(_NO_TARGET)
        if self.encryption_key is not None and self.keyfile is not None:
            raise click.UsageError("give either --encryption-key or --keyfile, not both")
        self.safety.check(removing=self.remove_vanished, needed="--remove-vanished")

    @property
    def sides(self) -> Sides:
        """What is pushed where, as far as the command line tells."""
        repository = self.repository if self.remote is None else None
        return Sides(self.source, self.ns, repository, self.remote_ns)

    def prepare(self) -> Work:
        """Open both sides. Raises PbsPushError."""
        host = HostConfig.load(self.config_dir)
        access = host.access(self.local_user)
        source = find_source(self.source, host)
        place = self._target(host)
        options = PushOptions(
            source_namespace=self.ns,
            target_namespace=self.remote_ns,
            max_depth=self.max_depth,
            group_filters=GroupFilters(self.group_filter),
            transfer_last=self.transfer_last,
            encrypted_only=self.encrypted_only,
            verified_only=self.verified_only,
            parallel=self.parallel,
            remove_vanished=self.remove_vanished,
            rate_out=self.rate_out,
            burst_out=self.burst_out,
            read_ahead=self.read_ahead,
            chunk_order=self.chunk_order,
            encryption_key=self._key(host, access),
            access=access,
            source_name=source.name,
            remote_name=place.remote_name,
            **self.safety.push_options,
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


def _is_given(parameter: str) -> bool:
    """Whether a parameter stands on the command line itself, and not in the environment."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


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
    "--ns", type=NAMESPACE, default=Namespace(), help="Namespace to push.  [default: root]"
)
@click.option(
    "--remote-ns", type=NAMESPACE, default=Namespace(), help="Namespace there.  [default: root]"
)
@click.option(
    "--max-depth",
    type=click.IntRange(0, MAX_NAMESPACE_DEPTH),
    help="Levels of namespaces below.  [default: all]",
)
@click.option(
    "--group-filter",
    type=GROUP_FILTER,
    multiple=True,
    help="[include:|exclude:]type:T, group:TYPE/ID or regex:RE; may be repeated.",
)
@click.option("--transfer-last", type=click.IntRange(1), help="Only a group's newest N snapshots.")
@click.option("--encrypted-only", is_flag=True, help="Only snapshots that are all encrypted.")
@click.option("--verified-only", is_flag=True, help="Only snapshots whose verification was ok.")
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
@click.option("--remove-vanished", is_flag=True, help="Remove there what is no longer here.")
@safety_options
@click.option("--rate-out", type=SIZE, help="Limit of all connections, per second: 10MiB.")
@click.option("--burst-out", type=SIZE, help="With --rate-out: size of bursts.")
@click.option(
    "--parallel", type=PARALLEL, default="auto", show_default=True, help="Groups at once."
)
@click.option(
    "--read-ahead",
    type=click.IntRange(1, 256),
    default=DEFAULT_READ_AHEAD,
    show_default=True,
    help="Chunks read at once, for each group.",
)
@click.option(
    "--chunk-order",
    type=click.Choice(["index", "inode"]),
    default="index",
    show_default=True,
    help="Order of reading; inode suits spinning disks.",
)
@output_options
def command(
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    allow_empty_source: bool,
    max_removals: MaxRemovals | None,
    sync_metadata: bool,
    sync_protected: bool,
    skip_damaged: bool,
    lock_wait: float,
    **arguments: Any,
) -> int:
    """Push; the exit status is returned."""
    output = make_output(dry_run=dry_run, as_json=as_json, quiet=quiet, verbose=verbose)
    safety = Safety(
        allow_empty_source, max_removals, sync_metadata, sync_protected, skip_damaged, lock_wait
    )
    asked = _Arguments(safety=safety, **arguments)
    asked.check()
    return carry_out(asked.sides, asked.prepare, output)
