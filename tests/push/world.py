"""Both sides of a push, small enough to make one for each test: two datastores, and a target."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep
from typing import Any

from pbs_push import (
    Datastore,
    Event,
    Note,
    Push,
    PushOptions,
    Removal,
    Report,
    SnapshotEnded,
    Target,
)
from pbs_push.access.acl import Acl
from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.rights import Access
from pbs_push.cli.event_lines import describe
from pbs_push.demo.pieces import Piece, SampleBytes
from pbs_push.demo.store_writer import SampleSnapshot, StoreWriter
from pbs_push.demo.verify import verify_target
from pbs_push.formats.blob import decode_blob
from pbs_push.formats.index import open_index
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest
from pbs_push.names import MANIFEST_NAME, AuthId, Group, Namespace, Snapshot, format_backup_time
from pbs_push.push.plan import Plan
from pbs_push.target import CounterValues, Faults, Identities, TargetOptions, TargetServer
from pbs_push.target.locks import DirectoryLock, try_lock
from pbs_push.target.store import create_datastore

SECRET = "secret"
ME = "push@pbs!job"
"""The remote user of most tests: an API token."""
MY_USER = "push@pbs"
STRANGER = "stranger@pbs"
FIRST = 1_780_000_000
DAY = 86_400
CHUNK = 4 << 20
STORE = "store1"

SMALL = {"disk.img.fidx": ("a",), "root.pxar.didx": ("b", "c")}
"""Archives of most snapshots, by name; a piece is a label, or a whole Piece."""


ALICE = AuthId.parse("alice@pbs")
"""The local user of tests with an access control list."""
MAY_ALL_AT_REMOTE = "acl:1:/remote/far:alice@pbs:RemoteDatastoreAdmin\n"
READER = "acl:1:/datastore/source:alice@pbs:DatastoreReader\n"


def time(number: int) -> int:
    """The time of a group's snapshot: one a day."""
    return FIRST + number * DAY


def filters(*texts: str) -> GroupFilters:
    return GroupFilters(tuple(GroupFilter.parse(text) for text in texts))


def access(text: str, user: AuthId = ALICE) -> dict[str, Any]:
    """Options of a push under this access control list, to the remote ``far``."""
    return {
        "access": Access(Acl.parse(text, "acl.cfg"), user),
        "source_name": "source",
        "remote_name": "far",
    }


def only(*privileges: str) -> Identities:
    """Identities of a target that may do just this, everywhere."""
    held = frozenset(f"Datastore.{name}" for name in privileges)
    return Identities.simple({ME: SECRET}, privileges=lambda _who, _path: held)


def hold_lock(folder: Path) -> DirectoryLock:
    """What a running backup, or a restore, holds."""
    lock = try_lock(folder, exclusive=False)
    assert lock is not None
    return lock


@dataclass
class Store:
    """A datastore's directory that tests write to, on either side."""

    path: Path
    key: CryptKey = field(default_factory=lambda: CryptKey(bytes(range(32))))

    def __post_init__(self) -> None:
        if not self.path.exists():
            create_datastore(self.path, all_chunk_folders=False)
        self.writer = StoreWriter(self.path, SampleBytes(1))

    def group(self, name: str, *, ns: str = "", owner: str = ME, notes: str | None = None) -> Path:
        """Make a group without snapshots; its folder."""
        namespace = Namespace.parse(ns)
        self.writer.group(namespace, name, owner, notes)
        return self.path / namespace.disk_path / name

    def add(
        self,
        name: str,
        *numbers: int,
        ns: str = "",
        owner: str = ME,
        archives: Mapping[str, Sequence[str | Piece]] = SMALL,
        blobs: Mapping[str, bytes] | None = None,
        encrypted: bool = False,
        **more: Any,
    ) -> Path:
        """Write snapshots, and the group if there is none; the folder of the last one."""
        namespace = Namespace.parse(ns)
        folder = self.path / namespace.disk_path / name
        if not folder.exists():
            self.group(name, ns=ns, owner=owner)
        key = self.key if encrypted else None
        for number in numbers:
            made = {
                archive: self.writer.chunks([_piece(piece) for piece in pieces], key)
                for archive, pieces in archives.items()
            }
            snapshot = Snapshot(Group.parse(name), time(number))
            contents = {"some.conf.blob": b"line\n" * 9} if blobs is None else blobs
            self.writer.snapshot(SampleSnapshot(namespace, snapshot, made, contents, key, **more))
        return folder / format_backup_time(time(numbers[-1]))

    def folder(self, name: str, number: int, *, ns: str = "") -> Path:
        path = self.path / Namespace.parse(ns).disk_path / name
        return path / format_backup_time(time(number))

    def times(self, name: str, *, ns: str = "") -> list[int]:
        """Numbers of the snapshots that a group has."""
        folder = self.path / Namespace.parse(ns).disk_path / name
        known = {format_backup_time(time(number)): number for number in range(-5, 60)}
        return sorted(known[path.name] for path in folder.glob("*Z"))

    def has(self, name: str, *, ns: str = "") -> bool:
        return (self.path / Namespace.parse(ns).disk_path / name).is_dir()

    def has_namespace(self, ns: str) -> bool:
        return (self.path / Namespace.parse(ns).disk_path).is_dir()

    def make_namespace(self, ns: str) -> None:
        (self.path / Namespace.parse(ns).disk_path).mkdir(parents=True)

    def unprotected(self, folder: Path) -> dict[str, Any]:
        """What a manifest says beside what is signed."""
        found: dict[str, Any] = self.manifest(folder)["unprotected"]
        return found

    def manifest(self, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(decode_blob((folder / MANIFEST_NAME).read_bytes()))
        return found

    def rewrite_manifest(self, folder: Path, **unprotected: Any) -> None:
        """Change what is not signed of a manifest; None takes a key away."""
        text = self.manifest(folder)
        merged = {**text["unprotected"], **unprotected}
        text["unprotected"] = {key: value for key, value in merged.items() if value is not None}
        self.write_manifest(folder, text)

    def write_manifest(self, folder: Path, text: Mapping[str, Any]) -> None:
        blob = Manifest.parse(json.dumps(text).encode()).encode()
        (folder / MANIFEST_NAME).write_bytes(blob)

    def sign_only(self, folder: Path) -> None:
        """Make a snapshot's manifest say that its files are signed, and not encrypted."""
        text = self.manifest(folder)
        for file in text["files"]:
            file["crypt-mode"] = "sign-only"
        self.write_manifest(folder, text)

    def snapshots(self) -> set[str]:
        """All snapshot folders of all namespaces, finished or not, by their path."""
        return {
            str(path.relative_to(self.path))
            for path in self.path.rglob("*Z")
            if path.is_dir() and ".chunks" not in path.parts
        }

    def chunk_files(self) -> Iterator[Path]:
        return (path for path in self.path.glob(".chunks/*/*") if path.is_file())

    def chunk_of(self, piece: str | Piece) -> Path:
        """The file of an unencrypted chunk."""
        chunk = self.writer.chunks([_piece(piece)])[0]
        return self.path / ".chunks" / chunk.digest.hex()[:4] / chunk.digest.hex()


def _piece(piece: str | Piece) -> Piece:
    return piece if isinstance(piece, Piece) else Piece(piece, 5000, 300)


def whole(label: str) -> Piece:
    """A chunk of 4 MiB that takes little room on disk."""
    return Piece(label, CHUNK, 200)


@dataclass
class Pushed:
    """What came of a push: its report, what it told, and what the target counted."""

    report: Report
    events: list[Event]
    counted: CounterValues

    @property
    def notes(self) -> list[str]:
        lines = [describe(event) for event in self.events if isinstance(event, Note | Removal)]
        return [line.text for line in lines if line is not None]

    def told(self, text: str) -> int:
        """How many lines for people hold this text."""
        return sum(text in note for note in self.notes)

    @property
    def outcomes(self) -> dict[str, str]:
        """By label, how it ended: ``pushed``, ``skipped not-newer``, ``failed``."""
        found = {}
        for event in self.events:
            if isinstance(event, SnapshotEnded):
                outcome = event.outcome
                skip = f" {outcome.skip.name.lower()}" if outcome.skip is not None else ""
                found[outcome.label] = outcome.result.value + skip
        return found

    @property
    def errors(self) -> list[str]:
        """Texts of all errors: of snapshots, and of all else."""
        texts = [str(item.error) for item in self.report.outcomes if item.error is not None]
        return texts + [f"{item.what}: {item.error}" for item in self.report.problems]


class World:
    """A source, a target datastore, and a server for it that runs until ``close``."""

    def __init__(self, folder: Path, *, source: Path | None = None) -> None:
        self.folder = folder
        self.source = Store(source or folder / "source")
        self.there = Store(folder / "target")
        self.server: TargetServer
        self._stack = ExitStack()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve(
        self,
        options: TargetOptions | None = None,
        *,
        identities: Identities | None = None,
        faults: Faults | None = None,
    ) -> TargetServer:
        """Start the target. ``push`` does it with what is usual where it was not done."""
        self.server = self._stack.enter_context(
            TargetServer(
                {STORE: self.there.path},
                identities=identities or Identities.simple(dict.fromkeys((ME, MY_USER), SECRET)),
                options=options or TargetOptions(bad_login_delay_s=0),
                faults=faults,
            )
        )
        return self.server

    def target(self, auth_id: str = ME) -> Target:
        """A target to push to; the caller closes it."""
        if not hasattr(self, "server"):
            self.serve()
        repository = self.server.repository(STORE, auth_id)
        return Target(repository, SECRET, self.server.fingerprint)

    def datastore(self) -> Datastore:
        return Datastore(self.source.path, name="source", lock_root=self.folder / "locks")

    def push(
        self,
        auth_id: str = ME,
        plan: Plan | None = None,
        source: Datastore | None = None,
        **options: Any,
    ) -> Pushed:
        """Push with these options, or carry out a plan; raises what ends a push.

        ``source`` is one that was opened before.
        """
        events: list[Event] = []
        with self.target(auth_id) as target:
            self.server.counters.reset()
            run = Push(source or self.datastore(), target, _options(options), events.append)
            report = run.run(plan)
        self.settle()
        return Pushed(report, events, self.server.counters.snapshot())

    def settle(self) -> None:
        """Wait until the target has noticed that all connections are closed.

        It has removed then what was not finished.
        """
        for thread in list(self.server._threads):
            while thread.ident is None:  # in the list, and about to be started
                sleep(0.001)
            thread.join()

    def plan(self, auth_id: str = ME, **options: Any) -> tuple[Plan, Report]:
        """What a push with these options would do, and the problems in finding out."""
        with self.target(auth_id) as target:
            run = Push(self.datastore(), target, _options(options))
            return run.plan(), run.report


def _options(options: Mapping[str, Any]) -> PushOptions:
    """Options as tests write them: namespaces and filters as text."""
    made = {"retries": 0, **options}  # what fails is looked at, unless a test is about that
    for name in ("source_namespace", "target_namespace"):
        if name in made:
            made[name] = Namespace.parse(made[name])
    if "group_filters" in made:
        made["group_filters"] = filters(*made["group_filters"])
    return PushOptions(**made)


def verify(world: World, *, enc_key: bytes | None = None) -> int:
    """Compare both sides' files; how many snapshots that were."""
    report = verify_target(world.source.path, world.there.path, enc_key=enc_key)
    assert report.problems == (), report.problems
    assert report.extra_snapshots == 0
    return report.snapshots


def content_of(store: Path, folder: Path, name: str, key: CryptKey | None) -> bytes:
    """An archive's whole content, chunk by chunk, each checked against its digest."""
    if name.endswith(".blob"):
        return decode_blob((folder / name).read_bytes(), key=key)
    content = b""
    with open_index(folder / name) as index:
        for row in index.digests:
            digest = bytes(row)
            path = store / ".chunks" / digest.hex()[:4] / digest.hex()
            piece = decode_blob(path.read_bytes(), key=key)
            assert digest == (hashlib.sha256(piece).digest() if key is None else key.digest(piece))
            content += piece
    return content
