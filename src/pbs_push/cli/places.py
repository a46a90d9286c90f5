"""Where a push reads and where it writes: SOURCE, REPOSITORY and remotes become objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pbs_push.access.datastores import MOUNT_ROOT, DatastoreConfig
from pbs_push.access.sections import SectionConfig
from pbs_push.cli.credentials import find_secret
from pbs_push.errors import ConfigError, SourceError
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore

if TYPE_CHECKING:
    from pbs_push.access.host import HostConfig
    from pbs_push.names import Repository


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A source; ``name`` is its name on this host, None for a directory that PBS does not know."""

    datastore: Datastore
    name: str | None


@dataclass(frozen=True, slots=True)
class TargetPlace:
    """A target, to be closed; ``remote_name`` is None where it is not from ``remote.cfg``."""

    target: Target
    remote_name: str | None


def find_source(text: str, host: HostConfig) -> SourcePlace:
    """The datastore that ``text`` means: a directory, or the name of a datastore of this host.

    A directory that datastore.cfg knows is that datastore: PBS's locks and access control go by its
    name, and its maintenance mode counts. Raises SourceError, ConfigError.
    """
    if "/" not in text:
        known = SectionConfig.load(host.directory / "datastore.cfg").find("datastore", text)
        if known is not None and Path(text).is_dir():
            raise ConfigError(
                f"source '{text}' is a directory here and a datastore of this host: write "
                f"'./{text}' for the one, or go elsewhere for the other"
            )
        if known is not None:
            return configured_source(text, host)
        if not Path(text).is_dir():
            raise SourceError(
                f"source '{text}': there is no such directory, and no datastore of this name in "
                f"{host.directory / 'datastore.cfg'}"
            )
    at_place = _datastores_at(Path(text).resolve(), host)
    if len(at_place) > 1:
        names = " and ".join(f"'{config.name}'" for config in at_place)
        raise ConfigError(
            f"source '{text}' is ambiguous: datastores {names} of this host lie there; give the "
            "name of one, or correct datastore.cfg"
        )
    return _configured(at_place[0]) if at_place else SourcePlace(Datastore(text), None)


def _datastores_at(directory: Path, host: HostConfig) -> list[DatastoreConfig]:
    """The datastores of this host that lie in a directory.

    Raises ConfigError for one of these whose section is broken; others do not matter here.
    """
    found = []
    for section in SectionConfig.load(host.directory / "datastore.cfg").of_type("datastore"):
        try:
            config = DatastoreConfig.from_section(section)
        except ConfigError:
            if any(Path(path).resolve() == directory for path in section.values("path")):
                raise
            continue
        if _base_directory(config) == directory:
            found.append(config)
    return found


def configured_source(name: str, host: HostConfig) -> SourcePlace:
    """A datastore of this host by its name, and nothing else. Raises ConfigError, SourceError."""
    return _configured(host.datastore(name))


def _configured(config: DatastoreConfig) -> SourcePlace:
    return SourcePlace(Datastore(config.require_readable(), name=config.name), config.name)


def _base_directory(config: DatastoreConfig) -> Path:
    """Where a datastore lies, mounted or not."""
    if config.backing_device is None:
        return Path(config.path).resolve()
    return (MOUNT_ROOT / config.name / config.path.lstrip("/")).resolve()


def repository_target(repository: Repository, fingerprint: bytes | None) -> TargetPlace:
    """A target given on the command line, its secret from the environment. Raises ConfigError."""
    return TargetPlace(Target(repository, find_secret(repository.auth_id), fingerprint), None)


def remote_target(host: HostConfig, remote_name: str, store: str) -> TargetPlace:
    """A target of ``remote.cfg``, with the secret that stands there. Raises ConfigError."""
    remote = host.remote(remote_name)
    if remote.use_node_proxy:
        raise ConfigError(
            f"{remote.place('use-node-proxy')}remote '{remote_name}' is to be reached through the "
            "node's proxy, which a push of this version cannot do; where the direct way is open, "
            "remove 'use-node-proxy', or push to a REPOSITORY"
        )
    target = Target(remote.repository(store), remote.password, remote.fingerprint)
    return TargetPlace(target, remote_name)
