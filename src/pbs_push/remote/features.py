"""What a target can do, by its version: decided once (protocol/rest.md, "Versions")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from pbs_push.errors import ProtocolError, RemoteError


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """``version`` "4.2" and ``release`` "3" of a server."""

    major: int
    minor: int
    release: int = 0

    @classmethod
    def parse(cls, version: str, release: str = "0") -> Self:
        """Read the two texts of ``GET version``. Raises ProtocolError."""
        found = re.match(r"(\d{1,9})\.(\d{1,9})", version)
        if found is None:
            raise ProtocolError("the target's version cannot be understood")
        number = re.match(r"\d{1,9}", release)
        return cls(int(found[1]), int(found[2]), int(number[0]) if number else 0)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.release}"


NAMESPACES_SINCE = Version(2, 2, 0)
DELETE_STATISTICS_SINCE = Version(3, 2, 11)
LARGE_BODIES_SINCE = Version(4, 0, 0)

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Features:
    """The facts that follow from a version."""

    version: Version
    delete_statistics: bool
    """Deletes answer with statistics and take ``error-on-protected``."""
    body_limit: int
    """A request's body must be shorter than this many bytes."""

    @classmethod
    def of(cls, version: Version) -> Self:
        """Features of a server of this version. Raises RemoteError for one without namespaces."""
        if version < NAMESPACES_SINCE:
            raise RemoteError(
                f"the target runs Proxmox Backup Server {version}, which has no namespaces; "
                f"at least {NAMESPACES_SINCE} is needed"
            )
        return cls(
            version=version,
            delete_statistics=version >= DELETE_STATISTICS_SINCE,
            body_limit=(512 if version >= LARGE_BODIES_SINCE else 64) * _KIB,
        )
