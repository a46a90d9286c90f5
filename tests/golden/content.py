"""What the golden datastore holds, and the keys and manifests beside it."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

from .formats import (
    CHUNK,
    MAGICS,
    WORDS,
    Entry,
    Json,
    Key,
    blob,
    colon_hex,
    dynamic_index,
    fixed_index,
    key_file,
    kind_for,
    manifest_text,
    noise,
    sha256,
    signature,
)
from .store import Store

USER, TOKEN, BACKER = "sync@pbs", "sync@pbs!job", "backer@pbs"
NAME = "golden"
DAY = 86_400
FIRST = 1_770_000_000
"""2026-02-02T02:40:00Z."""

KEY = Key(bytes(range(100, 132)))
PASSWORD = "pässword of the golden set"

_SALT = base64.b64encode(noise("salt", 32)).decode()


def text(label: str, size: int) -> bytes:
    """A line, and then one byte over and over: long, but short once it is compressed."""
    line = f"{label}\n".encode()
    return line + bytes([len(label)]) * (size - len(line))


def whole(label: str) -> bytes:
    """A whole chunk of an image."""
    return text(label, CHUNK)


DISK = [whole("boot"), bytes(CHUNK), whole("data"), bytes(CHUNK)]
CHANGED = [whole("boot"), whole("changed"), *DISK[2:]]
GROWN = [*CHANGED, noise("grown by less than a chunk", 1500)]
TREE = [text("etc", 70_000), text("home", 200_000), noise("the last of a tree", 900)]
CATALOG = [noise("catalog", 120)]
CONF = {"qemu-server.conf.blob": b"cores: 2\nname: golden\nmemory: 2048\n"}
HOSTS = {"hosts.conf.blob": b"127.0.0.1 localhost\n" + b"#" * 200 + b"\n"}


@dataclass(frozen=True)
class Golden:
    """All that the golden set is made of."""

    store: Store
    manifests: dict[str, Json]
    """By group and number, those that an encrypting push has copies of."""


def golden() -> Golden:
    store = Store(NAME)
    store.files[".lock"] = b""
    store.namespace("")
    _containers(store)
    hosts = _hosts(store)
    images = _images(store)
    store.namespace("bare")
    store.files["ns/bare/readme.txt"] = b"A file that is none of PBS's.\n"
    deep = [f"d{depth}" for depth in range(1, 8)]
    for depth in range(1, 8):
        store.namespace("/".join(deep[:depth]))
    group = store.group("/".join(deep), "host/deep", USER)
    group.snapshot(FIRST + 5 * DAY, {"root.pxar.didx": [text("deep", 65_536)]}, {}, verified="ok")
    store.namespace("site")
    group = store.group("site", "vm/101", TOKEN, "One line without its end")
    disks = {"drive-scsi0.img.fidx": DISK[:2], "drive-scsi1.img.fidx": [noise("short", 512)]}
    group.snapshot(FIRST + DAY, disks, CONF)
    return Golden(store, {"host/pc": hosts, "vm/3": images})


def _containers(store: Store) -> None:
    group = store.group("", "ct/7", USER)
    group.dead(FIRST, {"root.pxar.didx": TREE[:2]}, b"arch: amd64\n")
    group = store.group("", "ct/30", TOKEN)
    archives = {"root.pxar.didx": TREE, "catalog.pcat1.didx": CATALOG}
    group.snapshot(FIRST, archives, {"pct.conf.blob": b"arch: amd64\n"}, protected=True)
    archives = {"root.pxar.didx": [TREE[0], text("new home", 180_000), TREE[2]]}
    group.snapshot(FIRST + 2 * DAY, archives, {"pct.conf.blob": b"arch: arm64\n"}, verified="ok")


def _hosts(store: Store) -> Json:
    store.group("", "host/nothing", USER)
    group = store.group("", "host/pc", USER, "Der Rechner im Büro\nzweite Zeile")
    archives = {"root.pxar.didx": TREE, "catalog.pcat1.didx": CATALOG}
    first = group.snapshot(FIRST + 60, archives, HOSTS, notes="vor dem Umzug ✓\nund danach\n")
    archives = {"root.mpxar.didx": [text("names", 4000)], "root.ppxar.didx": TREE[:2]}
    group.snapshot(FIRST + DAY, archives, HOSTS, notes="split", verified="ok", packed=True)
    store.files["host/pc/attic/readme.txt"] = b"A folder that is no snapshot.\n"
    group = store.group("", "host/sealed", USER)
    archives = {"root.pxar.didx": TREE, "catalog.pcat1.didx": CATALOG}
    group.snapshot(FIRST, archives, HOSTS, key=KEY, log=b"all is well, and sealed\n")
    images = {"disk.img.fidx": [*DISK[:2], noise("sealed tail", 700)]}
    group.snapshot(FIRST + DAY, images, CONF, key=KEY, rsa_key=noise("a key, sealed by RSA", 512))
    group = store.group("", "host/signed", USER)
    group.snapshot(FIRST, {"root.pxar.didx": TREE}, HOSTS, key=KEY, mode="sign-only")
    return first


def _images(store: Store) -> Json:
    group = store.group("", "vm/3", BACKER)
    image = {"drive-virtio0.img.fidx": [noise("one short chunk", 1024)]}
    only = group.snapshot(FIRST + 30, image, CONF, verified="failed")
    group = store.group("", "vm/101", USER)
    group.snapshot(FIRST, {"drive-scsi0.img.fidx": DISK}, CONF, protected=True)
    group.snapshot(FIRST + DAY, {"drive-scsi0.img.fidx": CHANGED}, CONF, notes="äöü\nmore")
    log = b"INFO: done\n" * 4
    group.snapshot(FIRST + 2 * DAY, {"drive-scsi0.img.fidx": CHANGED}, CONF, log=log)
    group.snapshot(FIRST + 3 * DAY, {"drive-scsi0.img.fidx": GROWN}, CONF, verified="ok")
    group.dead(FIRST + 4 * DAY, {"drive-scsi0.img.fidx": GROWN}, b"cores: 4\n")
    group = store.group("", "vm/desk", USER)
    group.snapshot(FIRST, {"disk.img.fidx": [text("desk", 3 << 20)]}, {})
    return only


def pushed(manifest: Json, archives: dict[str, list[bytes]], blobs: dict[str, bytes]) -> Json:
    """The manifest that an encrypting push of a snapshot under `KEY` writes."""
    files = []
    for file in manifest["files"]:
        name = file["filename"]
        if name in archives:
            entries = [Entry(KEY.digest(data), len(data)) for data in archives[name]]
            make = fixed_index if name.endswith(".fidx") else dynamic_index
            csum = make(entries, bytes(16), 0)[1]
            files.append({**file, "crypt-mode": "encrypt", "csum": csum})
        else:
            raw = blob(kind_for(blobs[name], KEY), blobs[name], KEY)
            made = {"crypt-mode": "encrypt", "size": len(raw), "csum": sha256(raw)}
            files.append({**file, **made})
    copy = {**manifest, "files": files}
    copy["signature"] = signature(copy, KEY)
    copy["unprotected"] = {
        **manifest["unprotected"],
        "key-fingerprint": KEY.fingerprint,
        "sync-source-signature": colon_hex(bytes.fromhex(signature(manifest, KEY))),
    }
    return copy


def key_files() -> dict[str, tuple[Json, Json]]:
    """Key files by their names, with what is in them."""
    scrypt = {"Scrypt": {"n": 65_536, "r": 8, "p": 1, "salt": _SALT}}
    pbkdf2 = {"PBKDF2": {"iter": 65_535, "salt": _SALT}}
    other = Key(noise("another key", 32))
    password = PASSWORD.encode()
    made: dict[str, tuple[Key, Json, str | None]] = {
        "enc": (KEY, key_file(KEY, None), None),
        "scrypt": (other, key_file(other, scrypt, password, "in the golden set"), PASSWORD),
        "pbkdf2": (KEY, key_file(KEY, pbkdf2, password), PASSWORD),
    }
    return {
        name: (
            members,
            {"enc-key": key.enc_key.hex(), "password": secret, "fingerprint": key.fingerprint},
        )
        for name, (key, members, secret) in made.items()
    }


SENTENCE = (
    b"Chunks, manifests, logs and all other blobs have this form, and this one is of text. " * 9
)

ZSTD_OF_A_LIBRARY = bytes.fromhex(
    "28b52ffd00486d020052c51016a025cd01e0ff068410fbb3ed6f6dd1ef57c2ca40d5d70f59a8bce035d7e13596"
    "174713e3c0728de54520bb041ee2a32cf173e8e2e806f04c9aad628e8c490537304001005529ac0a51"
)
"""`SENTENCE` as libzstd 1.5.7 compresses it at level 1, where it is not told the size: as it is
here, since another version may find another way."""


def sample_blobs() -> dict[str, tuple[bytes, Json]]:
    """A blob of each kind, short and long, with its kind and content."""
    contents = {"short": b"abcde", "long": SENTENCE + bytes(900), "empty": b""}
    found = {}
    for word in WORDS:
        for name, content in contents.items():
            raw = blob(word, content, KEY, sized=name != "long")
            about = {"type": word, "size": len(content), "sha256": sha256(content)}
            found[f"{word}-{name}.blob"] = (raw, about)
    about = {"type": "compressed", "size": len(SENTENCE), "sha256": sha256(SENTENCE)}
    crc = zlib.crc32(ZSTD_OF_A_LIBRARY).to_bytes(4, "little")
    found["compressed-library.blob"] = (MAGICS["compressed"] + crc + ZSTD_OF_A_LIBRARY, about)
    return found


def pushed_manifests(made: Golden) -> dict[str, bytes]:
    archives = {"root.pxar.didx": TREE, "catalog.pcat1.didx": CATALOG}
    host = pushed(made.manifests["host/pc"], archives, HOSTS)
    image = {"drive-virtio0.img.fidx": [noise("one short chunk", 1024)]}
    short = pushed(made.manifests["vm/3"], image, CONF)
    return {"host-pc": manifest_text(host), "vm-3": manifest_text(short)}
