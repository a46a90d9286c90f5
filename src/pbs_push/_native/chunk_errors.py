"""What a code about a chunk file means: one place turns each into a ChunkError."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push._native.status import FIXED_CLASSES, REASONS, Status, native_error
from pbs_push.errors import ChunkError, os_reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pbs_push.errors import Fault

_FAULTS: Final[Mapping[Status, Fault]] = {
    Status.CRC: "crc",
    Status.CRYPT: "crypt-mode",
    Status.LENGTH: "length",
    Status.SHRUNK: "unreadable",
}


def chunk_path(chunks_path: str, digest: bytes) -> str:
    """Where the chunk of a digest (32 bytes) lies (protocol/datastore.md, "Layout")."""
    digest_hex = digest.hex()
    return f"{chunks_path}/{digest_hex[:4]}/{digest_hex}"


def chunk_error(code: int, digest: bytes, chunks_path: str, errno: int) -> Exception:
    """The error for a negative ``code`` of a C function about the chunk of ``digest``.

    ``chunks_path`` is for the message, ``errno`` the system's reason where the code is ``IO``.
    """
    path = chunk_path(chunks_path, digest)
    status = Status(code)
    if status in FIXED_CLASSES:  # nothing that the file is to blame for
        return native_error(code, f"cannot read chunk {path}")
    if status is Status.NOT_FOUND:
        return ChunkError(digest.hex(), path, _why_missing(Path(path)), fault="missing")
    if status is Status.IO:
        reason = os_reason(OSError(errno, os.strerror(errno))) if errno else REASONS[status]
        text = f"unreadable: {reason}"
        return ChunkError(digest.hex(), path, text, fault="unreadable", errno=errno)
    fault = _FAULTS.get(status, "format")
    return ChunkError(digest.hex(), path, f"corrupt: {REASONS[status]}", fault=fault)


def _why_missing(chunk: Path) -> str:
    """A verification that finds a chunk corrupt sets it aside (protocol/datastore.md, "Layout")."""
    set_aside = False
    with suppress(OSError):  # the chunk is missing, whatever keeps its folder from being read
        set_aside = any(chunk.parent.glob(f"{chunk.name}.*.bad"))
    if set_aside:
        return "missing: a verification found it corrupt and renamed it to .bad"
    return "missing: no such file"
