"""Encrypting on the way: what a snapshot becomes under a key (protocol/push.md, "With a key").

Values in, values out. Indexes, which are rows of digests, have push/keyed_indexes.py.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from pbs_push.errors import BlobFormatError, FormatError
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB, check_blob, encrypt_blob
from pbs_push.formats.chunk_content import ContentChecker, ContentError
from pbs_push.formats.keys import keyed_digest
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest, Protection
from pbs_push.formats.sealing import SEAL_GROWTH, PieceDecoder, seal
from pbs_push.names import CLIENT_LOG_NAME, format_fingerprint
from pbs_push.push.archives import BlobArchive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbs_push.formats.keys import CryptKey

_FINGERPRINT: Final = "key-fingerprint"
_SOURCE_SIGNATURE: Final = "sync-source-signature"
_COPY_PROOF: Final = "pbs-push-copy-proof"
"""Our own field of a copy's manifest. PBS keeps what it does not know there, and ignores it."""


def encrypt_chunk(blob: bytes, digest: bytes, size: int, key: CryptKey) -> tuple[bytes, bytes]:
    """The keyed digest, and the encrypted blob, of an unencrypted chunk whose CRC was checked.

    Raises BlobFormatError where it is encrypted already, and where its content is not ``size``
    bytes with this ``digest``.
    """
    memory = memoryview(bytearray(SEAL_GROWTH) + blob)
    keyed = Sealer().keyed_digest(memory[SEAL_GROWTH:], digest, size, key)
    seal(memory, key)
    return keyed, bytes(memory)


class Sealer:
    """Makes out the keyed digests of chunks, one thread at a time, in memory that it keeps.

    ``checker`` is for what is not to be encrypted.
    """

    def __init__(self) -> None:
        self._decoder = PieceDecoder()
        self.checker: Final = ContentChecker(self._decoder)

    def keyed_digest(self, blob: memoryview, digest: bytes, size: int, key: CryptKey) -> bytes:
        """The keyed digest of an unencrypted chunk whose CRC was checked, decoded once.

        Raises BlobFormatError as ``encrypt_chunk``.
        """
        hasher = hashlib.sha256()
        found = 0
        for piece in self._decoder.pieces(blob):
            hasher.update(piece)
            found += len(piece)
        if (plain := hasher.digest()) != digest:
            raise ContentError("digest", f"its content has the digest {plain.hex()}")
        if found != size:
            raise ContentError("length", f"it holds {found} bytes, the index says {size}")
        return keyed_digest(hasher, key)


class Sealers:
    """As many as may work at once, whoever needs them: so memory and threads that compute are few.

    There are ``most`` of them. Safe for threads.
    """

    def __init__(self, most: int) -> None:
        self.most: Final = most
        self._free: SimpleQueue[Sealer | None] = SimpleQueue()
        for _ in range(most):
            self._free.put(None)

    def take(self) -> Sealer:
        """One that nobody else uses now, as soon as there is one; it is to be given back."""
        return self._free.get() or Sealer()

    def give_back(self, sealer: Sealer) -> None:
        """Let somebody else have it."""
        self._free.put(sealer)


def encrypt_log(log: bytes, manifest: Manifest, key: CryptKey | None) -> bytes:
    """A client log as it goes along with its snapshot: encrypted if that is encrypted on the way.

    Raises FormatError, naming it, for a log that is damaged, or too long once encrypted.
    """
    if key is None or Protection.of(manifest) is not Protection.NONE:
        return log
    try:
        return log if check_blob(log).encrypted else encrypt_blob(log, key)
    except BlobFormatError as error:
        raise FormatError(f"{CLIENT_LOG_NAME}: {error}") from error


def encrypt_blob_archive(blob: BlobArchive, key: CryptKey) -> BlobArchive:
    """A blob file under the key. Raises FormatError naming it."""
    name = blob.info.filename
    try:
        data = encrypt_blob(blob.data, key)
    except BlobFormatError as error:
        raise FormatError(f"{name}: {error}") from error
    if len(data) > MAX_PROTOCOL_BLOB:
        raise FormatError(f"{name}: encrypted, the blob is too long for the backup protocol")
    csum = hashlib.sha256(data).digest()
    return BlobArchive(encrypted_info(blob.info, size=len(data), csum=csum), data)


def encrypt_manifest(source: Manifest, files: Iterable[FileInfo], key: CryptKey) -> Manifest:
    """The manifest of the encrypted copy, signed; ``files`` are what they became, in any order."""
    made = {file.filename: file for file in files}
    copy = replace(source, files=tuple(made[file.filename] for file in source.files))
    unprotected = {
        **source.without_source_state().unprotected,
        _FINGERPRINT: format_fingerprint(key.fingerprint),
        _SOURCE_SIGNATURE: source_signature(source, key),
        _COPY_PROOF: _copy_proof(copy, source, key),
    }
    return replace(copy, unprotected=unprotected, signature=copy.sign(key))


def source_signature(source: Manifest, key: CryptKey) -> str:
    """What the copy's manifest says of the manifest that it was made from."""
    return format_fingerprint(bytes.fromhex(source.sign(key)))


def is_ours(at_target: Manifest, key: CryptKey) -> bool:
    """Whether a snapshot at the target is encrypted with this very key; its chunks can be reused.

    The signature is looked at too: the fingerprint alone is something anybody can write.
    """
    return at_target.key_fingerprint == key.fingerprint and at_target.verify_signature(key)


def says_other_source(at_target: Manifest, source: Manifest, key: CryptKey) -> bool:
    """Whether a copy, which ``is_ours``, says that it was made from another manifest than this."""
    told = at_target.unprotected.get(_SOURCE_SIGNATURE)
    return isinstance(told, str) and told.lower() != source_signature(source, key)


def is_copy_of(at_target: Manifest, source: Manifest, key: CryptKey) -> bool:
    """Whether we made a snapshot at the target, which ``is_ours``, from this one of the source.

    No signature covers ``sync-source-signature``: whoever can write at the target may put the value
    of one manifest into another. The proof covers both manifests, so it fits no other pair. A copy
    that PBS made has none.
    """
    proof = at_target.unprotected.get(_COPY_PROOF)
    expected = _copy_proof(at_target, source, key)
    return isinstance(proof, str) and hmac.compare_digest(proof.encode(), expected.encode())


def claims_proof(at_target: Manifest) -> bool:
    """Whether a copy carries a proof, right or not: one that PBS made has none."""
    return _COPY_PROOF in at_target.unprotected


def _copy_proof(copy: Manifest, source: Manifest, key: CryptKey) -> str:
    """What only a holder of the key can say: that one snapshot was made from the other.

    It is over the signatures that both have under ``key``, whatever they state themselves. No
    manifest is such a text (they begin with a brace), so no signature can pass for a proof.
    """
    text = f"pbs-push copy\0{copy.sign(key)}\0{source.sign(key)}"
    return key.sign(text.encode()).hex()


def encrypted_info(info: FileInfo, *, size: int, csum: bytes) -> FileInfo:
    """What a manifest says of a file that was encrypted."""
    return replace(info, crypt_mode=CryptMode.ENCRYPT, size=size, csum=csum)
