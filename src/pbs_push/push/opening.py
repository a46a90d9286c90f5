"""A source snapshot opened for its push: checked, and as it is to stand at the target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from pbs_push.errors import (
    FormatError,
    ManifestError,
    SnapshotVanished,
    SourceError,
    SourceLocked,
)
from pbs_push.formats.blob import MAX_PROTOCOL_BLOB
from pbs_push.formats.manifest import Protection
from pbs_push.names import CLIENT_LOG_NAME
from pbs_push.push.archives import Archives
from pbs_push.push.checkpoint_mark import Mark
from pbs_push.push.content import AsItIs, Content, UnderKey
from pbs_push.push.encryption import encrypt_log
from pbs_push.push.outcome import Settled, Skip
from pbs_push.push.source_checks import check_blobs, key_to_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from pbs_push.errors import PbsPushError
    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.run import Run
    from pbs_push.source.items import SourceSnapshot
    from pbs_push.source.snapshot import OpenSnapshot

T = TypeVar("T")

_NO_LOCKS: Final = (
    "the source's file system has no locks: whatever removes or writes snapshots there is not kept "
    "from it while they are pushed"
)


@dataclass(slots=True)
class Opened:
    """A source snapshot that is open, and the chunk store that it lies in, ``chunks_fd``.

    ``key`` is what it is encrypted with on the way, None if it goes as it is. ``log_error`` is why
    a damaged client log does not go along; ``log_left``: it is too long for the backup protocol,
    and to be added by itself. Of ``unchecked_blobs`` the content could not be checked, though that
    was asked for. ``check_key`` is the one that it is encrypted with at the source, as far as it is
    here. ``keep_archives``: whoever has it closes its archives, too.
    """

    item: SourceSnapshot
    archives: Archives
    content: Content
    key: CryptKey | None
    chunks_fd: int
    log_error: PbsPushError | None
    log_left: bool
    unchecked_blobs: int = 0
    check_key: CryptKey | None = None
    keep_archives: bool = False


@contextmanager
def opened(run: Run, item: SourceSnapshot) -> Iterator[Opened]:
    """Open a snapshot, with its locks held.

    Raises Settled for what is not pushed under the run's key, ManifestError for whatever keeps its
    manifest from being read for good, other PbsPushError.
    """
    with ExitStack() as stack:
        snapshot = stack.enter_context(_open(run, item))
        if not snapshot.locked:
            run.note_once("warning", _NO_LOCKS)
        if Mark.read(snapshot.manifest.notes, item.snapshot) is not None:
            raise Settled(Skip.CHECKPOINT)
        key = _key_for(run, snapshot)
        archives = Archives.load(snapshot)
        keep = stack.enter_context(ExitStack())
        keep.callback(archives.close)
        check_key = key_to_check(snapshot.manifest, run.options.encryption_key)
        unchecked = 0
        if run.options.verify_source:
            blobs = ((blob.info.filename, blob.data) for blob in archives.blobs)
            unchecked = check_blobs(blobs, check_key)
        log, log_error = _client_log(run, snapshot, key)
        too_long = log is not None and len(log) > MAX_PROTOCOL_BLOB
        if too_long:
            log = None
        content = AsItIs(archives, log) if key is None else UnderKey(archives, log, key)
        chunks_fd = stack.enter_context(run.source.open_chunk_store())
        found = Opened(
            item, archives, content, key, chunks_fd, log_error, too_long, unchecked, check_key
        )
        yield found
        if found.keep_archives:
            keep.pop_all()


def _open(run: Run, item: SourceSnapshot) -> OpenSnapshot:
    try:
        return _read_twice(partial(run.source.open_snapshot, item))
    except (SourceLocked, SnapshotVanished):
        raise
    except SourceError as error:
        if error.may_pass:
            raise  # the group stops, so that a later push can still take this snapshot
        raise ManifestError(str(error)) from error


def _key_for(run: Run, snapshot: OpenSnapshot) -> CryptKey | None:
    key = run.options.encryption_key
    if key is None:
        return None
    protection = Protection.of(snapshot.manifest)
    if protection is Protection.PARTLY:
        raise Settled(Skip.PARTLY_ENCRYPTED)
    return key if protection is Protection.NONE else None


def _client_log(
    run: Run, snapshot: OpenSnapshot, key: CryptKey | None
) -> tuple[bytes | None, PbsPushError | None]:
    """The client log as it goes to the target; of a damaged one the error, and the archives go.

    Raises SourceError for what may pass, since it could not be added any more after later pushes.
    """
    try:
        log = _read_twice(snapshot.client_log)
        if log is not None and run.options.verify_source:
            known = key_to_check(snapshot.manifest, run.options.encryption_key)
            check_blobs([(CLIENT_LOG_NAME, log)], known)
        return (None if log is None else encrypt_log(log, snapshot.manifest, key)), None
    except FormatError as error:
        return None, error
    except SourceError as error:
        if error.may_pass:
            raise
        return None, error


def _read_twice(read: Callable[[], T]) -> T:
    """What ``read`` returns, called again after an I/O error: one that comes twice is damage."""
    try:
        return read()
    except SourceError as error:
        if error.errno != EIO:
            raise
    return read()
