"""A datastore's files, and what must be found in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from .formats import (
    CHUNK,
    Entry,
    Json,
    Key,
    blob,
    dynamic_index,
    fixed_index,
    kind_for,
    manifest_text,
    noise,
    sha256,
    signature,
)

MANIFEST, CLIENT_LOG = "index.json.blob", "client.log.blob"


def time_text(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def disk_path(ns: str) -> str:
    return "".join(f"ns/{name}/" for name in ns.split("/") if name)


@dataclass(frozen=True)
class Made:
    """A file of a snapshot: what a manifest says of it, and what is found in it."""

    listed: Json
    found: Json


@dataclass
class Store:
    """Collects files by their path. What is expected is in the form of ``expected.json``."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    namespaces: dict[str, list[Json]] = field(default_factory=dict)
    chunks: dict[str, Json] = field(default_factory=dict)

    @property
    def expected(self) -> Json:
        return {
            "datastore": self.name,
            "namespaces": [{"ns": ns, "groups": groups} for ns, groups in self.namespaces.items()],
            "chunks": {"count": len(self.chunks), "list": dict(sorted(self.chunks.items()))},
        }

    def chunk(self, content: bytes, key: Key | None = None) -> Entry:
        """Store a chunk; its place in an index."""
        digest = sha256(content) if key is None else key.digest(content)
        if digest in self.chunks:
            return Entry(digest, len(content))
        word = kind_for(content, key)
        # Whether a frame tells its size is the writer's choice: both are there.
        raw = blob(word, content, key, sized=int(digest[0], 16) < 8)
        self.files[f".chunks/{digest[:4]}/{digest}"] = raw
        self.chunks[digest] = {"type": word, "encoded-size": len(raw), "size": len(content)}
        return Entry(digest, len(content))

    def namespace(self, ns: str) -> None:
        self.namespaces[ns] = []

    def group(self, ns: str, name: str, owner: str, notes: str | None = None) -> Group:
        """Begin a group; groups are begun in the order in which they are listed."""
        path = f"{disk_path(ns)}{name}/"
        self.files[f"{path}owner"] = f"{owner}\n".encode()
        if notes is not None:
            self.files[f"{path}notes"] = notes.encode()
        expected = {
            "group": name,
            "owner": owner,
            "backup-count": 0,
            "last-backup": None,
            "comment": notes and "".join(notes.partition("\n")[:2]),
            "notes": notes or "",
            "snapshots": [],
        }
        self.namespaces[ns].append(expected)
        return Group(self, path, expected)


@dataclass
class Group:
    """A group that snapshots are added to, by time."""

    store: Store
    path: str
    expected: Json

    def dead(self, time: int, archives: Mapping[str, Sequence[bytes]], conf: bytes) -> None:
        """A snapshot without a manifest; an interrupted write lies beside its files."""
        made = [self._archive(time, name, contents, None) for name, contents in archives.items()]
        made.append(self._blob(time, "some.conf.blob", conf, None))
        self.store.files[f"{self.path}{time_text(time)}/more.tmp_didx"] = b"interrupted"
        names = [{"filename": file.listed["filename"]} for file in made]
        self._add(
            time,
            {
                "in-progress": True,
                "protected": False,
                "comment": None,
                "verification": None,
                "fingerprint": None,
                "api-size": None,
                "api-files": names,
                "files": [{"filename": file.listed["filename"], **file.found} for file in made],
            },
        )

    def snapshot(
        self,
        time: int,
        archives: Mapping[str, Sequence[bytes]],
        blobs: Mapping[str, bytes],
        *,
        key: Key | None = None,
        mode: str | None = None,
        notes: str | None = None,
        verified: str | None = None,
        protected: bool = False,
        log: bytes | None = None,
        rsa_key: bytes | None = None,
        packed: bool = False,
    ) -> Json:
        """A finished snapshot; its manifest.

        With a key it is encrypted, or signed alone where ``mode`` says so. ``packed``: the
        manifest's blob is a compressed one.
        """
        mode = mode or ("none" if key is None else "encrypt")
        sealing = key if mode == "encrypt" else None
        made = [self._archive(time, name, pieces, sealing) for name, pieces in archives.items()]
        made += [self._blob(time, name, content, sealing) for name, content in blobs.items()]
        if rsa_key is not None:
            made.append(self._blob(time, "rsa-encrypted.key.blob", rsa_key, None))
        manifest = self._manifest(time, [file.listed | {"crypt-mode": mode} for file in made])
        unprotected: Json = {"chunk_upload_stats": _statistics(archives)}
        if notes is not None:
            unprotected["notes"] = notes
        if verified is not None:
            unprotected["verify_state"] = {"state": verified, "upid": f"UPID:golden:{time}:"}
        if key is not None:
            unprotected["key-fingerprint"] = key.fingerprint
            manifest["signature"] = signature(manifest, key)
        manifest["unprotected"] = unprotected
        raw = blob("compressed" if packed else "uncompressed", manifest_text(manifest))
        self._finish(time, manifest, raw, made, sealing, protected, log)
        return manifest

    def _manifest(self, time: int, files: list[Json]) -> Json:
        backup_type, backup_id = self.expected["group"].split("/")
        return {
            "backup-type": backup_type,
            "backup-id": backup_id,
            "backup-time": time,
            "files": files,
            "signature": None,
        }

    def _finish(
        self,
        time: int,
        manifest: Json,
        raw: bytes,
        made: list[Made],
        sealing: Key | None,
        protected: bool,
        log: bytes | None,
    ) -> None:
        folder = f"{self.path}{time_text(time)}/"
        self.store.files[f"{folder}{MANIFEST}"] = raw
        if protected:
            self.store.files[f"{folder}.protected"] = b""
        signed = manifest["signature"] is not None
        shown = [
            {name: file[name] for name in ("filename", "crypt-mode", "size")}
            for file in manifest["files"]
        ]
        own = {"filename": MANIFEST, "crypt-mode": "sign-only" if signed else "none"}
        shown.append(own | {"size": len(raw)})
        unprotected = manifest["unprotected"]
        notes = unprotected.get("notes")
        expected: Json = {
            "in-progress": False,
            "protected": protected,
            "comment": notes and notes.partition("\n")[0],
            "notes": notes,
            "verification": unprotected.get("verify_state"),
            "fingerprint": unprotected.get("key-fingerprint"),
            "api-size": sum(file["size"] for file in shown),
            "api-files": shown,
            "files": [
                listed | file.found for listed, file in zip(manifest["files"], made, strict=True)
            ],
            "manifest": {"signature": manifest["signature"], "unprotected": unprotected},
        }
        if log is not None:
            found = self._blob(time, CLIENT_LOG, log, sealing)
            expected["client-log"] = {"size": found.listed["size"], **found.found["blob"]}
            shown.append({"filename": CLIENT_LOG})
        self._add(time, expected)

    def _add(self, time: int, expected: Json) -> None:
        snapshots = self.expected["snapshots"]
        snapshots.append({"backup-time": time, "dir": time_text(time), **expected})
        self.expected["backup-count"] = len(snapshots)
        finished = [entry for entry in snapshots if not entry["in-progress"]] or snapshots
        self.expected["last-backup"] = finished[-1]["backup-time"]

    def _archive(self, time: int, name: str, contents: Sequence[bytes], key: Key | None) -> Made:
        entries = [self.store.chunk(content, key) for content in contents]
        fixed = name.endswith(".fidx")
        uuid, ctime = noise(f"uuid of {name} {time}", 16), time + 7
        raw, csum = (fixed_index if fixed else dynamic_index)(entries, uuid, ctime)
        self.store.files[f"{self.path}{time_text(time)}/{name}"] = raw
        ends = list(accumulate(entry.size for entry in entries))
        found = {
            "kind": "fixed" if fixed else "dynamic",
            "uuid": uuid.hex(),
            "ctime": ctime,
            "csum": csum,
            "size": ends[-1],
            "entries": len(entries),
            "first-digest": entries[0].digest,
            "last-digest": entries[-1].digest,
            "distinct-digests": len({entry.digest for entry in entries}),
            "content-sha256": sha256(b"".join(contents)),
        }
        if fixed:
            found["chunk-size"] = CHUNK
        else:
            found["end-offsets"] = ends
        listed = {"filename": name, "size": ends[-1], "csum": csum}
        return Made(listed, {"index": found})

    def _blob(self, time: int, name: str, content: bytes, key: Key | None) -> Made:
        word = kind_for(content, key)
        raw = blob(word, content, key)
        self.store.files[f"{self.path}{time_text(time)}/{name}"] = raw
        found = {"type": word, "content-size": len(content), "content-sha256": sha256(content)}
        listed = {"filename": name, "size": len(raw), "csum": sha256(raw)}
        return Made(listed, {"blob": found})


def _statistics(archives: Mapping[str, Sequence[bytes]]) -> dict[str, Any]:
    contents = [content for pieces in archives.values() for content in pieces]
    return {
        "count": len(contents),
        "size": sum(len(content) for content in contents),
        "compressed_size": 1000 * len(contents),
        "duplicates": 0,
    }
