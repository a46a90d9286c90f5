"""Encryption keys and key files."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pbs_push.errors import BlobFormatError, KeyFileError
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.names import format_fingerprint

RAW = bytes(range(32))
KEY = CryptKey(RAW)
PASSWORD = b"a password of the test"
SMALL_SCRYPT: dict[str, Any] = {"Scrypt": {"n": 16, "r": 8, "p": 1, "salt": "c2FsdA=="}}
SMALL_PBKDF2: dict[str, Any] = {"PBKDF2": {"iter": 7, "salt": "c2FsdA=="}}


def test_derived_values_are_those_of_the_specification() -> None:
    id_key = hashlib.pbkdf2_hmac("sha256", RAW, b"_id_key", 10, 32)
    phrase = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()
    assert KEY.id_key == id_key
    assert KEY.fingerprint == hashlib.sha256(phrase + id_key).digest()
    assert KEY.digest(b"data") == hashlib.sha256(b"data" + id_key).digest()
    assert KEY.id_key.hex() == "7c2c013efd07f3b25717a485263343cd4d292a4b65c200bb3b18ea227abe225c"


def test_known_answer_of_an_encryption() -> None:
    iv, tag, encrypted = KEY.encrypt(b"abcde", iv=bytes(range(16)))
    assert (tag.hex(), encrypted.hex()) == ("dde1d026b9549c6567bfc0e13f4e591f", "060ec3125c")
    assert KEY.decrypt(iv, tag, encrypted) == b"abcde"


@given(st.binary(max_size=500))
def test_encryption_round_trip(content: bytes) -> None:
    iv, tag, encrypted = KEY.encrypt(content)
    assert len(encrypted) == len(content)
    assert KEY.decrypt(iv, tag, encrypted) == content
    with pytest.raises(BlobFormatError):
        CryptKey(bytes(32)).decrypt(iv, tag, encrypted)


def test_a_key_shows_nothing_but_its_fingerprint() -> None:
    shown = repr(KEY) + str(KEY)
    assert format_fingerprint(KEY.fingerprint[:8]) in shown
    assert RAW.hex() not in shown
    assert KEY.id_key.hex() not in shown
    assert repr(RAW)[2:10] not in shown


def test_equality_and_pickling() -> None:
    again = pickle.loads(pickle.dumps(KEY))  # noqa: S301
    assert again == KEY
    assert hash(again) == hash(KEY)
    assert CryptKey(bytes(32)) != KEY
    assert KEY != RAW


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_32_bytes(length: int) -> None:
    with pytest.raises(KeyFileError, match="32 bytes"):
        CryptKey(bytes(length))


def key_file(protection: dict[str, Any] | None = None, **changes: object) -> dict[str, Any]:
    """The fields of a key file, protected with PASSWORD if ``protection`` says how."""
    data = RAW
    if protection is SMALL_SCRYPT:
        derived = hashlib.scrypt(PASSWORD, salt=b"salt", n=16, r=8, p=1, dklen=32)
        data = b"".join(CryptKey(derived).encrypt(RAW))
    elif protection is SMALL_PBKDF2:
        derived = hashlib.pbkdf2_hmac("sha256", PASSWORD, b"salt", 7, 32)
        data = b"".join(CryptKey(derived).encrypt(RAW))
    fields = {
        "kdf": protection,
        "created": "2026-01-01T00:00:00+00:00",
        "modified": "2026-01-01T00:00:00+00:00",
        "data": base64.b64encode(data).decode(),
        "fingerprint": format_fingerprint(KEY.fingerprint),
        "hint": "a hint",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def write(folder: Path, fields: object) -> Path:
    path = folder / "some.key"
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize("kdf", [None, SMALL_SCRYPT, SMALL_PBKDF2])
@pytest.mark.parametrize("fingerprint", [..., format_fingerprint(KEY.fingerprint), None])
def test_key_files(tmp_path: Path, kdf: dict[str, Any] | None, fingerprint: object) -> None:
    path = write(tmp_path, key_file(kdf, fingerprint=fingerprint, hint=...))
    assert load_key_file(path, lambda: PASSWORD) == KEY


def test_the_password_is_asked_for_only_if_needed(tmp_path: Path) -> None:
    def ask() -> bytes:
        pytest.fail("asked for a password that nothing needs")

    assert load_key_file(write(tmp_path, key_file()), ask) == KEY


@pytest.mark.parametrize("kdf", [SMALL_SCRYPT, SMALL_PBKDF2])
def test_wrong_and_missing_password(tmp_path: Path, kdf: dict[str, Any]) -> None:
    path = write(tmp_path, key_file(kdf))
    with pytest.raises(KeyFileError, match=r"some\.key: the password is wrong") as caught:
        load_key_file(path, lambda: b"guess-81734")
    assert "guess-81734" not in str(caught.value)
    with pytest.raises(KeyFileError, match="protected with a password"):
        load_key_file(path)


def scrypt_with(**changes: object) -> dict[str, Any]:
    return {"Scrypt": {**SMALL_SCRYPT["Scrypt"], **changes}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "not a JSON object"),
        ({}, "'data' is missing"),
        (key_file(data=7), "'data' is missing"),
        (key_file(data="not base64!"), "'data' is not base64"),
        (key_file(data="é"), "'data' is not base64"),
        (key_file(data="AAAA"), "3 bytes, not 32"),
        (key_file(kdf="none"), "'kdf' is neither"),
        (key_file(kdf={}), "'kdf' is neither"),
        (key_file(kdf={"Argon": {"salt": ""}}), "'kdf' is neither"),
        (key_file(kdf={"Scrypt": None}), "no parameters"),
        (key_file(SMALL_SCRYPT, data="AAAA"), "3 bytes, not 64"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(salt=None)), "'salt'"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(n=True)), "'n' is not a positive"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(n=1 << 40)), "make no sense"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(n=17)), "make no sense"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(n=2, r=1 << 22)), "make no sense"),
        (key_file(SMALL_SCRYPT, kdf=scrypt_with(p=0)), "'p' is not a positive"),
        (key_file(SMALL_PBKDF2, kdf={"PBKDF2": {"iter": 1 << 40, "salt": ""}}), "rounds"),
        (key_file(fingerprint="ab"), "fingerprint is not"),
        (key_file(fingerprint=format_fingerprint(bytes(32))), "fingerprint is not"),
        (key_file(fingerprint=[]), "fingerprint is not"),
    ],
)
def test_damaged_key_files(tmp_path: Path, fields: Any, message: str) -> None:
    path = write(tmp_path, fields)
    with pytest.raises(KeyFileError, match=message) as caught:
        load_key_file(path, lambda: PASSWORD)
    assert "some.key" in str(caught.value)
    assert PASSWORD.decode() not in str(caught.value)


def test_unreadable_and_endless_key_files(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file"):
        load_key_file(tmp_path / "none.key")
    with pytest.raises(KeyFileError, match="Is a directory"):
        load_key_file(tmp_path)
    with pytest.raises(KeyFileError, match="longer than"):
        load_key_file("/dev/zero")


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_key_or_our_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "some.key"
    path.write_bytes(data)
    with pytest.raises(KeyFileError):
        load_key_file(path, lambda: PASSWORD)


@pytest.mark.parametrize(
    ("name", "password"),
    [("enc", None), ("scrypt", b"fixture-scrypt-1"), ("pbkdf2", b"fixture-pbkdf2-1")],
)
def test_key_files_of_a_real_client(fixtures_dir: Path, name: str, password: bytes | None) -> None:
    path = fixtures_dir / "keys" / f"{name}.key"
    key = load_key_file(path, None if password is None else lambda: password)
    assert format_fingerprint(key.fingerprint) == json.loads(path.read_text())["fingerprint"]
