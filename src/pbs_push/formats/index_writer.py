"""Making whole index files: of encrypted copies, samples, tests, the embedded target.

See protocol/datastore.md, "Index files".
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import uuid as uuid_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push.errors import IndexFormatError
from pbs_push.formats.index import FIXED_CHUNK_SIZE, HEADER_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

FIXED_MAGIC: Final = bytes((47, 127, 65, 237, 145, 253, 15, 205))
DYNAMIC_MAGIC: Final = bytes((28, 145, 78, 165, 25, 186, 179, 205))

_DIGEST_SIZE: Final = 32
_HEADER: Final = struct.Struct("<8s16sq32sQQ")
_DYNAMIC_ENTRY: Final = np.dtype([("end_offset", "<u8"), ("digest", "V32")])


def write_fixed_index(
    path: str | os.PathLike[str],
    digests: Buffer | NDArray[np.uint8],
    size: int,
    *,
    chunk_size: int = FIXED_CHUNK_SIZE,
    uuid: bytes | None = None,
    ctime: int | None = None,
) -> bytes:
    """Write a ``.fidx`` file and return its index csum (32 bytes).

    ``digests``: 32 bytes an entry, in order. ``size``: plain bytes of the image. ``chunk_size``: a
    power of two. ``uuid``: 16 bytes, random unless given; ``ctime``: seconds, now unless given.
    Raises IndexFormatError where the number of digests does not fit the size.
    """
    made = fixed_index_bytes(digests, size, chunk_size=chunk_size, uuid=uuid, ctime=ctime)
    return _write(path, made)


def fixed_index_bytes(
    digests: Buffer | NDArray[np.uint8],
    size: int,
    *,
    chunk_size: int = FIXED_CHUNK_SIZE,
    uuid: bytes | None = None,
    ctime: int | None = None,
) -> bytes:
    """The content of a ``.fidx`` file; arguments and errors as for ``write_fixed_index``."""
    entries = _bytes(digests)
    if chunk_size < 1 or chunk_size & (chunk_size - 1):
        raise IndexFormatError(f"chunk size {chunk_size} is not a power of two")
    if len(entries) != -(-size // chunk_size) * _DIGEST_SIZE:
        raise IndexFormatError(
            f"{len(entries)} bytes of digests do not fit {size} bytes in chunks of {chunk_size}"
        )
    return _file(FIXED_MAGIC, entries, (size, chunk_size), uuid=uuid, ctime=ctime)


def write_dynamic_index(
    path: str | os.PathLike[str],
    end_offsets: NDArray[np.uint64],
    digests: Buffer | NDArray[np.uint8],
    *,
    uuid: bytes | None = None,
    ctime: int | None = None,
) -> bytes:
    """Write a ``.didx`` file and return its index csum (32 bytes).

    ``end_offsets``: (n,), where each chunk ends in the archive, strictly increasing. ``digests``:
    32 bytes an entry, in the same order. ``uuid`` and ``ctime`` as for a fixed index. Raises
    IndexFormatError where the two do not fit each other or an offset does not increase.
    """
    return _write(path, dynamic_index_bytes(end_offsets, digests, uuid=uuid, ctime=ctime))


def dynamic_index_bytes(
    end_offsets: NDArray[np.uint64],
    digests: Buffer | NDArray[np.uint8],
    *,
    uuid: bytes | None = None,
    ctime: int | None = None,
) -> bytes:
    """The content of a ``.didx`` file; arguments and errors as for ``write_dynamic_index``."""
    ends = np.asarray(end_offsets, dtype=np.uint64)
    rows = np.frombuffer(_bytes(digests), dtype=np.uint8)
    if rows.size != ends.size * _DIGEST_SIZE:
        raise IndexFormatError(f"{rows.size} bytes of digests do not fit {ends.size} offsets")
    if ends.size and (ends[0] == 0 or np.any(ends[1:] <= ends[:-1])):
        raise IndexFormatError("end offsets do not increase")
    return _file(DYNAMIC_MAGIC, dynamic_entries(ends, rows), (0, 0), uuid=uuid, ctime=ctime)


def dynamic_entries(end_offsets: NDArray[np.uint64], digests: NDArray[np.uint8]) -> bytes:
    """Entries of a dynamic index as they lie in its file; ``digests`` has 32 bytes for each."""
    entries = np.empty(end_offsets.size, dtype=_DYNAMIC_ENTRY)
    entries["end_offset"] = end_offsets
    entries["digest"] = digests.reshape(-1).view("V32")
    return entries.tobytes()


def index_header(kind: str, csum: bytes, *, size: int, chunk_size: int) -> bytes:
    """The first 4 KiB of an index file, ``fixed`` or ``dynamic``, whose entries have ``csum``.

    ``size`` and ``chunk_size`` stand in a fixed one alone.
    """
    if kind == "fixed":
        return _header(FIXED_MAGIC, csum, (size, chunk_size), uuid=None, ctime=None)
    return _header(DYNAMIC_MAGIC, csum, (0, 0), uuid=None, ctime=None)


def _bytes(digests: Buffer | NDArray[np.uint8]) -> bytes:
    return digests.tobytes() if isinstance(digests, np.ndarray) else bytes(digests)


def _file(
    magic: bytes,
    entries: bytes,
    sizes: tuple[int, int],
    *,
    uuid: bytes | None,
    ctime: int | None,
) -> bytes:
    """Header and entries; ``sizes`` of image and chunks are zero in a dynamic index."""
    csum = hashlib.sha256(entries).digest()
    return _header(magic, csum, sizes, uuid=uuid, ctime=ctime) + entries


def _header(
    magic: bytes, csum: bytes, sizes: tuple[int, int], *, uuid: bytes | None, ctime: int | None
) -> bytes:
    uuid = uuid_module.uuid4().bytes if uuid is None else uuid
    ctime = int(time.time()) if ctime is None else ctime
    return _HEADER.pack(magic, uuid, ctime, csum, *sizes).ljust(HEADER_SIZE, b"\0")


def _write(path: str | os.PathLike[str], content: bytes) -> bytes:
    """Write an index file and return the csum in its header."""
    Path(path).write_bytes(content)
    csum: bytes = _HEADER.unpack_from(content)[3]
    return csum
