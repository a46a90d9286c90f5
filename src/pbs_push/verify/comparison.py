"""One snapshot of both sides compared: manifest, indexes and blobs (protocol/reader.md).

Nothing that a push says of its own work is trusted: entries are compared with the source's, blobs
byte by byte, and what was encrypted on the way through the key.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.errors import (
    BlobFormatError,
    FormatError,
    PbsPushError,
    ProtocolError,
    ResetError,
    StatusError,
)
from pbs_push.formats.blob import MAX_BLOB_FILE, decode_blob
from pbs_push.formats.manifest import CryptMode, Manifest, Protection, check_manifest
from pbs_push.names import CLIENT_LOG_NAME, MANIFEST_NAME
from pbs_push.push.encryption import claims_proof, is_copy_of, is_ours, says_other_source
from pbs_push.verify.seen import Mode, Seen
from pbs_push.verify.target_report import Difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pbs_push.formats.index import Index
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.archives import Archives, IndexArchive
    from pbs_push.remote.reader import ReaderSession
    from pbs_push.remote.session import Call

_BLOCK: Final = 16_384
"""Entries that are compared in one go."""
_INDEX_HEADER: Final = 4096
_INDEX_ENTRY: Final = 40
_SLACK: Final = 64 << 10
"""What a file at the target may be longer than it should be, and still be read to its end."""


@dataclass(frozen=True, slots=True)
class ComparedIndex:
    """An index of the target that is as the source's, which lists the same chunks in ``here``.

    ``encrypted``: its chunks must be. ``key`` decrypts them, None where there is none for them.
    ``keyed``: they were encrypted on the way, and have other digests here.
    """

    filename: str
    here: Index
    there: Index
    encrypted: bool
    key: CryptKey | None
    keyed: bool

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint64]]]:
        """Entries some at a time: the first one's position, digests there, lengths in bytes."""
        for begin in range(0, len(self.there), _BLOCK):
            end = min(begin + _BLOCK, len(self.there))
            yield begin, self.there.digests[begin:end], entry_sizes(self.there, begin, end)


@dataclass(slots=True)
class Compared:
    """What came of it. Whoever has it closes ``resources``: the target's indexes.

    ``not_checked`` says what cannot be compared, and why; ``by_chunks``: looking at all chunks
    would prove it.
    """

    differences: list[Difference] = field(default_factory=list)
    not_checked: list[Difference] = field(default_factory=list)
    by_chunks: bool = False
    notes: list[str] = field(default_factory=list)
    indexes: list[ComparedIndex] = field(default_factory=list)
    resources: ExitStack = field(default_factory=ExitStack)

    def differs(self, filename: str | None, what: str) -> None:
        """Note a difference."""
        self.differences.append(Difference(filename, what))


def compare(
    archives: Archives, log: bytes | None, session: ReaderSession, key: CryptKey | None
) -> Compared:
    """Compare a snapshot of the source with the target's, which ``session`` reads.

    ``log`` is the source's client log, if it has one. All files are asked for at once. Raises
    ConnectError and its kin where reading fails for the moment, Cancelled.
    """
    work = _Comparison(archives, log, session, key)
    try:
        work.run()
    except BaseException:
        work.found.resources.close()
        raise
    return work.found


def entry_sizes(index: Index, begin: int, end: int) -> NDArray[np.uint64]:
    """Bytes of the entries from ``begin`` to before ``end`` (protocol/datastore.md)."""
    ends = index.end_offsets[begin:end]
    first = np.uint64(0) if begin == 0 else index.end_offsets[begin - 1]
    return np.diff(ends, prepend=first)


class _Comparison:
    def __init__(
        self,
        archives: Archives,
        log: bytes | None,
        session: ReaderSession,
        key: CryptKey | None,
    ) -> None:
        self._archives = archives
        self._here = archives.manifest
        self._key = key
        self._log = log
        self._manifest = session.manifest()
        self._indexes = {
            name: session.index(name, _index_bytes(archive))
            for name, archive in archives.indexes.items()
        }
        self._blobs = {
            blob.info.filename: session.file(blob.info.filename, len(blob.data) + _SLACK)
            for blob in archives.blobs
        }
        self._log_call = None if log is None else session.file(CLIENT_LOG_NAME, MAX_BLOB_FILE)
        self._session = session
        self.found = Compared()

    def run(self) -> None:
        calls = [self._manifest, *self._indexes.values(), *self._blobs.values()]
        if self._log_call is not None:
            calls.append(self._log_call)
        self._session.wait(calls)
        there = self._manifest_there()
        if there is None:
            return
        on_the_way = (
            Protection.of(self._here) is Protection.NONE and Protection.of(there) is Protection.FULL
        )
        self._compare_manifests(there, on_the_way=on_the_way)
        keyed = on_the_way and self._can_decrypt(there)
        for name, archive in self._archives.indexes.items():
            self._compare_index(name, archive, there, on_the_way=on_the_way, keyed=keyed)
        self._compare_blobs(there, on_the_way=on_the_way, keyed=keyed)
        self._compare_log(on_the_way=on_the_way, keyed=keyed)

    # -- the manifest --

    def _manifest_there(self) -> Manifest | None:
        body = self._body(MANIFEST_NAME, self._manifest)
        if body is None:
            return None
        try:
            manifest = Manifest.decode(body)
            check_manifest(manifest, self._here.snapshot)
        except FormatError as error:
            self.found.differs(MANIFEST_NAME, str(error))
            return None
        return manifest

    def _compare_manifests(self, there: Manifest, *, on_the_way: bool) -> None:
        files = {file.filename: file for file in there.files}
        for here in self._here.files:
            copy = files.pop(here.filename, None)
            if copy is None:
                self.found.differs(here.filename, "the target's manifest does not name it")
                continue
            if not on_the_way and copy.crypt_mode is not here.crypt_mode:
                self.found.differs(
                    here.filename,
                    f"crypt-mode {here.crypt_mode.value} here, {copy.crypt_mode.value} there",
                )
            same_size = not on_the_way or here.filename in self._archives.indexes
            if same_size and copy.size != here.size:
                self.found.differs(here.filename, f"{here.size} bytes here, {copy.size} there")
            if not on_the_way and copy.csum != here.csum:
                self.found.differs(
                    here.filename, f"csum {here.csum.hex()} here, {copy.csum.hex()} there"
                )
        for name in files:
            self.found.differs(name, "only the target's manifest names it")
        if on_the_way:
            return
        if (here_key := self._here.key_fingerprint) != (there_key := there.key_fingerprint):
            self.found.differs(
                MANIFEST_NAME, f"key {_short(here_key)} here, {_short(there_key)} there"
            )
        if (self._here.signature or "").lower() != (there.signature or "").lower():
            self.found.differs(MANIFEST_NAME, "the signatures differ")

    def _can_decrypt(self, there: Manifest) -> bool:
        """Whether a copy that was encrypted on the way can be compared through the key."""
        key = self._key
        if key is None or there.key_fingerprint != key.fingerprint:
            which = "which was not given" if key is None else "not with the one that was given"
            why = f"encrypted on the way with key {_short(there.key_fingerprint)}, {which}"
            self.found.not_checked.append(Difference(None, why))
            return False
        if not is_ours(there, key):
            self.found.differs(MANIFEST_NAME, "the signature is not that of its key")
        elif says_other_source(there, self._here, key):
            self.found.differs(
                MANIFEST_NAME, "the copy there was made from another snapshot than that here"
            )
        elif not is_copy_of(there, self._here, key):
            if claims_proof(there):
                self.found.differs(MANIFEST_NAME, "the proof that it was made from this is wrong")
            else:
                why = "nothing proves that it was made from this but its chunks: see --sample all"
                self.found.not_checked.append(Difference(MANIFEST_NAME, why))
                self.found.by_chunks = True
        return True

    # -- archives --

    def _compare_index(
        self, name: str, archive: IndexArchive, there: Manifest, *, on_the_way: bool, keyed: bool
    ) -> None:
        info = there.file(name)
        call = self._indexes[name]
        if self._body(name, call) is None or info is None:
            return
        try:
            copy = self.found.resources.enter_context(call.index(name))
        except FormatError as error:
            self.found.differs(name, _about(name, error))
            return
        here = archive.index
        csum = copy.csum()
        problem = None
        if csum != info.csum or copy.header_csum != csum:
            problem = "its entries do not have the csum that its manifest, or its header, says"
        elif (copy.kind, copy.size, len(copy)) != (here.kind, here.size, len(here)):
            problem = f"{len(here)} entries of {here.size} bytes here, {len(copy)} of {copy.size}"
        elif (position := _first_difference(here, copy, digests=not on_the_way)) is not None:
            problem = f"the indexes differ, from entry {position} on"
        elif on_the_way and not _is_renaming(here, copy):
            problem = "chunks that are the same here are not there, or the reverse"
        if problem is not None:
            self.found.differs(name, problem)
            return
        encrypted = info.crypt_mode is CryptMode.ENCRYPT
        key = self._key if encrypted and self._is_of_key(there) else None
        if on_the_way and not keyed:
            return
        self.found.indexes.append(ComparedIndex(name, here, copy, encrypted, key, keyed))

    def _is_of_key(self, manifest: Manifest) -> bool:
        return self._key is not None and manifest.key_fingerprint == self._key.fingerprint

    def _compare_blobs(self, there: Manifest, *, on_the_way: bool, keyed: bool) -> None:
        for blob in self._archives.blobs:
            name = blob.info.filename
            info = there.file(name)
            body = self._body(name, self._blobs[name])
            if body is None or info is None:
                continue
            if len(body) != info.size or hashlib.sha256(body).digest() != info.csum:
                self.found.differs(name, "it is not the file that the target's manifest describes")
            elif not on_the_way:
                if body != blob.data:
                    self.found.differs(name, "its bytes are not the source's")
            elif keyed:
                self._compare_contents(name, blob.data, body)

    def _compare_log(self, *, on_the_way: bool, keyed: bool) -> None:
        """The client's log, of which no manifest says anything; it may come late, or not at all."""
        if self._log is None or self._log_call is None:
            return
        answer = self._log_call.answer
        if answer is not None and answer.status >= 400:  # noqa: PLR2004
            self.found.notes.append("the target has no client log")
            return
        body = self._body(CLIENT_LOG_NAME, self._log_call)
        if body is None or body == self._log:
            return
        if not on_the_way:
            self.found.differs(CLIENT_LOG_NAME, "its bytes are not the source's")
        elif keyed:
            self._compare_contents(CLIENT_LOG_NAME, self._log, body)

    def _compare_contents(self, name: str, here: bytes, there: bytes) -> None:
        """Compare a blob with what it became under the key."""
        try:
            same = decode_blob(here, key=self._key) == decode_blob(there, key=self._key)
        except BlobFormatError as error:
            self.found.differs(name, str(error))
            return
        if not same:
            self.found.differs(name, "its content is not the source's")

    def _body(self, name: str, call: Call) -> bytes | None:
        """A file of the target; None, and a difference, where there is none that could be read."""
        try:
            body = call.body()
        except ResetError:
            raise
        except (StatusError, ProtocolError) as error:
            if isinstance(error, StatusError) and error.status not in (400, 404):
                raise
            self.found.differs(name, _missing_reason(error))
            return None
        return b"" if call in self._indexes.values() else bytes(body)


def _index_bytes(archive: IndexArchive) -> int:
    return _INDEX_HEADER + _INDEX_ENTRY * len(archive.index) + _SLACK


def _first_difference(here: Index, there: Index, *, digests: bool) -> int | None:
    """The first entry that differs between two indexes of one kind and length; None: none does.

    Without ``digests`` just their ends are compared, in bytes.
    """
    if here.kind == "fixed" and here.chunk_size != there.chunk_size:
        return 0
    for begin in range(0, len(here), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        differs = here.end_offsets[part] != there.end_offsets[part]
        if digests:
            differs |= (here.digests[part] != there.digests[part]).any(axis=1)
        if differs.any():
            return begin + int(differs.argmax())
    return None


def _is_renaming(here: Index, there: Index) -> bool:
    """Whether digests stand for each other one to one, as those of chunks under a key do."""
    ours, theirs, pairs = DigestSet(), DigestSet(), Seen()
    for begin in range(0, len(here), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        ours.insert(here.digests[part])
        theirs.insert(there.digests[part])
        beginnings = np.ascontiguousarray(there.digests[part, :8]).view(np.uint64).reshape(-1)
        pairs.add(pairs.rows(here.digests[part], beginnings, Mode.KEYED))
    return len(ours) == len(theirs) == len(pairs)


def _missing_reason(error: PbsPushError) -> str:
    if isinstance(error, StatusError):
        return f"the target cannot give it: {error.text or error.status}"
    return "it is longer there than it could be"


def _about(name: str, error: FormatError) -> str:
    return str(error).removeprefix(f"{name}: ")


def _short(fingerprint: bytes | None) -> str:
    return "none" if fingerprint is None else fingerprint[:8].hex(":")
