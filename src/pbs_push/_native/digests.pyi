from typing import Self, TypeAlias, final

import numpy
from numpy.typing import NDArray
from typing_extensions import Buffer

_Rows: TypeAlias = NDArray[numpy.uint8] | memoryview
_Positions: TypeAlias = Buffer | NDArray[numpy.uint32]

@final
class DigestSet:
    """A set of 32-byte digests that keeps references to the rows given to it, not copies.

    ``rows`` is always a uint8 buffer of shape (n, 32), any row stride, such as ``Index.digests``.
    ``at``, if given, has the positions of those rows that are meant: any contiguous buffer of u32,
    best ascending, neither copied nor kept. What all methods return goes in its order.
    Batches that brought a new member are kept referenced as long as the set lives; their bytes must
    not change. 8 bytes for each 3/4 digest: 10.2 MiB for a million, up to 1.5 times that where
    ``expected`` (digests to make room for at once) was too low. The hash is keyed by random bytes,
    so that crafted digests cannot slow it down. Pages of mapped index files that a call is done
    with are given back to the kernel.

    Any thread may call any method; calls on one set wait for each other, with the GIL released.
    Raises ValueError for rows of another shape or type, and for positions beyond them, PbsPushError
    beyond 2^32 - 2 rows.
    """

    def __new__(cls, expected: int = 0) -> Self: ...
    def insert(self, rows: _Rows, *, at: _Positions | None = None) -> NDArray[numpy.bool_]:
        """Insert digests; True where one is new, also among the rows before it. O(n)."""
    def contains(self, rows: _Rows, *, at: _Positions | None = None) -> NDArray[numpy.bool_]:
        """True where a digest is in the set; ``rows`` are not kept. O(n)."""
    def difference(
        self, rows: _Rows, *, at: _Positions | None = None, insert: bool = False
    ) -> NDArray[numpy.uint32]:
        """Positions of the rows not in the set, in the order of ``at``, else ascending. O(n).

        With ``insert`` they are in the set afterwards, and of equal rows only the first counts.
        """
    @property
    def nbytes(self) -> int:
        """Memory held beside the rows, in bytes."""
    def __len__(self) -> int: ...
    def __contains__(self, digest: Buffer, /) -> bool:
        """Whether one digest of 32 bytes is in the set; for many, see ``contains``."""
