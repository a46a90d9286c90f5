"""What a server of some version does otherwise than others (protocol/rest.md, "Versions")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

_KIB: Final = 1 << 10

Version = tuple[int, int, int]
_STATISTICS: Final[Version] = (3, 2, 11)
_LARGE_BODIES: Final[Version] = (4, 0, 0)
_GROWING_INDEXES: Final[Version] = (4, 1, 0)


@dataclass(frozen=True, slots=True)
class Habits:
    """The habits of one version.

    ``body_limit``: a parameter body has to be shorter, in bytes. ``delete_statistics``: deletes
    tell what they removed, and know ``error-on-protected``. ``growing_indexes``: the size of a
    fixed index may be left out. ``no_cache``: the upgrade knows the parameter of that name.
    """

    body_limit: int
    delete_statistics: bool
    growing_indexes: bool
    no_cache: bool

    @classmethod
    def of(cls, version: str, release: str) -> Self:
        """Those of a server that tells this ``version`` ("4.2") and ``release`` ("3")."""
        major, minor = (int(part) for part in version.split("."))
        known = (major, minor, int(release))
        return cls(
            body_limit=(512 if known >= _LARGE_BODIES else 64) * _KIB,
            delete_statistics=known >= _STATISTICS,
            growing_indexes=known >= _GROWING_INDEXES,
            no_cache=known >= _GROWING_INDEXES,
        )
