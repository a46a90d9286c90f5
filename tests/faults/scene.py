"""Two datastores with something of everything between them, and pushes from one to the other.

Every kind of request that a push knows is made, so that each can fail.
"""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from tests.own_host import COMMAND
from tests.push.world import MY_USER, STORE, Store
from tests.push.zygote import Zygote

from pbs_push.cli.app import run
from pbs_push.formats.blob import encode_blob
from pbs_push.names import Group, Namespace, Snapshot
from pbs_push.push import beginning, checkpoint_memory, patience, retries, run_lock
from pbs_push.remote import supply
from pbs_push.target import CertificateFiles, Faults, Identities, TargetOptions, TargetServer
from pbs_push.target.certificate import self_signed

from . import stores
from .line import Line

PATIENCE_S: Final = 3.0
LONGEST_S: Final = 120.0
SECRET: Final = "s3cret-that-nobody-may-see"
OPTIONS: Final = ("--remove-vanished", "--sync-metadata", "--sync-protected", "--verbose")
CHANGED: Final = {"disk.img.fidx": ("n",), "root.pxar.didx": ("b", "x", "c")}


def fill_source(store: Store) -> None:
    """Groups, of which some are new, some were pushed before, and some have lost something."""
    mine: dict[str, Any] = {"owner": MY_USER}
    store.add("vm/1", 0, unprotected={"notes": "same\nnew"}, client_log=b"log", **mine)
    store.add("vm/1", 1, protected=True, client_log=b"log", archives=CHANGED)
    store.add("vm/1", 2, archives={**CHANGED, "disk.img.fidx": ("n",)})
    (store.path / "vm/1/notes").write_text("of the group\nnew")
    store.add("ct/2", 0, ns="a", **mine)
    store.add("ct/3", 1, archives=CHANGED, **mine)
    store.add("vm/7", 0, client_log=b"came late", **mine)


def fill_target(store: Store) -> None:
    """What an earlier push has brought, and what the source has no more."""
    mine: dict[str, Any] = {"owner": MY_USER}
    store.add("vm/1", -1, 0, unprotected={"notes": "same\nold"}, protected=True, **mine)
    (store.folder("vm/1", -1) / ".protected").unlink()
    (store.folder("vm/1", 0) / "client.log.blob").write_bytes(encode_blob(b"log"))
    (store.path / "vm/1/notes").write_text("of the group\nold")
    store.add("ct/3", 0, **mine)
    store.add("vm/7", 0, **mine)
    store.add("vm/9", 0, **mine)
    store.add("vm/9", 0, ns="gone", **mine)


@dataclass(frozen=True)
class Templates:
    """Both stores as they are before a push, to be copied; and a certificate for all targets."""

    source: Path
    target: Path
    certificate: CertificateFiles

    @classmethod
    def make(cls, folder: Path) -> Templates:
        folder.mkdir()
        fill_source(Store(folder / "source"))
        fill_target(Store(folder / "target"))
        (folder / "certificate").mkdir()
        return cls(folder / "source", folder / "target", self_signed(folder / "certificate"))


@dataclass(frozen=True)
class Ran:
    """What a command did, and what its JSON document says."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def errors(self) -> list[str]:
        # The last is of a library that ends the process by itself, without memory.
        prefixes = ("pbs-push: error: ", "pbs-push: interrupted", "OpenBLAS error")
        return [line for line in self.err.splitlines() if line.startswith(prefixes)]


@dataclass(frozen=True)
class Left:
    """Threads, descriptors and files of this process: equal before and after a push."""

    threads: frozenset[str]
    native: frozenset[int]
    descriptors: Counter[str]
    temporary: frozenset[str]
    locks: frozenset[str]

    @classmethod
    def now(cls, temporary: Path, locks: Path) -> Left:
        threads = [one for one in threading.enumerate() if not one.name.startswith("target")]
        ours = {thread.native_id for thread in threading.enumerate()}
        tasks = {int(name) for name in os.listdir("/proc/self/task")}
        return cls(
            frozenset(f"{one.name} {one.ident}" for one in threads),
            frozenset(tasks - {one for one in ours if one is not None}),
            Counter(_descriptors()),
            frozenset(os.listdir(temporary)),
            frozenset(str(path) for path in locks.rglob("*.lock")),
        )

    def less(self, before: Left) -> list[str]:
        """What is there and was not."""
        found = [f"thread {one}" for one in self.threads - before.threads]
        found += [f"native thread {one}" for one in self.native - before.native]
        found += [f"descriptor {one}" for one in (self.descriptors - before.descriptors)]
        found += [f"temporary file {one}" for one in self.temporary - before.temporary]
        return found + [f"lock {one}" for one in self.locks - before.locks]


def _descriptors() -> Iterator[str]:
    for entry in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the listing's own
            continue
        if name != "anon_inode:[pidfd]":  # the tests' own
            yield name.partition(":[")[0] if name.startswith(("socket", "pipe")) else name


@contextmanager
def quick_pauses(temporary: Path, locks: Path) -> Iterator[None]:
    """Let nobody wait for long, and let temporary files and locks lie where they are seen."""
    changed: list[tuple[Any, str, Any]] = [
        (retries, "_FIRST_PAUSE_S", 0.01),
        (retries, "_LONGEST_PAUSE_S", 0.05),
        (beginning, "_RELEASE_WAITS_S", (0.02, 0.05, 0.2, 1.0)),
        (patience, "_FIRST_PAUSE_S", 0.05),
        (supply, "NEAR_S", 0.0),
        (run_lock, "OF_ROOT", locks),
        (run_lock, "OF_OTHERS", locks),
        (checkpoint_memory, "OF_ROOT", temporary.parent / "state"),
        (checkpoint_memory, "OF_OTHERS", temporary.parent / "state"),
    ]
    before = [
        (module, name, getattr(module, name))
        for module, name, _ in changed
        if hasattr(module, name)
    ]
    environment = dict(os.environ)
    os.environ["TMPDIR"] = str(temporary)
    for module, name, value in changed:
        if hasattr(module, name):
            setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        os.environ.clear()
        os.environ.update(environment)


class Served(Protocol):
    """A target that runs: in this process, or in one of its own."""

    port: int
    fingerprint: str

    def settle(self) -> None:
        """Wait until it has noticed that all connections are closed."""

    def close(self) -> None:
        """End it."""


class Here:
    """A target in this process, with hooks."""

    def __init__(self, scene: Scene) -> None:
        self._server = TargetServer(
            {STORE: scene.target},
            identities=Identities.simple({MY_USER: SECRET}),
            options=scene.options,
            certificate=scene.templates.certificate,
            faults=scene.faults,
        )
        self._server.start()
        self.port = self._server.address[1]
        self.fingerprint = self._server.fingerprint.hex(":")

    def settle(self) -> None:
        for thread in list(self._server._threads):
            while thread.ident is None:  # in the list, and about to be started
                time.sleep(0.001)
            thread.join()

    def close(self) -> None:
        self._server.close()


class Elsewhere:
    """A target in a process of its own, which may be killed at a boundary, and started again."""

    def __init__(self, scene: Scene, zygote: Zygote) -> None:
        self._scene = scene
        self._zygote = zygote
        self.port = 0
        self.start()

    def start(self, kill_at: int | None = None) -> None:
        """Serve, on the same port as before."""
        files = self._scene.templates.certificate
        self.child = self._zygote.start(
            "serve",
            store=str(self._scene.target),
            me=MY_USER,
            secret=SECRET,
            kill_at=kill_at,
            certificate=[str(files.certificate), str(files.key)],
            port=self.port,
        )
        said = self.child.hear()
        self.port, self.fingerprint = said["port"], said["fingerprint"]

    def settle(self) -> None:
        target = self._scene.target
        deadline = time.monotonic() + PATIENCE_S
        while stores.pieces_left(target) + stores.locked(target):
            if time.monotonic() > deadline:
                return  # what is left is told
            time.sleep(0.01)

    def close(self) -> None:
        self.child.kill()


@dataclass
class Scene:
    """A source, a target that runs, and a line between them; use it in ``with``.

    ``hook`` is told each boundary of a request: its kind, how often it came, and whether it was
    handled. ``seen`` are the boundaries in order. ``zygote``: the target has a process of its own,
    and there are no hooks. ``own_source``: it may be changed.
    """

    templates: Templates
    folder: Path
    options: TargetOptions = field(default_factory=lambda: TargetOptions(bad_login_delay_s=0))
    own_source: bool = False
    zygote: Zygote | None = None
    hook: Callable[[str, int, bool], None] | None = None
    seen: list[tuple[str, int, bool]] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)

    def __enter__(self) -> Scene:
        self.source = self.templates.source
        if self.own_source:
            self.source = self.folder / "source"
            self.mend_source()
        self.target = Path(shutil.copytree(self.templates.target, self.folder / "target"))
        self.temporary = self.folder / "tmp"
        self.locks = self.folder / "locks"
        self.temporary.mkdir()
        self.locks.mkdir()
        self._counts: Counter[tuple[str, bool]] = Counter()
        self._lock = threading.Lock()
        self.faults.on_request = self._boundary
        self.served: Served = Here(self) if self.zygote is None else Elsewhere(self, self.zygote)
        self.line = Line(self.served.port)
        self.line.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.line.__exit__(None, None, None)
        self.served.close()

    def mend_source(self) -> None:
        """Make it what it was in the beginning."""
        shutil.rmtree(self.source, ignore_errors=True)
        shutil.copytree(self.templates.source, self.source)

    def _boundary(self, kind: str, handled: bool) -> None:
        with self._lock:
            self._counts[kind, handled] += 1
            number = self._counts[kind, handled]
            self.seen.append((kind, number, handled))
        if self.hook is not None:
            self.hook(kind, number, handled)

    def still(self) -> None:
        """No fault strikes any more, and all that is under way ends."""
        self.hook = None
        self.faults.on_answer = self.faults.on_frames = self.faults.chunk_error = None
        self.line.settle()
        self.served.settle()

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PBS_PASSWORD": SECRET,
            "PBS_FINGERPRINT": self.served.fingerprint,
            "TMPDIR": str(self.temporary),
        }

    def arguments(self, *more: str) -> list[str]:
        repository = f"{MY_USER}@127.0.0.1:{self.line.port}:{STORE}"
        return ["push", str(self.source), repository, "--json", *OPTIONS, *more]

    def push(self, *more: str) -> tuple[Ran, list[str]]:
        """Push in this process, as the command does; and what is left of it when all is still."""
        out, err = io.StringIO(), io.StringIO()
        hooks = threading.excepthook
        threading.excepthook = lambda args: err.write(
            f"Traceback in {args.thread}: {args.exc_value!r}"
        )
        before = Left.now(self.temporary, self.locks)
        gc.disable()  # it may not run before there are no more descriptors
        try:
            with (
                quick_pauses(self.temporary, self.locks),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                os.environ.update(self.environment)
                status = run(self.arguments(*more))
            self.still()
            return Ran(status, out.getvalue(), err.getvalue()), self._left(before)
        finally:
            gc.enable()
            threading.excepthook = hooks
            self.still()

    def _left(self, before: Left) -> list[str]:
        """What is there and was not before; a thread that was joined takes a moment to be gone."""
        deadline = time.monotonic() + PATIENCE_S
        while (left := Left.now(self.temporary, self.locks).less(before)) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.005)
        return left

    def start(
        self,
        *more: str,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[int, int] | None = None,
        stdout: int | None = None,
    ) -> subprocess.Popen[str]:
        """Push in a process of its own; ``limits`` are of ``resource``."""

        def limit() -> None:
            for which, value in (limits or {}).items():
                resource.setrlimit(which, (value, value))

        return subprocess.Popen(
            [*COMMAND, *self.arguments(*more)],
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment, **(environment or {})},
            text=True,
            preexec_fn=limit if limits else None,
        )

    def ended(self, process: subprocess.Popen[str]) -> tuple[Ran, list[str]]:
        """How such a process ended, and the temporary files that it left."""
        out, err = process.communicate(timeout=LONGEST_S)
        self.still()
        # Not of one that was killed: it could do nothing about them.
        names = [path.name for path in self.temporary.iterdir() if process.returncode >= 0]
        return Ran(process.returncode, out or "", err), [f"temporary file {one}" for one in names]


def violations(scene: Scene, ran: Ran, left: list[str], *, died: bool = False) -> list[str]:
    """What must hold after any push, whatever befell it, and does not.

    ``died``: the target did, and could not remove what was not finished.
    """
    found = [f"left behind: {one}" for one in left]
    found += [f"half a snapshot: {one}" for one in stores.half_snapshots(scene.target)]
    found += [f"still locked: {one}" for one in stores.locked(scene.target)]
    if not died:
        found += [f"left at the target: {one}" for one in stores.pieces_left(scene.target)]
    if "Traceback" in ran.out + ran.err:
        found.append(f"a traceback: {ran.err[-600:]}")
    if SECRET in ran.out + ran.err or "PBS:" in ran.out + ran.err:
        found.append("a secret was shown")
    return found + list(_lies(scene, ran))


def _lies(scene: Scene, ran: Ran) -> Iterator[str]:
    """Where exit status and report do not tell the truth."""
    if ran.status < 0 and not ran.out:
        return  # it was killed, and tells nothing
    if not ran.out:
        if not ran.errors:
            yield f"status {ran.status}, without a document or a line that says why: {ran.err!r}"
        return
    document = ran.document
    if ran.status != document["exit-status"]:
        yield f"status {ran.status}, and the document says {document['exit-status']}"
    if ran.status == 0:
        differ = stores.unequal(scene.templates.source, scene.target)
        yield from (f"status 0, and {one}" for one in differ)
    elif not ran.errors:
        yield f"status {ran.status} without a line that says why"
    there = stores.snapshots_of(scene.target)
    for outcome in document["outcomes"]:
        path = _path_of(outcome)
        if outcome["result"] == "pushed" and path not in there:
            yield f"{path} is said to be pushed, and is not there"
        if outcome["result"] == "failed" and "error" not in outcome:
            yield f"{path} failed without an error"


def _path_of(outcome: Mapping[str, Any]) -> str:
    """The folder at the target of a snapshot that an outcome is about."""
    namespace = Namespace.parse(outcome["target-ns"])
    snapshot = Snapshot(Group.parse(outcome["group"]), outcome["newest"])
    return str(Path(namespace.disk_path) / str(snapshot))
