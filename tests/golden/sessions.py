"""Sessions of the backup protocol about the golden datastore, by protocol/backup.md.

A script is a list of sessions, one after another, at a target whose datastore ``copy`` is empty at
first. A session has the parameters of its upgrade and the answer to it, its ``steps``, each with a
request and its answer, and the ``same`` files: what lies at the target in the end is what lies in
the golden datastore. Where the answer is a refusal, ``body`` is a part of its text.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from .answers import BACKER, COPY, NOBODY
from .content import DAY, FIRST, TOKEN
from .formats import CHUNK, MAGICS, Entry, Json, blob, dynamic_index, fixed_index
from .store import CLIENT_LOG, MANIFEST, Store, time_text


def params_of(group: str, time: int, ns: str = "") -> Json:
    backup_type, backup_id = group.split("/")
    return {
        "store": COPY,
        "ns": ns,
        "backup-type": backup_type,
        "backup-id": backup_id,
        "backup-time": time,
    }


def upgrade(
    params: Json, status: int = 101, body: str = "", auth: str | None = TOKEN, **request: Any
) -> Json:
    """A session without steps."""
    asked = {name.replace("_", "-"): value for name, value in request.items()}
    request = {"params": params, "auth": auth or "none"} | asked
    return {"request": request, "status": status, "body": body}


@dataclass
class Script:
    """The steps of one session."""

    store: Store
    session: Json
    writers: int = 0
    known: set[str] = field(default_factory=set)

    def step(
        self,
        method: str,
        path: str,
        params: Json | None = None,
        status: int = 200,
        body: Any = None,
        **request: Any,
    ) -> None:
        """``request``: ``json``, ``hex``, or ``file``: of the datastore, or the chunk's."""
        answer = {"data": body} if status == 200 else body or ""
        asked = {"method": method, "path": path, "params": params} | request
        steps = self.session.setdefault("steps", [])
        steps.append({"request": asked, "status": status, "body": answer})

    def create(self, name: str, status: int = 200, body: Any = None, **params: Any) -> int:
        """Open a writer; its id."""
        kind = kind_of(name)
        asked = {"archive-name": name} | {k.replace("_", "-"): v for k, v in params.items()}
        if status == 200:
            self.writers += 1
            body = self.writers
        self.step("POST", f"/{kind}_index", asked, status, body)
        return self.writers

    def chunk(self, kind: str, wid: int, digest: str) -> None:
        """Upload a chunk as it lies in the store, unless the target knows it."""
        if digest in self.known:
            return
        self.known.add(digest)
        about = self.store.chunks[digest]
        size = {"size": about["size"], "encoded-size": about["encoded-size"]}
        asked = {"wid": wid, "digest": digest, **size}
        self.step("POST", f"/{kind}_chunk", asked, 200, digest, file="chunk")

    def put(
        self,
        kind: str,
        wid: int,
        entries: list[tuple[str, int]],
        status: int = 200,
        body: Any = None,
    ) -> None:
        """Append entries: digests and start offsets."""
        lists = {
            "wid": wid,
            "digest-list": [digest for digest, _ in entries],
            "offset-list": [offset for _, offset in entries],
        }
        self.step("PUT", f"/{kind}_index", None, status, body, json=lists)

    def close(
        self,
        kind: str,
        wid: int,
        count: int,
        size: int,
        csum: str,
        status: int = 200,
        body: Any = None,
    ) -> None:
        asked = {"wid": wid, "chunk-count": count, "size": size, "csum": csum}
        self.step("POST", f"/{kind}_close", asked, status, body)

    def blob(self, path: str) -> None:
        """Upload a blob as it lies in the store."""
        size = len(self.store.files[path])
        asked = {"file-name": path.rpartition("/")[2], "encoded-size": size}
        self.step("POST", "/blob", asked, file=path)

    def own_blob(self, name: str, raw: bytes, status: int = 200, body: Any = None) -> None:
        asked = {"file-name": name, "encoded-size": len(raw)}
        self.step("POST", "/blob", asked, status, body, hex=raw.hex())

    def previous(self, path: str) -> None:
        """Get an index of the snapshot before, which makes its chunks known."""
        name = path.rpartition("/")[2]
        self.step("GET", "/previous", {"archive-name": name}, 200, file=path)
        self.known = {entry.digest for entry in entries_of(self.store, self.store.files[path])}

    def archive(self, name: str, entries: list[Entry], csum: str) -> None:
        """Upload a whole index."""
        kind = kind_of(name)
        size = sum(entry.size for entry in entries)
        wid = self.create(name, **({"size": size} if kind == "fixed" else {}))
        for entry in entries:
            self.chunk(kind, wid, entry.digest)
        self.put(kind, wid, placed(entries))
        self.close(kind, wid, len(entries), size, csum)

    def finish(self, status: int = 200, body: Any = None) -> None:
        self.step("POST", "/finish", None, status, body)


def text_blob(content: bytes) -> bytes:
    return blob("uncompressed", content)


def kind_of(name: str) -> str:
    return "fixed" if name.endswith(".fidx") else "dynamic"


def placed(entries: list[Entry]) -> list[tuple[str, int]]:
    """Digests with the offsets at which they start."""
    starts = [sum(entry.size for entry in entries[:at]) for at in range(len(entries))]
    return [(entry.digest, start) for entry, start in zip(entries, starts, strict=True)]


def entries_of(store: Store, raw: bytes) -> list[Entry]:
    """The entries of an index's file."""
    fixed = struct.unpack_from("<Q", raw, 72)[0] != 0
    width = 32 if fixed else 40
    digests = [raw[at + width - 32 : at + width].hex() for at in range(4096, len(raw), width)]
    return [Entry(digest, store.chunks[digest]["size"]) for digest in digests]


def scripts(store: Store) -> dict[str, Json]:
    made = {
        "images": _images(store),
        "trees": _trees(store),
        "sealed": _sealed(store),
        "refused": _refused(),
        "fixed": _fixed(store),
        "dynamic": _dynamic(store),
        "blobs": _blobs(store),
        "finish": _finish(store),
    }
    return {name: {"sessions": sessions} for name, sessions in made.items()}


# -- whole snapshots, as they lie in the golden datastore --


def _begin(store: Store, group: str, time: int) -> tuple[Script, Json, str]:
    """A session for a snapshot of the store, what is expected of that, and its folder."""
    (snapshot,) = (
        snapshot
        for entry in store.namespaces[""]
        for snapshot in entry["snapshots"]
        if (entry["group"], snapshot["backup-time"]) == (group, time)
    )
    return Script(store, upgrade(params_of(group, time))), snapshot, f"{group}/{time_text(time)}/"


def _end(script: Script, snapshot: Json, folder: str) -> Json:
    """Send the blobs, the manifest last, and finish."""
    for file in snapshot["files"]:
        if "blob" in file:
            script.blob(f"{folder}{file['filename']}")
    names = [file["filename"] for file in snapshot["files"]]
    if "client-log" in snapshot:
        script.blob(f"{folder}{CLIENT_LOG}")
        names.append(CLIENT_LOG)
    script.blob(f"{folder}{MANIFEST}")
    script.finish()
    chunks = [f".chunks/{digest[:4]}/{digest}" for digest in sorted(script.known)]
    script.session["same"] = [f"{folder}{name}" for name in [*names, MANIFEST]] + chunks
    return script.session


def _whole(store: Store, group: str, time: int) -> Json:
    """A snapshot without anything that is known before."""
    script, snapshot, folder = _begin(store, group, time)
    for file in snapshot["files"]:
        if "index" in file:
            name, csum = file["filename"], file["csum"]
            script.archive(name, entries_of(store, store.files[f"{folder}{name}"]), csum)
    return _end(script, snapshot, folder)


def _images(store: Store) -> list[Json]:
    """One with all chunks, one with the previous one's, an unchanged one, one that grew."""
    name, group = "drive-scsi0.img.fidx", "vm/101"

    def of(time: int) -> tuple[list[Entry], str]:
        raw = store.files[f"{group}/{time_text(time)}/{name}"]
        return entries_of(store, raw), raw[32:64].hex()

    sessions = [_whole(store, group, FIRST)]
    (_, old_csum), (after, csum) = of(FIRST), of(FIRST + DAY)

    script, snapshot, folder = _begin(store, group, FIRST + DAY)
    script.step("GET", "/previous_backup_time", None, 200, FIRST)
    script.step("GET", "/previous", {"archive-name": "none.fidx"}, 400)
    script.step(
        "GET", "/previous", {"archive-name": name}, 200, file=f"{group}/{time_text(FIRST)}/{name}"
    )
    script.archive(name, after, csum)
    sessions.append(_end(script, snapshot, folder))

    script, snapshot, folder = _begin(store, group, FIRST + 2 * DAY)
    size = sum(entry.size for entry in after)
    script.create(name, 400, "", size=size, reuse_csum=old_csum)
    script.create(name, 400, "", size=size + 1, reuse_csum=csum)
    script.create(name, 400, "", size=size, reuse_csum=csum.upper())
    wid = script.create(name, size=size, reuse_csum=csum)
    script.put("fixed", wid, [(after[0].digest, 0)], 400, "no such chunk")
    script.close("fixed", wid, 0, size, csum)
    sessions.append(_end(script, snapshot, folder))

    grown, csum = of(FIRST + 3 * DAY)
    script, snapshot, folder = _begin(store, group, FIRST + 3 * DAY)
    script.step(
        "GET",
        "/previous",
        {"archive-name": name},
        200,
        file=f"{group}/{time_text(FIRST + 2 * DAY)}/{name}",
    )
    script.archive(name, grown, csum)
    sessions.append(_end(script, snapshot, folder))

    older = "backup timestamp is older than last backup."
    sessions += [
        upgrade(params_of(group, FIRST + 3 * DAY), 400, older),
        upgrade(params_of(group, FIRST + DAY), 400, older),
    ]
    return sessions


def _trees(store: Store) -> list[Json]:
    return [_whole(store, "host/pc", time) for time in (FIRST + 60, FIRST + DAY)]


def _sealed(store: Store) -> list[Json]:
    sealed = [_whole(store, "host/sealed", time) for time in (FIRST, FIRST + DAY)]
    return [*sealed, _whole(store, "host/signed", FIRST)]


# -- refusals --


def _refused() -> list[Json]:
    """Upgrades that come to nothing."""
    good = params_of("vm/1", FIRST)
    right = "missing permissions 'Datastore.Backup' on '/datastore/copy'"
    rootless = {name: value for name, value in good.items() if name != "ns"}
    protocol = {"Upgrade": "proxmox-backup-protocol-v1", "Connection": "Upgrade"}
    return [
        upgrade(good | {"store": "nowhere"}, 400, "no such datastore 'nowhere'"),
        upgrade(good | {"store": "closed"}, 400, "maintenance mode"),
        upgrade(good | {"store": "resting"}, 400, "maintenance mode"),
        upgrade(good, 400, "missing Upgrade header", headers={"Connection": "Upgrade"}),
        upgrade(good, 400, "invalid protocol name", headers=protocol | {"Upgrade": "websocket"}),
        upgrade(good | {"ns": "none"}, 404, "namespace not found"),
        upgrade(good | {"ns": "a//b"}, 400),
        upgrade(good | {"benchmark": 1}, 400),
        upgrade(good | {"backup-type": "host", "backup-id": "benchmark"}, 400),
        upgrade(good | {"backup-time": 0}, 400),
        upgrade(good | {"backup-time": -1}, 400),
        upgrade(good | {"backup-time": "now"}, 400),
        upgrade(good | {"backup-type": "qemu"}, 400),
        upgrade(good | {"backup-id": ".."}, 400),
        upgrade(good | {"odd": 1}, 400),
        upgrade({name: good[name] for name in list(good)[:-1]}, 400),
        upgrade(good, 404, method="POST"),
        upgrade(good, 401, "authentication failed", None),
        upgrade(good, 401, "authentication failed", secret="wrong"),
        upgrade(good, 403, right, NOBODY),
        upgrade(good | {"ns": "none"}, 403, "/datastore/copy/none", NOBODY),
        # And those that do come about.
        upgrade(good | {"debug": 1}),
        upgrade(good | {"no-cache": 1}),
        upgrade(rootless, headers={"Upgrade": protocol["Upgrade"]}),
        upgrade(good, auth=BACKER),
        upgrade(good | {"backup-type": "host", "backup-id": "benchmark", "benchmark": 1}),
    ]


def _image(store: Store) -> list[Entry]:
    raw = store.files[f"vm/101/{time_text(FIRST)}/drive-scsi0.img.fidx"]
    return entries_of(store, raw)


def _tree(store: Store) -> list[Entry]:
    return entries_of(store, store.files[f"host/pc/{time_text(FIRST + 60)}/root.pxar.didx"])


def _fixed(store: Store) -> list[Json]:
    """A writer of an image, asked for what it refuses, and then right."""
    script = Script(store, upgrade(params_of("vm/1", FIRST)))
    boot, zeros, *_ = entries = _image(store)[:2]
    csum = fixed_index(entries, bytes(16), 0)[1]
    script.create("a.img", 400, body="", size=1)
    script.step("POST", "/fixed_index", {"archive-name": "a.didx", "size": 1}, 400)
    script.create("../a.fidx", 400, body="", size=1)
    script.create("a.fidx", 400, body="", size=0)
    script.create("a.fidx", 400, body="", size=2 * CHUNK, reuse_csum="00" * 32)
    wid = script.create("a.fidx", size=2 * CHUNK)
    script.put("fixed", wid, [(boot.digest, 0)], 400, "no such chunk")
    script.chunk("fixed", wid, boot.digest)
    script.chunk("fixed", wid, zeros.digest)
    script.put("dynamic", wid, [(boot.digest, 0)], 400, "not registered")
    script.put("fixed", wid + 1, [(boot.digest, 0)], 400, "not registered")
    script.put("fixed", wid + 1, [])
    script.put("fixed", wid, [(boot.digest, 4096)], 400)
    script.put("fixed", wid, [(boot.digest, 2 * CHUNK)], 400)
    script.put("fixed", wid, [(zeros.digest, CHUNK)])
    script.close("fixed", wid, 2, 2 * CHUNK, csum, 400)
    script.put("fixed", wid, [(boot.digest, 0)])
    script.close("fixed", wid, 1, 2 * CHUNK, csum, 400)
    script.close("fixed", wid, 2, CHUNK, csum, 400)
    script.close("fixed", wid, 2, 2 * CHUNK, csum)
    script.close("fixed", wid, 2, 2 * CHUNK, csum, 400, "not registered")
    wid = script.create("b.fidx", size=2 * CHUNK)
    script.put("fixed", wid, placed([zeros, zeros]))
    script.close("fixed", wid, 2, 2 * CHUNK, csum, 400)
    script.close(
        "fixed", wid, 2, 2 * CHUNK, fixed_index([zeros] * 2, bytes(16), 0)[1], 400, "already closed"
    )
    return [script.session]


def _dynamic(store: Store) -> list[Json]:
    """The same with a tree: offsets are those where chunks start."""
    script = Script(store, upgrade(params_of("host/a", FIRST)))
    entries = _tree(store)
    first, second, *_ = entries
    size, csum = sum(entry.size for entry in entries), dynamic_index(entries, bytes(16), 0)[1]
    script.step("POST", "/dynamic_index", {"archive-name": "a.fidx"}, 400)
    wid = script.create("a.didx")
    for entry in entries:
        script.chunk("dynamic", wid, entry.digest)
    script.put("dynamic", wid, [(first.digest, first.size)], 400)
    script.put("dynamic", wid, [(first.digest, 0)])
    script.put("dynamic", wid, [(second.digest, 0)], 400)
    script.close("dynamic", wid, 0, 0, csum, 400)
    script.put("dynamic", wid, placed(entries)[1:])
    script.close("dynamic", wid, 2, size, csum, 400)
    script.close("dynamic", wid, 3, size + 1, csum, 400)
    script.close("dynamic", wid, 3, size, csum)
    raw = store.files[f".chunks/{first.digest[:4]}/{first.digest}"]
    wid = script.create("b.didx")
    asked = {"wid": wid, "digest": first.digest, "size": first.size, "encoded-size": len(raw)}

    def refuse(raw: bytes, **changes: Any) -> None:
        changed = asked | {name.replace("_", "-"): value for name, value in changes.items()}
        script.step("POST", "/dynamic_chunk", changed, 400, "", hex=raw.hex())

    refuse(raw, digest=first.digest.upper())
    refuse(raw, digest=second.digest)
    refuse(raw, size=first.size - 1)
    refuse(raw, size=(16 << 20) + 1)
    refuse(raw, encoded_size=len(raw) - 1)
    refuse(raw, encoded_size=len(raw) + 1)
    refuse(raw + b"\0", encoded_size=len(raw) + 1)
    refuse(b"nonsense" + raw[8:])
    refuse(raw, wid=9)
    # The CRC of a chunk is not looked at, and a known chunk may come again.
    script.step(
        "POST",
        "/dynamic_chunk",
        asked,
        200,
        first.digest,
        hex=(raw[:8] + bytes(4) + raw[12:]).hex(),
    )
    script.session["same"] = [f".chunks/{first.digest[:4]}/{first.digest}"]
    return [script.session]


def _blobs(store: Store) -> list[Json]:
    script = Script(store, upgrade(params_of("host/a", FIRST)))
    good = text_blob(b"some text")
    script.own_blob("a.blob", good)
    script.own_blob("a.blob", text_blob(b"another text"))
    script.own_blob("a.conf", good, 400)
    script.own_blob("../a.blob", good, 400)
    script.own_blob("b.blob", good[:8] + bytes(4) + good[12:], 400, "CRC")
    script.own_blob("b.blob", b"nonsense" + good[8:], 400)
    script.own_blob("b.blob", good[:11], 400)
    asked = {"file-name": "b.blob", "encoded-size": len(good) + 1}
    script.step("POST", "/blob", asked, 400, "", hex=good.hex())
    sealed = MAGICS["encrypted"] + struct.pack("<I", zlib.crc32(b"x")) + bytes(32) + b"x"
    script.own_blob("c.blob", sealed)
    script.step("GET", "/previous_backup_time")
    script.step("GET", "/previous", {"archive-name": "a.blob"}, 400, "no valid previous backup")
    script.step("POST", "/speedtest", None, hex="00" * 1000)
    script.step("GET", "/nothing", None, 404)
    script.step("DELETE", "/finish", None, 404)
    return [script.session]


def _finish(store: Store) -> list[Json]:
    """Each session ends in another way; what is not finished leaves nothing behind."""

    def session(number: int) -> Script:
        return Script(store, upgrade(params_of("host/a", FIRST + number)))

    manifest = f"host/pc/{time_text(FIRST + 60)}/{MANIFEST}"
    sealed = MAGICS["encrypted"] + struct.pack("<I", zlib.crc32(b"x")) + bytes(32) + b"x"
    done = []
    nothing = session(0)
    nothing.finish(400, "backup does not contain valid files")
    nothing.own_blob("a.blob", text_blob(b"some text"))
    nothing.finish(400, "unable to update manifest blob")
    nothing.blob(manifest)
    nothing.finish(400, "backup is already in the process of finishing")
    done.append(nothing.session)
    for number, raw in enumerate((text_blob(b"no JSON"), text_blob(b'{"files":[]}'), sealed), 1):
        broken = session(number)
        broken.own_blob(MANIFEST, raw)
        broken.finish(400, "unable to update manifest blob")
        done.append(broken.session)
    mended = session(4)
    first = _tree(store)[0]
    wid = mended.create("a.didx")
    mended.chunk("dynamic", wid, first.digest)
    mended.put("dynamic", wid, [(first.digest, 0)])
    mended.blob(manifest)
    mended.finish(400, "found open index writer")
    csum = dynamic_index([first], bytes(16), 0)[1]
    mended.close("dynamic", wid, 1, first.size, csum)
    mended.finish()
    mended.finish(400, "backup already marked as finished")
    mended.create("b.didx", 400, "backup already marked as finished")
    mended.step("POST", "/speedtest", None, hex="00")
    done.append(mended.session)
    done.append(upgrade(params_of("host/a", FIRST + 4), 400, "backup timestamp is older"))
    foreign = "backup owner check failed (backer@pbs != sync@pbs!job)"
    done.append(upgrade(params_of("host/a", FIRST + 5), 400, foreign, BACKER))
    return done
