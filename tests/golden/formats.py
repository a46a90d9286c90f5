"""Blobs, indexes, keys and manifests, by protocol/datastore.md."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

Json = dict[str, Any]

CHUNK = 4 << 20
WORDS = ("uncompressed", "compressed", "encrypted", "encrypted+compressed")
_PHRASES = ("uncompressed", "zstd compressed", "encrypted", "zstd compressed encrypted")


def magic(phrase: str) -> bytes:
    """The first 8 bytes of a phrase's SHA-256."""
    return hashlib.sha256(f"Proxmox Backup {phrase} v1.0".encode()).digest()[:8]


MAGICS = {word: magic(f"{phrase} blob") for word, phrase in zip(WORDS, _PHRASES, strict=True)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def noise(seed: str, size: int) -> bytes:
    """Bytes that nothing compresses, the same for the same seed."""
    blocks = (hashlib.sha256(f"{seed} {at}".encode()).digest() for at in range(0, size, 32))
    return b"".join(blocks)[:size]


# -- zstd (RFC 8878), in raw and run-length blocks alone --

_RAW, _RUN = 0, 1
_MAX_BLOCK = 128 << 10
_RUNS = re.compile(rb"(.)\1{15,}+", re.DOTALL)


def zstd_frame(content: bytes, *, sized: bool = True) -> bytes:
    """A frame with the content; what repeats a byte becomes short.

    ``sized``: the header tells the size, as where it was known; else a window of 512 KiB.
    """
    head = struct.pack("<IBQ", 0xFD2FB528, 0b1110_0000, len(content))
    if not sized:
        head = struct.pack("<IBB", 0xFD2FB528, 0, 9 << 3)
    blocks = list(_blocks(content)) or [(_RAW, 0, b"")]
    body = b""
    for number, (kind, size, payload) in enumerate(blocks):
        last = number == len(blocks) - 1
        body += (size << 3 | kind << 1 | last).to_bytes(3, "little") + payload
    return head + body


def _blocks(content: bytes) -> list[tuple[int, int, bytes]]:
    found: list[tuple[int, int, bytes]] = []
    at = 0
    for run in _RUNS.finditer(content):
        found += _pieces(_RAW, content[at : run.start()]) + _pieces(_RUN, run.group())
        at = run.end()
    return found + _pieces(_RAW, content[at:])


def _pieces(kind: int, data: bytes) -> list[tuple[int, int, bytes]]:
    parts = [data[at : at + _MAX_BLOCK] for at in range(0, len(data), _MAX_BLOCK)]
    return [(kind, len(part), part[:1] if kind == _RUN else part) for part in parts]


# -- keys --

_FINGERPRINT_INPUT = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()


@dataclass(frozen=True)
class Key:
    """An encryption key."""

    enc_key: bytes

    @cached_property
    def id_key(self) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", self.enc_key, b"_id_key", 10, 32)

    @property
    def fingerprint(self) -> str:
        return colon_hex(hashlib.sha256(_FINGERPRINT_INPUT + self.id_key).digest())

    def digest(self, content: bytes) -> str:
        """The digest of an encrypted chunk."""
        return sha256(content + self.id_key)

    def seal(self, data: bytes, iv: bytes) -> tuple[bytes, bytes]:
        """Tag and encrypted data."""
        sealed = AESGCM(self.enc_key).encrypt(iv, data, None)
        return sealed[-16:], sealed[:-16]

    def sign(self, text: bytes) -> str:
        return hmac.new(self.id_key, text, "sha256").hexdigest()


def colon_hex(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)


def key_file(key: Key, kdf: Json | None, password: bytes = b"", hint: str | None = None) -> Json:
    """A key file's members; with a kdf the key is sealed under the password."""
    data = key.enc_key
    if kdf is not None:
        iv = noise(f"iv of {kdf}", 16)
        tag, sealed = Key(_derive(kdf, password)).seal(key.enc_key, iv)
        data = iv + tag + sealed
    members = {
        "kdf": kdf,
        "created": "2026-02-03T04:05:06+01:00",
        "modified": "2026-02-03T04:05:07+01:00",
        "data": base64.b64encode(data).decode(),
        "fingerprint": key.fingerprint,
    }
    return members if hint is None else {**members, "hint": hint}


def _derive(kdf: Json, password: bytes) -> bytes:
    ((name, params),) = kdf.items()
    salt = base64.b64decode(params["salt"])
    if name == "PBKDF2":
        return hashlib.pbkdf2_hmac("sha256", password, salt, params["iter"], 32)
    n, r, p = params["n"], params["r"], params["p"]
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=2 * 128 * n * r, dklen=32)


# -- blobs --


def blob(word: str, content: bytes, key: Key | None = None, *, sized: bool = True) -> bytes:
    """A blob of just this kind."""
    payload = zstd_frame(content, sized=sized) if "compressed" in word.split("+") else content
    if not word.startswith("encrypted"):
        return MAGICS[word] + struct.pack("<I", zlib.crc32(payload)) + payload
    assert key is not None
    iv = noise(f"iv of {word} {sha256(content)}", 16)
    tag, sealed = key.seal(payload, iv)
    return MAGICS[word] + struct.pack("<I", zlib.crc32(sealed)) + iv + tag + sealed


def kind_for(content: bytes, key: Key | None) -> str:
    """What PBS makes of it: compressed where that is shorter, encrypted where there is a key."""
    shorter = len(zstd_frame(content)) < len(content)
    if key is None:
        return "compressed" if shorter else "uncompressed"
    return "encrypted+compressed" if shorter else "encrypted"


# -- indexes --


@dataclass(frozen=True)
class Entry:
    """A chunk in an index."""

    digest: str
    size: int


def fixed_index(entries: list[Entry], uuid: bytes, ctime: int) -> tuple[bytes, str]:
    """A fixed index, and its csum."""
    assert all(entry.size == CHUNK for entry in entries[:-1])
    body = bytes.fromhex("".join(entry.digest for entry in entries))
    size = sum(entry.size for entry in entries)
    return _index("fixed sized chunk index", body, uuid, ctime, (size, CHUNK))


def dynamic_index(entries: list[Entry], uuid: bytes, ctime: int) -> tuple[bytes, str]:
    """A dynamic index, and its csum."""
    body, end = b"", 0
    for entry in entries:
        end += entry.size
        body += struct.pack("<Q", end) + bytes.fromhex(entry.digest)
    return _index("dynamic sized chunk index", body, uuid, ctime, (0, 0))


def _index(
    phrase: str, body: bytes, uuid: bytes, ctime: int, sizes: tuple[int, int]
) -> tuple[bytes, str]:
    csum = hashlib.sha256(body).digest()
    header = magic(phrase) + uuid + struct.pack("<q", ctime) + csum + struct.pack("<QQ", *sizes)
    return header.ljust(4096, b"\0") + body, csum.hex()


# -- manifests --

_SIGNED = ("backup-type", "backup-id", "backup-time")
_SIGNED_OF_FILES = ("filename", "crypt-mode", "size", "csum")


def signature(manifest: Json, key: Key) -> str:
    """HMAC of the part that is signed, as canonical JSON."""
    part: Json = {name: manifest[name] for name in _SIGNED}
    part["files"] = [{name: file[name] for name in _SIGNED_OF_FILES} for file in manifest["files"]]
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return key.sign(text.encode())


def manifest_text(manifest: Json) -> bytes:
    """As PBS writes it."""
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode()
