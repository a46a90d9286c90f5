"""Where a push writes: REPOSITORY, or a remote of this host, becomes an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbs_push.cli.credentials import find_secret
from pbs_push.cli.proxies import proxy_of_environment, proxy_of_remote
from pbs_push.remote.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.access.host import HostConfig
    from pbs_push.cli.options import GivenProxy
    from pbs_push.names import AuthId, Repository
    from pbs_push.remote.auth import Secret
    from pbs_push.remote.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Reach:
    """How the target is reached, as the command line has it: ``--timeout`` and ``--proxy``."""

    timeout_s: float | None = None
    proxy: GivenProxy | None = None

    def way(self, repository: Repository, of_remote: Proxy | None = None) -> Proxy | None:
        """The proxy to go through: the one given, that of the remote, the environment's; or none.

        Raises ConfigError.
        """
        if self.proxy is not None:
            return self.proxy.proxy
        return of_remote or proxy_of_environment(repository.host, repository.port)


@dataclass(frozen=True, slots=True)
class TargetPlace:
    """A target, to be closed; ``remote_name`` is None where it is not from ``remote.cfg``."""

    target: Target
    remote_name: str | None


def repository_target(
    repository: Repository,
    fingerprint: bytes | None,
    reach: Reach,
    find: Callable[[AuthId], Secret] = find_secret,
) -> TargetPlace:
    """A target given by itself, its secret from where ``find`` has it: the environment. Raises
    ConfigError."""
    way = reach.way(repository)
    secret = find(repository.auth_id)
    target = Target(repository, secret, fingerprint, timeout_s=reach.timeout_s, proxy=way)
    return TargetPlace(target, None)


def remote_target(host: HostConfig, remote_name: str, store: str, reach: Reach) -> TargetPlace:
    """A target of ``remote.cfg``, with the secret that stands there. Raises ConfigError."""
    remote = host.remote(remote_name)
    repository = remote.repository(store)
    of_remote = proxy_of_remote(remote, host) if reach.proxy is None else None
    way = reach.way(repository, of_remote)
    target = Target(
        repository, remote.password, remote.fingerprint, timeout_s=reach.timeout_s, proxy=way
    )
    return TargetPlace(target, remote_name)
