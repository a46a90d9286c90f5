from os import PathLike
from types import TracebackType
from typing import Literal, Self, final

import numpy
from numpy.typing import NDArray
from typing_extensions import Buffer

@final
class Index:
    """A checked ``.fidx`` or ``.didx`` file, mapped read-only (spec 01, "Index files").

    Views stay valid, and the file mapped, as long as they are referenced, also after ``close``.
    Bytes lost because the file shrinks meanwhile read as zeros: call ``check_unchanged`` after
    reading what matters. May be used from several threads at once; ``close`` once.
    Reading an attribute of a closed index other than the plain values raises ValueError.
    """

    @property
    def path(self) -> str:
        """As it was given to ``open_index``."""
    @property
    def kind(self) -> Literal["fixed", "dynamic"]:
        """Which of the two formats."""
    @property
    def uuid(self) -> bytes:
        """The 16 bytes that the writer chose."""
    @property
    def ctime(self) -> int:
        """When it was written, seconds since 1970, as the header says."""
    @property
    def size(self) -> int:
        """Plain bytes of the archive."""
    @property
    def chunk_size(self) -> int:
        """Plain bytes of every chunk but the last, a power of two; 0 for a dynamic index."""
    @property
    def largest_chunk(self) -> int:
        """Plain bytes of the largest chunk; 0 without entries."""
    @property
    def header_csum(self) -> bytes:
        """The csum that the header claims; not trusted, see ``csum``."""
    @property
    def entries(self) -> NDArray[numpy.uint8]:
        """All entries as they lie in the file: n times 32 or 40 bytes, read-only, no copy."""
    @property
    def digests(self) -> NDArray[numpy.uint8]:
        """The chunks' digests, shape (n, 32), read-only, no copy; rows are 32 or 40 bytes apart."""
    @property
    def end_offsets(self) -> NDArray[numpy.uint64]:
        """Where each chunk ends in the archive, shape (n,), read-only.

        A view of the file for a dynamic index; for a fixed one computed on each access, O(n).
        """
    def csum(self) -> bytes:
        """SHA-256 over the entries as they lie in the file.

        That of a dynamic file is computed when it is opened, all others on each call, with the GIL
        released; the pages are given back to the kernel behind it, which brings them in again when
        they are used. Raises IndexFormatError if the file shrank meanwhile.
        """
    def check_unchanged(self) -> None:
        """Raise IndexFormatError if the file shrank, or a page of it could not be read."""
    def changed(self, previous: Index) -> NDArray[numpy.uint32]:
        """Positions at which this index differs from ``previous``, increasing, shape (m,).

        The last one counts as different where it covers other bytes. Raises ValueError unless both
        are fixed, and of the same length and chunk size. O(n), GIL released.
        """
    def inodes(
        self, chunks_fd: int, positions: Buffer | NDArray[numpy.uint32]
    ) -> NDArray[numpy.uint64]:
        """Inode numbers of the chunks at ``positions`` (uint32, contiguous), in the same order.

        ``chunks_fd`` is the open folder ``.chunks``; 0 stands for a chunk that is not there. Raises
        ValueError for a position outside of the index. One system call each, GIL released.
        """
    def close(self) -> None:
        """Give up the mapping; it goes when the last view does. May be called again."""
    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

def open_index(path: str | PathLike[str], *, dir_fd: int | None = None) -> Index:
    """Map and check the index file ``path``, relative to the directory ``dir_fd`` if given.

    Reads the header, and all of a dynamic index, whose csum is computed along with the check of its
    end offsets; the GIL is released. A symbolic link
    as last component is not followed. The kind comes from the file's magic, not from its name.
    Raises SourceError where the file cannot be opened or is no regular file, IndexFormatError where
    its bytes are not a valid index, PbsPushError with 32,768 files mapped already.
    """

def open_index_again(fd: int, name: str) -> Index:
    """Map and check the index file that ``fd`` is open on; ``name`` is for messages.

    The descriptor stays the caller's, and may be closed. Otherwise as ``open_index``.
    """

def parse_index(content: Buffer, name: str) -> Index:
    """Check an index file that is in memory (downloaded, say); ``name`` is for messages.

    The content is kept, not copied, and must not change. Raises IndexFormatError where it is not a
    valid index.
    """
