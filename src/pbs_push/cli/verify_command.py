"""``pbs-push verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from pbs_push.access.values import parse_duration
from pbs_push.cli.completion import DATASTORES, KEYS, REMOTES
from pbs_push.cli.exit_status import help_text
from pbs_push.cli.loading import loading, spare_threads
from pbs_push.cli.options import (
    SCOPE,
    config_dir,
    is_given,
    make_output,
    plan_output_options,
    proxy,
    scope_options,
    timeout,
)
from pbs_push.cli.values import FINGERPRINT, NAMESPACE, REPOSITORY, Value
from pbs_push.verify.target_options import DEFAULT_SERVER_WAIT_S, Sample

_OF_A_TARGET: Final = {
    "fingerprint": "--fingerprint",
    "remote_store": "--remote-store",
    "encryption_key": "--encryption-key",
    "target_namespace": "--remote-ns",
    "sample": "--sample",
    "seed": "--seed",
    "remote_verify": "--remote-verify",
    "server_wait_s": "--server-wait",
    "heal": "--heal",
    "timeout_s": "--timeout",
    "proxy": "--proxy",
}


@click.command(
    "verify",
    epilog=help_text(),
    help="""Verify that the datastore SOURCE, a directory or the name of a datastore of this host,
    holds what its snapshots say: each manifest, index and blob, and each chunk once.

    With --target: that the REPOSITORY, written [[AUTH-ID@]HOST[:PORT]:]DATASTORE, holds what SOURCE
    has. It is read back, and nothing that a push said is trusted. The password or token secret
    comes from the environment, as for a push.""",
)
@click.argument("source", shell_complete=DATASTORES)
@scope_options
@click.option(
    "--target",
    "repository",
    type=REPOSITORY,
    metavar="REPOSITORY",
    help="Compare this target with SOURCE.",
)
@click.option(
    "--fingerprint",
    type=FINGERPRINT,
    help="SHA-256 of the target's certificate: trust that one alone.  [env: PBS_FINGERPRINT]",
)
@click.option(
    "--remote",
    metavar="NAME",
    shell_complete=REMOTES,
    help="A remote of remote.cfg, instead of --target.",
)
@click.option("--remote-store", metavar="STORE", help="With --remote: the datastore there.")
@click.option(
    "--remote-ns",
    "target_namespace",
    type=NAMESPACE,
    help="Namespace there.  [env: PBS_NAMESPACE; default: root]",
)
@click.option(
    "--sample",
    type=Value("sample", Sample.parse),
    metavar="P%|all",
    help="Download and decode so many of the chunks, each once.  [default: none]",
)
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", help="Choose the same sample as with this seed."
)
@click.option(
    "--remote-verify", is_flag=True, help="Have the target's server verify, and wait for that."
)
@click.option(
    "--server-wait",
    "server_wait_s",
    type=Value("time", parse_duration),
    metavar="TIME",
    default=DEFAULT_SERVER_WAIT_S,
    help="How long to wait for that: 90, 5m, 2h.  [default: 1d]",
)
@click.option("--heal", is_flag=True, help="Send again chunks that are missing or bad there.")
@click.option(
    "--encryption-key",
    metavar="NAME",
    shell_complete=KEYS,
    help="With --target: decrypt with this key of encryption-keys.cfg.",
)
@click.option(
    "--keyfile",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Check what is encrypted with the key in this file, too.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Chunks checked at once; with --target groups.  [default: one for each core; 8]",
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep here what was checked, and go on with it after an end before the time.",
)
@timeout
@proxy
@config_dir
@plan_output_options
def command(
    *,
    source: str,
    keyfile: Path | None,
    parallel: int | None,
    state: Path | None,
    config_dir: Path | None,
    **others: Any,
) -> int:
    """Verify; the exit status is returned."""
    others["dry_run"] = False
    output = make_output(others)
    scope = {name: others.pop(name) for name in SCOPE}
    of_target = others["repository"] is not None or others["remote"] is not None
    _check_given(of_target=of_target)
    spare_threads()
    if not of_target:
        with loading():
            from pbs_push.cli.verifying import SourceArguments  # noqa: PLC0415

        asked = SourceArguments(source, config_dir, keyfile, parallel, state, scope)
        return asked.carry_out(output)
    with loading(rest=True):
        from pbs_push.cli.verifying_target import TargetArguments  # noqa: PLC0415

    compared = TargetArguments.of(source, config_dir, keyfile, parallel, scope, others)
    return compared.carry_out(output)


def _check_given(*, of_target: bool) -> None:
    """Raise UsageError for options that would have no effect, or contradict each other."""
    if not of_target:
        for name, flag in _OF_A_TARGET.items():
            if is_given(name):
                raise click.UsageError(f"{flag} has no effect without --target")
        return
    if is_given("state"):
        raise click.UsageError("--state has no effect with --target")
    if is_given("seed") and not is_given("sample"):
        raise click.UsageError("--seed has no effect without --sample")
    if is_given("server_wait_s") and not (is_given("remote_verify") or is_given("heal")):
        raise click.UsageError("--server-wait has no effect without --remote-verify or --heal")
    if is_given("repository") and is_given("remote"):
        raise click.UsageError("give either --target or --remote, not both")
    if is_given("remote") != is_given("remote_store"):
        raise click.UsageError("--remote and --remote-store need each other")
    if is_given("remote") and is_given("fingerprint"):
        raise click.UsageError("--fingerprint has no effect with --remote")
    if is_given("encryption_key") and is_given("keyfile"):
        raise click.UsageError("give either --encryption-key or --keyfile, not both")
