"""The datastores of one target, and whether they may be used now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pbs_push.target.answers import bad_request
from pbs_push.target.options import Maintenance
from pbs_push.target.store import Store


class Stores:
    """Datastores by name. ``maintenance`` may be changed while the target runs."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._stores = {name: Store(name, Path(path)) for name, path in paths.items()}
        self.maintenance: dict[str, Maintenance] = {}

    def readable(self, name: str) -> Store:
        """The datastore, for reading. Raises Refusal if it is missing or offline."""
        return self._open(name, write=False)

    def writable(self, name: str) -> Store:
        """The datastore, for writing. Raises Refusal if it is missing or under maintenance."""
        return self._open(name, write=True)

    def _open(self, name: str, *, write: bool) -> Store:
        store = self._stores.get(name)
        if store is None:
            raise bad_request(f"no such datastore '{name}'")
        maintenance = self.maintenance.get(name)
        if maintenance is not None and (write or maintenance.mode == "offline"):
            raise bad_request(
                f"datastore '{name}' is unavailable: {maintenance.mode} maintenance mode: "
                f"{maintenance.message}"
            )
        return store
