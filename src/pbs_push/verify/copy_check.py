"""One snapshot of the target, read back: compared with the source's, and chunks of it looked at."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from pbs_push.errors import (
    AuthError,
    DeniedError,
    FormatError,
    NotOwnerError,
    SnapshotVanished,
    SourceError,
    SourceLocked,
)
from pbs_push.push.archives import Archives
from pbs_push.verify.comparison import Compared, compare
from pbs_push.verify.copy_chunks import ChunkQueue, Judged, Wanted
from pbs_push.verify.seen import Mode
from pbs_push.verify.target_report import CopyResult, CopyVerdict, Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pbs_push.formats.keys import CryptKey
    from pbs_push.push.run import Run
    from pbs_push.remote.reader import ReaderSession
    from pbs_push.remote.session import Call
    from pbs_push.source.snapshot import OpenSnapshot
    from pbs_push.verify.claims import Claims
    from pbs_push.verify.comparison import ComparedIndex
    from pbs_push.verify.copies import Copy
    from pbs_push.verify.target_report import CopyPlace

    Ask = Callable[[ReaderSession, Wanted], Call]
    JudgeChunk = Callable[[Wanted, Call], Judged]
    TellChunk = Callable[[Wanted, Judged], None]


_NONE: Final = np.empty(0, dtype=np.intp)


class Look(NamedTuple):
    """What is looked at of chunks.

    ``ask`` makes the request for one, ``judge`` says what its answer means, ``tell`` takes that.
    ``budget`` is what may be under way at once, in plain bytes.
    """

    claims: Claims
    ask: Ask
    judge: JudgeChunk
    tell: TellChunk
    budget: int


def begin_reading(run: Run, place: CopyPlace) -> ReaderSession:
    """A session that reads a snapshot; with new credentials, should a ticket have run out."""
    target, names = run.target, (place.target_namespace, place.snapshot)
    try:
        return target.begin_reading(target.connect(run.cancelled), *names)
    except AuthError as error:
        if not error.renewable:
            raise
    return target.begin_reading(target.connect(run.cancelled), *names)


class CopyCheck:
    """Reads one snapshot back; what fails for the moment is tried again by ``run``.

    Chunks that were claimed by a try that failed are looked at by the next one.
    """

    def __init__(self, run: Run, copy: Copy, key: CryptKey | None, look: Look) -> None:
        self._run = run
        self._copy = copy
        self._key = key
        self._look = look
        self._claimed: dict[str, NDArray[np.intp]] | None = None
        self._judged = 0
        self.keyed = False
        """Whether it was found to be encrypted on the way."""
        self.by_chunks = False
        """Whether nothing but its chunks can prove that it is the source's."""

    def check(self) -> CopyResult:
        """Compare, and look at chunks.

        Raises DeniedError and NotOwnerError, which hold for the whole group, AuthError, TlsError,
        ConnectError, Cancelled; all else is in the result.
        """
        place = self._copy.place
        try:
            found = self._run.trying(f"reading {place.label} back", self._try)
        except (SourceLocked, SnapshotVanished) as error:
            return CopyResult(place, CopyVerdict.LEFT, (Difference(None, str(error)),))
        except (FormatError, SourceError) as error:
            return CopyResult(place, CopyVerdict.UNREADABLE, (Difference(None, str(error)),))
        for note in found.notes:
            self._run.note("info", f"{place.label}: {note}")
        if found.differences:
            differences = tuple(found.differences)
            return CopyResult(place, CopyVerdict.DIFFERENT, differences)
        if found.not_checked:
            return CopyResult(place, CopyVerdict.NOT_CHECKED, tuple(found.not_checked))
        return CopyResult(place, CopyVerdict.EQUAL)

    def _try(self) -> Compared:
        run, copy = self._run, self._copy
        with ExitStack() as stack:
            snapshot = stack.enter_context(run.source.open_snapshot(copy.item))
            archives = stack.enter_context(Archives.load(snapshot))
            log = self._client_log(snapshot)
            session = stack.enter_context(closing(begin_reading(run, copy.place)))
            found = compare(archives, log, session, self._key)
            stack.enter_context(found.resources)
            self.keyed = any(index.keyed for index in found.indexes)
            self.by_chunks = found.by_chunks
            archives.check_unchanged()
            self._look_at_chunks(found, session)
            return found

    def _client_log(self, snapshot: OpenSnapshot) -> bytes | None:
        """The source's client log; None for a damaged one, which a push leaves behind, too."""
        try:
            return snapshot.client_log()
        except FormatError as error:
            self._run.note("warning", f"{error}: it is not compared")
            return None

    def _look_at_chunks(self, found: Compared, session: ReaderSession) -> None:
        if self._claimed is None:
            self._claimed = {index.filename: self._claim(index) for index in found.indexes}
        look = self._look

        def judged(wanted: Wanted, call: Call) -> None:
            verdict = look.judge(wanted, call)
            self._judged += 1
            look.tell(wanted, verdict)

        queue = ChunkQueue(session, lambda one: look.ask(session, one), judged, look.budget)
        queue.go(self._wanted(found))

    def _claim(self, index: ComparedIndex) -> NDArray[np.intp]:
        mode = Mode.PLAIN
        if index.encrypted:
            mode = Mode.SEALED if index.key is None else Mode.KEYED
        parts = [_NONE]
        for begin, digests, sizes in index.blocks():
            kinds = sizes
            if index.keyed:
                # What it must hold says more than its length: each pair of digests counts.
                plain = np.ascontiguousarray(index.here.digests[begin : begin + len(digests), :8])
                kinds = plain.view(np.uint64).reshape(-1)
            parts.append(self._look.claims.take(digests, kinds, mode) + begin)
        return np.concatenate(parts)

    def _wanted(self, found: Compared) -> Iterator[Wanted]:
        """The chunks that were claimed, behind those that a try before this one has judged."""
        skip = self._judged
        for index in found.indexes:
            claimed = (self._claimed or {}).get(index.filename, _NONE)
            positions, skip = claimed[skip:], max(0, skip - len(claimed))
            ends = index.there.end_offsets
            for position in positions:
                start = 0 if position == 0 else int(ends[position - 1])
                yield Wanted(
                    index,
                    index.there.digests[position].tobytes(),
                    int(ends[position]) - start,
                    index.here.digests[position].tobytes(),
                )


OF_A_GROUP: Final = (DeniedError, NotOwnerError)
"""Refusals that hold for all snapshots of a group."""
