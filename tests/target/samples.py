"""Bytes for the tests of the target: blobs, manifests, and whole small backups sent by hand."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from typing import Any

import zstandard

from .client import Session

MIB = 1 << 20
CHUNK = 4 * MIB
PLAIN = bytes((66, 171, 56, 7, 190, 131, 112, 161))
ZSTD = bytes((49, 185, 88, 66, 111, 182, 163, 127))
ENCRYPTED = bytes((123, 103, 133, 190, 34, 45, 76, 240))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(seed: str, size: int) -> bytes:
    """Bytes that depend on the seed and compress well; an empty seed gives zeros."""
    unit = hashlib.sha256(seed.encode()).digest() if seed else bytes(32)
    return (unit * (size // 32 + 1))[:size]


def blob(data: bytes, *, magic: bytes = PLAIN) -> bytes:
    """A blob of a kind with the short header, its CRC right; data is stored as given."""
    return magic + zlib.crc32(data).to_bytes(4, "little") + data


def packed(data: bytes) -> bytes:
    """A compressed blob."""
    return blob(zstandard.ZstdCompressor(level=1).compress(data), magic=ZSTD)


def manifest(params: dict[str, Any], files: Sequence[dict[str, Any]] = (), **more: Any) -> bytes:
    """A manifest blob for the snapshot that the upgrade parameters name."""
    members: dict[str, Any] = {
        "backup-type": params["backup-type"],
        "backup-id": params["backup-id"],
        "backup-time": params["backup-time"],
        "files": list(files),
        **more,
    }
    return blob(json.dumps(members).encode())


def fixed_csum(digests: Sequence[str]) -> str:
    return sha256(bytes.fromhex("".join(digests)))


def dynamic_csum(digests: Sequence[str], sizes: Sequence[int]) -> str:
    csum, end = hashlib.sha256(), 0
    for digest, size in zip(digests, sizes, strict=True):
        end += size
        csum.update(end.to_bytes(8, "little") + bytes.fromhex(digest))
    return csum.hexdigest()


def send_chunk(session: Session, kind: str, wid: int, data: bytes, **more: Any) -> str:
    """Upload a chunk, compressed; returns its digest."""
    encoded = packed(data)
    params = {
        "wid": wid,
        "digest": sha256(data),
        "size": len(data),
        "encoded-size": len(encoded),
    }
    reply = session.call("POST", f"/{kind}_chunk", params, encoded, **more)
    assert reply.status == 200, reply
    return sha256(data)


def send_blob(session: Session, name: str, raw: bytes) -> None:
    reply = session.call("POST", "/blob", {"file-name": name, "encoded-size": len(raw)}, raw)
    assert reply.status == 200, reply


def send_fixed(
    session: Session, name: str, size: int, entries: Sequence[bytes], wid: int = 1
) -> list[str]:
    """Upload a whole image; returns the digests of its entries."""
    reply = session.call("POST", "/fixed_index", {"archive-name": name, "size": size})
    assert reply.data == wid, reply
    sent = {data: send_chunk(session, "fixed", wid, data) for data in dict.fromkeys(entries)}
    digests = [sent[data] for data in entries]
    offsets = [position * CHUNK for position in range(len(entries))]
    assert session.put("fixed", wid, digests, offsets).status == 200
    close = {"wid": wid, "chunk-count": len(digests), "size": size, "csum": fixed_csum(digests)}
    assert session.call("POST", "/fixed_close", close).status == 200
    return digests


def send_dynamic(session: Session, name: str, entries: Sequence[bytes], wid: int = 1) -> list[str]:
    """Upload a whole stream; returns the digests of its entries."""
    assert session.call("POST", "/dynamic_index", {"archive-name": name}).data == wid
    sent = {data: send_chunk(session, "dynamic", wid, data) for data in dict.fromkeys(entries)}
    digests = [sent[data] for data in entries]
    sizes = [len(data) for data in entries]
    starts = [sum(sizes[:position]) for position in range(len(sizes))]
    assert session.put("dynamic", wid, digests, starts).status == 200
    close = {
        "wid": wid,
        "chunk-count": len(digests),
        "size": sum(sizes),
        "csum": dynamic_csum(digests, sizes),
    }
    assert session.call("POST", "/dynamic_close", close).status == 200
    return digests


def finish(session: Session, params: dict[str, Any], **unprotected: Any) -> None:
    """Send a manifest that names no files, and finish."""
    raw = manifest(params, unprotected=unprotected)
    send_blob(session, "index.json.blob", raw)
    assert session.call("POST", "/finish").status == 200
