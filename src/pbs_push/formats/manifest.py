"""The manifest of a snapshot, ``index.json.blob`` (protocol/datastore.md, "Manifest")."""

from __future__ import annotations

import enum
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pbs_push.errors import BlobFormatError, InvalidName, ManifestError
from pbs_push.formats.blob import check_blob, decode_blob, encode_blob
from pbs_push.formats.strict_json import JsonValue, load_object
from pbs_push.names import (
    ARCHIVE_SUFFIXES,
    CLIENT_LOG_NAME,
    MANIFEST_NAME,
    Group,
    Snapshot,
    format_backup_time,
    is_safe_id,
    parse_fingerprint,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pbs_push.formats.keys import CryptKey

MAX_MANIFEST_SIZE: Final = 16 << 20
"""Bytes of JSON: as much as fits, uncompressed, into a blob that the backup protocol carries."""

_CSUM_SIZE: Final = 32
_OWN_KEYS: Final = frozenset(
    ("backup-type", "backup-id", "backup-time", "files", "signature", "unprotected")
)
_FILE_KEYS: Final = frozenset(("filename", "crypt-mode", "size", "csum"))
_NEVER_LISTED: Final = (MANIFEST_NAME, CLIENT_LOG_NAME)
_SOURCE_STATE: Final = frozenset(("verify_state", "chunk_upload_stats"))


class CryptMode(enum.Enum):
    """What a manifest says about the protection of an archive."""

    NONE = "none"
    ENCRYPT = "encrypt"
    SIGN_ONLY = "sign-only"


_ENCODER: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An archive as a manifest lists it.

    ``size`` and ``csum`` (32 bytes): of an index, plain bytes of the archive and csum of the index;
    of a blob, length and SHA-256 of the blob file. ``extra`` are the keys this version does not
    know. The name is as the manifest has it: check it before it becomes a path.
    """

    filename: str
    crypt_mode: CryptMode
    size: int
    csum: bytes
    extra: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    @classmethod
    def _from_json(cls, entry: JsonValue) -> FileInfo:
        if not isinstance(entry, dict):
            raise ManifestError("an entry of 'files' is not an object")
        filename = _text(entry, "filename")
        where = f"file {filename!r}"
        try:
            crypt_mode = CryptMode(entry.get("crypt-mode", CryptMode.NONE.value))
        except ValueError:
            raise ManifestError(f"{where}: unknown 'crypt-mode'") from None
        size = _integer(entry, "size", where)
        if size < 0:
            raise ManifestError(f"{where}: negative 'size'")
        extra = {name: value for name, value in entry.items() if name not in _FILE_KEYS}
        return cls(filename, crypt_mode, size, _csum(entry, where), extra)

    def _to_json(self) -> dict[str, JsonValue]:
        return {
            "crypt-mode": self.crypt_mode.value,
            "csum": self.csum.hex(),
            "filename": self.filename,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds.

    ``unprotected`` is what the signature does not cover: notes, verification state, statistics, the
    key's fingerprint, and whatever newer versions put there. ``extra`` are unknown keys beside it.
    ``signature`` is in hex, as it stands in the file.
    """

    snapshot: Snapshot
    files: tuple[FileInfo, ...]
    unprotected: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)
    signature: str | None = None
    extra: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Read a manifest's JSON. Raises ManifestError, whatever the bytes are."""
        try:
            top = load_object(text)
        except ValueError as error:
            raise ManifestError(f"the manifest's JSON is unusable: {error}") from None
        signature = top.get("signature")
        if signature is not None and not isinstance(signature, str):
            raise ManifestError("the manifest's 'signature' is neither text nor null")
        return cls(
            snapshot=_snapshot(top),
            files=tuple(_files(top)),
            unprotected=_unprotected(top),
            signature=signature,
            extra={name: value for name, value in top.items() if name not in _OWN_KEYS},
        )

    @classmethod
    def decode(cls, blob: Buffer) -> Manifest:
        """Read an ``index.json.blob``. Raises ManifestError, whatever the bytes are."""
        try:
            if check_blob(blob, crc=False).encrypted:
                raise ManifestError("the manifest is an encrypted blob, which none ever is")
            text = decode_blob(blob, max_size=MAX_MANIFEST_SIZE)
        except BlobFormatError as error:
            raise ManifestError(f"the manifest's blob is unusable: {error}") from None
        return cls.parse(text)

    def to_json(self) -> bytes:
        """The manifest as PBS writes it: indented, keys sorted, no newline at the end."""
        return json.dumps(self._members(), indent=2, sort_keys=True, ensure_ascii=False).encode()

    def encode(self) -> bytes:
        """The manifest as a data blob, zstd compressed: what goes into ``index.json.blob``.

        Not indented, which is quicker: a server writes it anew when the backup is finished.
        """
        return encode_blob(_ENCODER.encode(self._members()).encode())

    def _members(self) -> dict[str, JsonValue]:
        files: list[JsonValue] = [{**file.extra, **file._to_json()} for file in self.files]
        return {
            **self.extra,
            **self._identity(),
            "files": files,
            "signature": self.signature,
            "unprotected": dict(self.unprotected),
        }

    def without_source_state(self) -> Manifest:
        """The manifest without what only the datastore that it lay in can vouch for.

        ``verify_state`` and ``chunk_upload_stats`` go (protocol/push.md, "The pushed manifest");
        all else in ``unprotected`` stays.
        """
        kept = {
            name: value for name, value in self.unprotected.items() if name not in _SOURCE_STATE
        }
        return replace(self, unprotected=kept)

    def sign(self, key: CryptKey) -> str:
        """The signature that this manifest has under ``key``, in hex."""
        return key.sign(self._signed_text()).hex()

    def verify_signature(self, key: CryptKey) -> bool:
        """Whether the manifest carries a signature, and it is the one of ``key``."""
        if self.signature is None:
            return False
        return hmac.compare_digest(self.signature.lower().encode(), self.sign(key).encode())

    @property
    def key_fingerprint(self) -> bytes | None:
        """Fingerprint (32 bytes) of the key that encrypted or signed; None if none is named."""
        text = self.unprotected.get("key-fingerprint")
        try:
            return parse_fingerprint(text) if isinstance(text, str) else None
        except InvalidName:
            return None

    @property
    def verify_state(self) -> str | None:
        """``ok`` or ``failed`` as the last verification had it; None if there was none."""
        entry = self.unprotected.get("verify_state")
        state = entry.get("state") if isinstance(entry, dict) else None
        return state if isinstance(state, str) else None

    @property
    def notes(self) -> str | None:
        """The snapshot's notes, None if it has none."""
        text = self.unprotected.get("notes")
        return text if isinstance(text, str) and text else None

    def file(self, name: str) -> FileInfo | None:
        """The entry with this file name."""
        return next((file for file in self.files if file.filename == name), None)

    def _identity(self) -> dict[str, JsonValue]:
        return {
            "backup-id": self.snapshot.group.backup_id,
            "backup-time": self.snapshot.backup_time,
            "backup-type": self.snapshot.group.backup_type,
        }

    def _signed_text(self) -> bytes:
        """The canonical JSON that signatures are made over."""
        top = {**self._identity(), "files": [file._to_json() for file in self.files]}
        return json.dumps(top, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Protection(enum.Enum):
    """How much of a snapshot is encrypted; what is only signed is not."""

    NONE = "not encrypted"
    PARTLY = "partly encrypted"
    FULL = "encrypted"

    @classmethod
    def of(cls, manifest: Manifest) -> Protection:
        """What a manifest says of all its files."""
        return cls.of_modes(file.crypt_mode is CryptMode.ENCRYPT for file in manifest.files)

    @classmethod
    def of_modes(cls, encrypted: Iterable[bool]) -> Protection:
        """Of files that are encrypted or not."""
        modes = set(encrypted)
        if True not in modes:
            return cls.NONE
        return cls.PARTLY if False in modes else cls.FULL


def check_manifest(manifest: Manifest, snapshot: Snapshot) -> None:
    """Check what a manifest says against its snapshot (protocol/push.md, "Odd sources").

    Raises ManifestError if it is another snapshot's, or names a file that cannot be an archive: no
    such name ever becomes a path.
    """
    if manifest.snapshot != snapshot:
        raise ManifestError(f"the manifest is that of {manifest.snapshot}, it lies in {snapshot}")
    for reason in _bad_names(manifest):
        raise ManifestError(f"the manifest's file list is unusable: {reason}")


def _bad_names(manifest: Manifest) -> Iterator[str]:
    seen: set[str] = set()
    for name in (file.filename for file in manifest.files):
        if not is_safe_id(name):
            yield f"{name!r} is not a valid file name"
        if not name.endswith(ARCHIVE_SUFFIXES):
            yield f"{name!r} ends in none of {', '.join(ARCHIVE_SUFFIXES)}"
        if name in _NEVER_LISTED:
            yield f"{name!r} is never listed"
        if name in seen:
            yield f"{name!r} is named twice"
        seen.add(name)


def _snapshot(top: dict[str, JsonValue]) -> Snapshot:
    try:
        group = Group(_text(top, "backup-type"), _text(top, "backup-id"))
        snapshot = Snapshot(group, _integer(top, "backup-time", "the manifest"))
        format_backup_time(snapshot.backup_time)
    except InvalidName as error:
        raise ManifestError(f"the manifest is of no possible snapshot: {error}") from None
    return snapshot


def _files(top: dict[str, JsonValue]) -> Iterable[FileInfo]:
    entries = top.get("files")
    if not isinstance(entries, list):
        raise ManifestError("the manifest's 'files' is missing or no list")
    return (FileInfo._from_json(entry) for entry in entries)


def _unprotected(top: dict[str, JsonValue]) -> dict[str, JsonValue]:
    value = top.get("unprotected")
    if value is None:
        return {}
    if not isinstance(value, dict):
        # A server dies on such a one at finish (protocol/datastore.md, "What a server keeps").
        raise ManifestError("the manifest's 'unprotected' is neither an object nor null")
    return value


def _text(entry: dict[str, JsonValue], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise ManifestError(f"the manifest's '{name}' is missing or no text")
    return value


def _integer(entry: dict[str, JsonValue], name: str, where: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ManifestError(f"{where}: '{name}' is missing or no integer")
    return value


def _csum(entry: dict[str, JsonValue], where: str) -> bytes:
    text = _text(entry, "csum")
    try:
        csum = bytes.fromhex(text)
    except ValueError:
        csum = b""
    if len(csum) != _CSUM_SIZE or len(text) != 2 * _CSUM_SIZE:
        raise ManifestError(f"{where}: 'csum' is not {_CSUM_SIZE} bytes in hex")
    return csum
