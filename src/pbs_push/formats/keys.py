"""Encryption keys of PBS clients (protocol/datastore.md, "Keys", "Key files").

Sizes are in bytes. Nothing here prints, logs or puts into an error a key or a password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.errors import BlobFormatError, InvalidName, KeyFileError
from pbs_push.formats.strict_json import JsonValue, load_object
from pbs_push.names import format_fingerprint, parse_fingerprint, why_not_a_path

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher
    from cryptography.hazmat.primitives.ciphers.modes import GCM
    from typing_extensions import Buffer

KEY_SIZE: Final = 32
IV_SIZE: Final = 16
TAG_SIZE: Final = 16

_FINGERPRINT_INPUT: Final = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()
_MAX_KEY_FILE: Final = 64 << 10
_MAX_SCRYPT_MEMORY: Final = 1 << 30
_MAX_SCRYPT_P: Final = 64
_MAX_PBKDF2_ITERATIONS: Final = 100_000_000

PasswordSource = Callable[[], bytes]
"""Asked for the password of a key file, once, and only if the file needs one."""


class CryptKey:
    """A client's encryption key: AES-256-GCM for contents, HMAC-SHA256 for manifests.

    Immutable and safe to share between threads; the calls over contents release the GIL.
    """

    __slots__ = ("_enc_key", "fingerprint", "id_key")

    id_key: bytes
    """32 bytes derived from the key: what keyed digests and signatures are made with. A secret."""
    fingerprint: bytes
    """32 bytes that name the key, and tell nothing about it."""

    def __init__(self, enc_key: bytes) -> None:
        """Take the 32 bytes of the key itself. Raises KeyFileError for another length."""
        if len(enc_key) != KEY_SIZE:
            raise KeyFileError(f"an encryption key has {KEY_SIZE} bytes, this one {len(enc_key)}")
        self._enc_key = bytes(enc_key)
        self.id_key = hashlib.pbkdf2_hmac("sha256", enc_key, b"_id_key", 10, KEY_SIZE)
        self.fingerprint = hashlib.sha256(_FINGERPRINT_INPUT + self.id_key).digest()

    def digest(self, content: Buffer) -> bytes:
        """Digest of an encrypted chunk with this plain ``content``."""
        return self.both_digests(content)[1]

    def both_digests(self, content: Buffer) -> tuple[bytes, bytes]:
        """Digests of a chunk with this plain ``content``: of the plain one, and encrypted."""
        hasher = hashlib.sha256(content)
        return hasher.digest(), keyed_digest(hasher, self)

    def sign(self, text: Buffer) -> bytes:
        """HMAC-SHA256 of ``text`` under the id key, 32 bytes."""
        return hmac.digest(self.id_key, text, "sha256")

    def encrypt(self, content: Buffer, *, iv: bytes | None = None) -> tuple[bytes, bytes, bytes]:
        """Encrypt ``content``; gives IV, tag and cipher text (as long as the content).

        ``iv``: 16 bytes never used with this key before; random unless given. Giving one is for
        reproducible sample data only.
        """
        iv = os.urandom(IV_SIZE) if iv is None else iv
        encryptor = encryption(self, iv)
        encrypted = encryptor.update(memoryview(content)) + encryptor.finalize()
        return iv, encryptor.tag, encrypted

    def decrypt(self, iv: bytes, tag: bytes, encrypted: Buffer) -> bytes:
        """Undo ``encrypt``. Raises BlobFormatError where key and data do not belong together."""
        content = _open_sealed(self._enc_key, iv, tag, encrypted)
        if content is None:
            raise BlobFormatError(
                f"cannot decrypt with key {self._short}: it is another key's, or damaged"
            )
        return content

    @property
    def _short(self) -> str:
        """The first 8 bytes of the fingerprint, as PBS shows a key to people."""
        return format_fingerprint(self.fingerprint[:8])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CryptKey):
            return NotImplemented
        return hmac.compare_digest(self._enc_key, other._enc_key)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"CryptKey({self._short})"


def keyed_digest(hasher: hashlib._Hash, key: CryptKey) -> bytes:
    """Digest of an encrypted chunk whose plain content is what ``hasher`` (SHA-256) was given."""
    hasher.update(key.id_key)
    return hasher.digest()


def encryption(key: CryptKey, iv: bytes) -> AEADEncryptionContext:
    """What encrypts a content piece by piece; ``iv`` as ``CryptKey.encrypt`` takes it."""
    return _cipher(key._enc_key, iv).encryptor()


def decrypt_into(
    key: CryptKey, iv: bytes, tag: bytes, encrypted: memoryview, out: memoryview
) -> None:
    """As ``CryptKey.decrypt``, to memory of the same length. Raises BlobFormatError."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  (see _cipher)

    decryptor = _cipher(key._enc_key, iv, tag).decryptor()
    try:
        decryptor.update_into(encrypted, out)
        decryptor.finalize()
    except InvalidTag:
        raise BlobFormatError(
            f"cannot decrypt with key {key._short}: it is another key's, or damaged"
        ) from None


def _open_sealed(key: bytes, iv: bytes, tag: bytes, sealed: Buffer) -> bytes | None:
    """AES-256-GCM without associated data; None where the tag does not fit."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415  (see _cipher)

    decryptor = _cipher(key, iv, tag).decryptor()
    try:
        return decryptor.update(memoryview(sealed)) + decryptor.finalize()
    except InvalidTag:
        return None


def _cipher(key: bytes, iv: bytes, tag: bytes | None = None) -> Cipher[GCM]:
    """AES-256-GCM. Imported here: 7 MiB that only those with a key need."""
    from cryptography.hazmat.primitives.ciphers import Cipher  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.algorithms import AES  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.modes import GCM  # noqa: PLC0415

    return Cipher(AES(key), GCM(iv, tag))


def load_key_file(path: str | os.PathLike[str], password: PasswordSource | None = None) -> CryptKey:
    """Read a key file as PBS's client writes it (JSON; kdf none, scrypt or PBKDF2).

    ``password`` is called only for a file that needs one. Raises KeyFileError for a file that
    cannot be read or understood, a password that is missing or wrong, and a fingerprint that is
    not this key's. Deriving the key of a password takes about a second, and 64 MiB for scrypt.
    """
    where = f"encryption key file {os.fspath(path)}"
    if why := why_not_a_path(path):
        raise KeyFileError(f"encryption key file {path!r}: {why}")
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_KEY_FILE + 1)
    except OSError as error:
        raise KeyFileError(f"{where}: {error.strerror}") from error
    if len(text) > _MAX_KEY_FILE:
        raise KeyFileError(f"{where}: longer than {_MAX_KEY_FILE} bytes, so it is none")
    try:
        return _parse_key_file(text, password)
    except ValueError as error:
        raise KeyFileError(f"{where}: {error}") from None


def _parse_key_file(text: bytes, password: PasswordSource | None) -> CryptKey:
    """The key in the text of a key file. Raises ValueError with the reason."""
    fields = load_object(text)
    data = _decode_base64(fields.get("data"), "data")
    kdf = fields.get("kdf")
    enc_key = data if kdf is None else _unlock(_key_derivation(kdf), data, password)
    if len(enc_key) != KEY_SIZE:
        raise ValueError(f"the key in it has {len(enc_key)} bytes, not {KEY_SIZE}")
    key = CryptKey(enc_key)
    _compare_fingerprint(key, fields.get("fingerprint"))
    return key


def _unlock(
    derive: Callable[[bytes], bytes], data: bytes, password: PasswordSource | None
) -> bytes:
    if len(data) != IV_SIZE + TAG_SIZE + KEY_SIZE:
        raise ValueError(f"'data' has {len(data)} bytes, not {IV_SIZE + TAG_SIZE + KEY_SIZE}")
    if password is None:
        raise ValueError("it is protected with a password, and none was given")
    derived = derive(password())
    iv, tag, sealed = data[:IV_SIZE], data[IV_SIZE : IV_SIZE + TAG_SIZE], data[-KEY_SIZE:]
    enc_key = _open_sealed(derived, iv, tag, sealed)
    if enc_key is None:
        raise ValueError("the password is wrong (or the file damaged)")
    return enc_key


def _key_derivation(kdf: JsonValue) -> Callable[[bytes], bytes]:
    """The function from password to key that the file's ``kdf`` describes."""
    if not isinstance(kdf, dict) or len(kdf) != 1:
        raise ValueError("'kdf' is neither null nor one of Scrypt, PBKDF2")
    ((name, parameters),) = kdf.items()
    if not isinstance(parameters, dict):
        raise ValueError(f"'{name}' has no parameters")  # noqa: TRY004 - as promised to the caller
    salt = _decode_base64(parameters.get("salt"), "salt")
    if name == "Scrypt":
        return _scrypt(salt, *(_count(parameters, key) for key in ("n", "r", "p")))
    if name == "PBKDF2":
        return _pbkdf2(salt, _count(parameters, "iter"))
    raise ValueError("'kdf' is neither null nor one of Scrypt, PBKDF2")


def _scrypt(salt: bytes, n: int, r: int, p: int) -> Callable[[bytes], bytes]:
    # OpenSSL counts the blocks of all lanes and two more; its own limit, unless told another, is
    # 32 MiB, half of what PBS's usual parameters need.
    memory = 128 * r * (n + p + 2)
    if n & (n - 1) or n == 1 or p > _MAX_SCRYPT_P or memory > _MAX_SCRYPT_MEMORY:
        raise ValueError("the scrypt parameters make no sense, or need more than 1 GiB of memory")
    return lambda password: hashlib.scrypt(
        password, salt=salt, n=n, r=r, p=p, maxmem=memory + (1 << 20), dklen=KEY_SIZE
    )


def _pbkdf2(salt: bytes, iterations: int) -> Callable[[bytes], bytes]:
    if iterations > _MAX_PBKDF2_ITERATIONS:
        raise ValueError(f"more than {_MAX_PBKDF2_ITERATIONS} rounds of PBKDF2")
    return lambda password: hashlib.pbkdf2_hmac("sha256", password, salt, iterations, KEY_SIZE)


def _count(parameters: dict[str, JsonValue], name: str) -> int:
    value = parameters.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"the kdf's '{name}' is not a positive number")
    return value


def _decode_base64(value: JsonValue, name: str) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"'{name}' is missing or no text")  # noqa: TRY004 - as promised
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"'{name}' is not base64") from None


def _compare_fingerprint(key: CryptKey, claimed: JsonValue) -> None:
    if claimed is None:
        return
    try:
        matches = isinstance(claimed, str) and parse_fingerprint(claimed) == key.fingerprint
    except InvalidName:
        matches = False
    if not matches:
        raise ValueError("its fingerprint is not that of the key in it")
