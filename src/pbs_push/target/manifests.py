"""Manifests as a server treats them: what it asks for, and what it keeps when it writes one anew.

Not `formats.manifest`, which is the careful reader of a client: a server looks only whether the
manifest parses, and loses unknown keys (protocol/datastore.md, "What a server keeps";
recordings ``finish-manifest-*``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pbs_push.errors import BlobFormatError
from pbs_push.formats.blob import BlobKind, decode_blob, encode_blob
from pbs_push.names import BACKUP_TYPES, MANIFEST_NAME
from pbs_push.target.answers import Refusal, StreamKilled, bad_request
from pbs_push.target.store import replace_file

_T = TypeVar("_T")

_CRYPT_MODES: Final = ("none", "encrypt", "sign-only")
_CSUM = re.compile(r"[0-9a-fA-F]{64}")
_CONTEXT: Final = "unable to update manifest blob"


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest on disk: the members that a server keeps, and the file's length in bytes."""

    members: dict[str, object]
    file_size: int

    @property
    def unprotected(self) -> dict[str, object]:
        """The part that anyone may change; empty if absent. Raises StreamKilled for no object."""
        value = self.members.get("unprotected")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise StreamKilled("the manifest's 'unprotected' is not an object")
        return value

    @property
    def files(self) -> list[dict[str, object]]:
        """The file entries, crypt-mode filled in."""
        files = self.members["files"]
        return files if isinstance(files, list) else []

    @property
    def signed(self) -> bool:
        """Whether there is a signature."""
        return self.members.get("signature") is not None

    @property
    def notes(self) -> str:
        """The snapshot's notes, empty if it has none."""
        return str(self.unprotected.get("notes") or "")

    @property
    def verify_failed(self) -> bool:
        """Whether the last verification found damage."""
        state = self.unprotected.get("verify_state")
        return isinstance(state, dict) and state.get("state") == "failed"

    def with_unprotected(self, changes: Mapping[str, object]) -> dict[str, object]:
        """The members with some of the unprotected ones replaced; None removes one."""
        merged = {**self.unprotected, **changes}
        kept = {name: value for name, value in merged.items() if value is not None}
        return {**self.members, "unprotected": kept}


def load(snapshot_path: Path) -> StoredManifest:
    """Read the manifest of the snapshot in that folder. Raises Refusal."""
    path = snapshot_path / MANIFEST_NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = f"{error.strerror} (os error {error.errno})"
        raise bad_request(f"{_CONTEXT} - unable to load blob '\"{path}\"' - {reason}") from None
    return StoredManifest(parse(decode(raw)), len(raw))


def decode(raw: bytes) -> bytes:
    """The text in a manifest blob. Raises Refusal."""
    try:
        if BlobKind(raw[:8]).encrypted:
            raise bad_request(
                f"{_CONTEXT} - decode backup manifest blob failed - "
                "unable to decrypt blob - missing CryptConfig"
            )
        return decode_blob(raw)
    except (ValueError, BlobFormatError) as error:
        raise bad_request(f"{_CONTEXT} - decode backup manifest blob failed - {error}") from None


def parse(text: bytes) -> dict[str, object]:
    """The members that a server keeps. Raises Refusal where it could not read the manifest."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(f"unable to parse backup manifest json - {error}") from None
    if not isinstance(value, dict):
        raise _broken("invalid type: expected struct BackupManifest")
    files = _member(value, "files", list)
    return {
        "backup-type": _choice(value, "backup-type", BACKUP_TYPES),
        "backup-id": _member(value, "backup-id", str),
        "backup-time": _member(value, "backup-time", int),
        "files": [_file(entry) for entry in files],
        "unprotected": value.get("unprotected"),
        "signature": value.get("signature"),
    }


def save(snapshot_path: Path, members: dict[str, object]) -> None:
    """Write it as PBS does: sorted and indented JSON in a compressed blob. Raises OSError."""
    text = json.dumps(members, ensure_ascii=False, indent=2, sort_keys=True)
    replace_file(snapshot_path / MANIFEST_NAME, encode_blob(text.encode()))


def _file(entry: object) -> dict[str, object]:
    if not isinstance(entry, dict):
        raise _broken("invalid type: expected struct FileInfo")
    csum = _member(entry, "csum", str)
    if _CSUM.fullmatch(csum) is None:
        raise _broken("Invalid string length")
    size = _member(entry, "size", int)
    if size < 0:
        raise _broken(f"invalid value: integer `{size}`, expected u64")
    mode = _choice({"crypt-mode": "none", **entry}, "crypt-mode", _CRYPT_MODES)
    name = _member(entry, "filename", str)
    return {"filename": name, "crypt-mode": mode, "size": size, "csum": csum.lower()}


def _member(value: dict[str, object], name: str, kind: type[_T]) -> _T:
    if name not in value:
        raise _broken(f"missing field `{name}`")
    member = value[name]
    if not isinstance(member, kind) or isinstance(member, bool):
        raise _broken(f"invalid type of `{name}`")
    return member


def _choice(value: dict[str, object], name: str, choices: tuple[str, ...]) -> str:
    word = _member(value, name, str)
    if word not in choices:
        expected = ", ".join(f"`{choice}`" for choice in choices)
        raise _broken(f"unknown variant `{word}`, expected one of {expected}")
    return word


def _broken(reason: str) -> Refusal:
    return bad_request(f"{_CONTEXT} - {reason}")
