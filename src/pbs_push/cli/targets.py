"""Where a push writes: REPOSITORY, or a remote of this host, becomes an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbs_push.cli.credentials import find_secret
from pbs_push.errors import ConfigError
from pbs_push.remote.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.access.host import HostConfig
    from pbs_push.names import AuthId, Repository
    from pbs_push.remote.auth import Secret


@dataclass(frozen=True, slots=True)
class TargetPlace:
    """A target, to be closed; ``remote_name`` is None where it is not from ``remote.cfg``."""

    target: Target
    remote_name: str | None


def repository_target(
    repository: Repository,
    fingerprint: bytes | None,
    timeout_s: float | None,
    find: Callable[[AuthId], Secret] = find_secret,
) -> TargetPlace:
    """A target given by itself, its secret from where ``find`` has it: the environment. Raises
    ConfigError."""
    secret = find(repository.auth_id)
    return TargetPlace(Target(repository, secret, fingerprint, timeout_s=timeout_s), None)


def remote_target(
    host: HostConfig, remote_name: str, store: str, timeout_s: float | None
) -> TargetPlace:
    """A target of ``remote.cfg``, with the secret that stands there. Raises ConfigError."""
    remote = host.remote(remote_name)
    if remote.use_node_proxy:
        raise ConfigError(
            f"{remote.place('use-node-proxy')}remote '{remote_name}' is to be reached through the "
            "node's proxy, which a push of this version cannot do; where the direct way is open, "
            "remove 'use-node-proxy', or push to a REPOSITORY"
        )
    target = Target(
        remote.repository(store), remote.password, remote.fingerprint, timeout_s=timeout_s
    )
    return TargetPlace(target, remote_name)
