"""Indexes under a key: from plain digests to keyed ones.

Apart from push/encryption.py, since numpy is for who has chunks to send.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pbs_push.formats.index import parse_index
from pbs_push.formats.index_writer import dynamic_index_bytes, fixed_index_bytes
from pbs_push.push.archives import IndexArchive
from pbs_push.push.encryption import encrypted_info

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Digests = NDArray[np.uint8]


def encrypt_index(archive: IndexArchive, digests: Digests) -> IndexArchive:
    """An index with the keyed digests of its chunks, ``digests`` (n, 32); it lies in memory."""
    old = archive.index
    if archive.kind == "fixed":
        content = fixed_index_bytes(digests, old.size)
    else:
        content = dynamic_index_bytes(old.end_offsets, digests)
    index = parse_index(content, f"{archive.info.filename}, encrypted")
    info = encrypted_info(archive.info, size=index.size, csum=index.header_csum)
    return IndexArchive(info, index)


@dataclass(frozen=True, slots=True)
class DigestMap:
    """From plain digests to the keyed digests of the same chunks.

    ``plain`` is sorted; both are (n, 32), uint8.
    """

    plain: Digests
    keyed: Digests

    @classmethod
    def of(cls, pairs: Iterable[tuple[Digests, Digests]]) -> DigestMap:
        """From pairs of plain digests and keyed ones in the same order."""
        both = list(pairs)
        empty = np.empty((0, 32), dtype=np.uint8)
        plain = np.concatenate([empty, *(pair[0] for pair in both)])
        keyed = np.concatenate([empty, *(pair[1] for pair in both)])
        order = np.argsort(_sortable(plain), kind="stable")
        return cls(plain[order], keyed[order])

    def look_up(self, rows: Digests) -> tuple[Digests, NDArray[np.bool_]]:
        """For each row its keyed digest, and whether there is one (else the digest is zeros)."""
        keyed = np.zeros((len(rows), 32), dtype=np.uint8)
        if not len(self.plain):
            return keyed, np.zeros(len(rows), dtype=np.bool_)
        found_at = np.searchsorted(_sortable(self.plain), _sortable(rows))
        found_at = np.minimum(found_at, len(self.plain) - 1)
        found = (self.plain[found_at] == rows).all(axis=1)
        keyed[found] = self.keyed[found_at[found]]
        return keyed, found


def _sortable(rows: Digests) -> NDArray[np.bytes_]:
    """Rows as values of 32 bytes, which numpy can compare."""
    return np.ascontiguousarray(rows).view("S32").reshape(-1)
