"""Where a push reads: SOURCE, or the datastore of a job, becomes an object."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pbs_push.access.sections import SectionConfig
from pbs_push.errors import ConfigError, SourceError
from pbs_push.source.datastore import Datastore

if TYPE_CHECKING:
    from pbs_push.access.datastores import DatastoreConfig
    from pbs_push.access.host import HostConfig


@dataclass(frozen=True, slots=True)
class SourcePlace:
    """A source; ``name`` is its name on this host, None for a directory that PBS does not know."""

    datastore: Datastore
    name: str | None


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
    found: list[DatastoreConfig] = []
    sections = SectionConfig.load(host.directory / "datastore.cfg").of_type("datastore")
    if not sections:
        return found
    from pbs_push.access.datastores import DatastoreConfig  # noqa: PLC0415  (see access/host.py)

    for section in sections:
        try:
            config = DatastoreConfig.from_section(section)
        except ConfigError:
            if any(Path(path).resolve() == directory for path in section.values("path")):
                raise
            continue
        if config.base_directory == directory:
            found.append(config)
    return found


def configured_source(name: str, host: HostConfig) -> SourcePlace:
    """A datastore of this host by its name, and nothing else. Raises ConfigError, SourceError."""
    return _configured(host.datastore(name))


def _configured(config: DatastoreConfig) -> SourcePlace:
    return SourcePlace(Datastore(config.require_readable(), name=config.name), config.name)
