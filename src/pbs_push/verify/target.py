"""A target verified: proof that it holds what the source has, without trusting any push."""

from __future__ import annotations

import os
import secrets
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from pbs_push.errors import (
    Cancelled,
    PbsPushError,
    ProtocolError,
    StatusError,
    drop_frames,
)
from pbs_push.push.crew import Crew
from pbs_push.push.document import Sides, Span
from pbs_push.push.options import PushOptions
from pbs_push.push.outcome import Problem
from pbs_push.push.run import Run
from pbs_push.source.datastore import Datastore
from pbs_push.verify.claims import AllClaims, NoClaims, OnlyClaims, SampledClaims
from pbs_push.verify.copies import BothSides
from pbs_push.verify.copy_check import OF_A_GROUP, CopyCheck, Look
from pbs_push.verify.copy_chunks import (
    LEAST_BYTES,
    OUTSTANDING_BYTES,
    judge_download,
    judge_probe,
)
from pbs_push.verify.healing import Healer
from pbs_push.verify.server_verification import Asked, ServerVerifier
from pbs_push.verify.spoiled import find_spoiled
from pbs_push.verify.target_events import (
    BadChunkFound,
    BadChunkTreated,
    CopyCompared,
    CopyProgress,
    TargetVerifyBegan,
)
from pbs_push.verify.target_options import TargetVerifyOptions
from pbs_push.verify.target_report import (
    BadChunk,
    CopyResult,
    CopyVerdict,
    Difference,
    Healing,
    TargetReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pbs_push.push.events import Event
    from pbs_push.remote.reader import ReaderSession
    from pbs_push.remote.session import Call
    from pbs_push.remote.target import Target
    from pbs_push.verify.claims import Claims
    from pbs_push.verify.copies import Copy, GroupPair
    from pbs_push.verify.copy_check import Ask, JudgeChunk, TellChunk
    from pbs_push.verify.copy_chunks import Judged, Wanted
    from pbs_push.verify.target_events import TargetVerifyEvent, TargetVerifyListener
    from pbs_push.verify.target_report import CopyPlace, ServerVerification

_SERVER_SAYS: Final = Difference(None, "the target's own verification of it failed")
_PROGRESS_EVERY_S: Final = 0.1
_PLACES_TRIED: Final = 3
"""Archives through which a chunk is read back at most, should one have gone meanwhile."""


def verify_target(
    source: Datastore | str | os.PathLike[str],
    target: Target,
    options: TargetVerifyOptions | None = None,
    listener: TargetVerifyListener | None = None,
) -> TargetReport:
    """Compare a target with the source that was pushed there, through the reader protocol.

    ``source`` is a Datastore or the path of one; it is only read. ``listener`` is told of events
    while it runs. What differs is in the report (``report.differs``, ``report.exit_status``), and
    no error. Raises PbsPushError where the verification cannot begin or go on.
    """
    if isinstance(source, str | os.PathLike):
        source = Datastore(source)
    return TargetVerification(source, target, options, listener).run()


class TargetVerification:
    """A verification of ``target`` against ``source``, to be run once; ``report`` is filled by it.

    ``listener`` is given events (TargetVerifyEvent), one at a time, from several threads.
    """

    def __init__(
        self,
        source: Datastore,
        target: Target,
        options: TargetVerifyOptions | None = None,
        listener: TargetVerifyListener | None = None,
    ) -> None:
        self._options: Final = options or TargetVerifyOptions()
        self._listener = listener
        self._run = Run(source, target, _push_options(self._options), self._pass_on)
        self.report: Final = TargetReport(_sides(source, target, self._options))
        self._lock = threading.Lock()
        self._found: dict[bytes, BadChunk] = {}
        self._read: list[tuple[Copy, bool]] = []
        """Snapshots that were read, and whether they were encrypted on the way."""
        self._by_chunks: list[CopyPlace] = []
        self._done = 0
        self._told_at = 0.0
        self._budget = max(LEAST_BYTES, OUTSTANDING_BYTES // self._options.parallel)

    def cancel(self) -> None:
        """Ask it to stop soon, from any thread or a signal handler: Cancelled is raised then."""
        self._run.cancelled.set()

    def run(self) -> TargetReport:
        """Verify, and return ``report``. Differences are in there, and no error.

        Raises Cancelled after ``cancel``, and PbsPushError where it cannot begin or go on: the
        source or the target is not there (any more), or there is no trust or login.
        ``report.error`` is that, too.
        """
        began = time.time()
        try:
            self._go()
        except PbsPushError as error:
            drop_frames(error)
            self.report.error = error
            raise
        finally:
            self._run.supply.close()
            self.report.span = Span(began, max(began, time.time()))
        return self.report

    def _go(self) -> None:
        options, report, run = self._options, self.report, self._run
        claims = self._claims()
        run.look()
        pairs = BothSides(run, report).pairs()
        run.check_source()
        copies = sum(len(pair.copies) for pair in pairs)
        self._notify(TargetVerifyBegan(len(pairs), copies, report.seed))
        judge = partial(judge_download, source=run.source)
        download = self._look(claims, _download, judge, self._judged)
        self._crew(pairs, download)
        if isinstance(claims, SampledClaims):
            report.chunks.known = claims.known
        run.check_source()
        failed = self._failed(pairs)
        if options.heal:
            self._probe(failed)
        self._tell_damage(failed)
        if options.sample is not None and options.sample.part == 1:
            for place in self._by_chunks:
                report.prove(place)
        if options.heal:
            self._heal(failed)

    # -- comparing --

    def _claims(self) -> Claims:
        options, report = self._options, self.report
        if options.sample is None:
            return NoClaims()
        report.seed = secrets.randbits(64) if options.seed is None else options.seed
        report.sample = str(options.sample)
        return SampledClaims(options.sample, report.seed)

    def _look(self, claims: Claims, ask: Ask, judge: JudgeChunk, tell: TellChunk) -> Look:
        return Look(claims, ask, judge, tell, self._budget)

    def _crew(self, pairs: Iterable[GroupPair], look: Look) -> None:
        pairs = sorted(pairs, key=lambda pair: -len(pair.copies))
        size = max(1, min(self._options.parallel, len(pairs)))
        Crew(pairs, lambda pair: self._group(pair, look), size).run(self.cancel)

    def _group(self, pair: GroupPair, look: Look) -> None:
        """The snapshots of a group, one after another."""
        refusal: PbsPushError | None = None
        for copy in pair.copies:
            self._run.check_cancelled()
            if refusal is None:
                try:
                    self._add(self._check(copy, look))
                    continue
                except OF_A_GROUP as error:
                    refusal = error
                    drop_frames(error)
                    self._run.note("error", f"{pair.label}: {error}")
            why = Difference(None, str(refusal))
            self._add(CopyResult(copy.place, CopyVerdict.UNREADABLE, (why,)))

    def _check(self, copy: Copy, look: Look) -> CopyResult:
        check = CopyCheck(self._run, copy, self._options.key, look)
        try:
            result = check.check()
        except OF_A_GROUP:
            raise
        except (StatusError, ProtocolError) as error:
            why = Difference(None, str(error))
            return CopyResult(copy.place, CopyVerdict.UNREADABLE, (why,))
        with self._lock:
            self._read.append((copy, check.keyed))
            if check.by_chunks:
                self._by_chunks.append(copy.place)
        return result

    def _add(self, result: CopyResult) -> None:
        self.report.add(result)
        self._notify(CopyCompared(result))

    def _judged(self, wanted: Wanted, judged: Judged) -> None:
        """Count a chunk, in a thread of the crew."""
        chunks = self.report.chunks
        bad: BadChunk | None = None
        with self._lock:
            chunks.downloaded_bytes += judged.downloaded_bytes
            self._done += 1
            done, downloaded = self._done, chunks.downloaded_bytes
            now = time.monotonic()
            due = now - self._told_at > _PROGRESS_EVERY_S
            if due:
                self._told_at = now
            if judged.fault is not None:
                bad = self._note_bad(wanted, judged)
            elif judged.ok:
                chunks.ok += 1
            elif judged.same:
                chunks.same += 1
            else:
                chunks.not_checked += 1
        if bad is not None:
            self._notify(BadChunkFound(bad))
        if due:
            self._notify(CopyProgress(done, downloaded))

    def _note_bad(self, wanted: Wanted, judged: Judged) -> BadChunk | None:
        """Keep a bad chunk; None if it was known. The lock is held."""
        if judged.fault is None or wanted.digest in self._found:
            return None
        chunk = BadChunk(
            wanted.digest,
            wanted.size,
            judged.fault,
            judged.reason,
            wanted.source_digest,
            wanted.archive.encrypted,
        )
        self._found[chunk.digest] = chunk
        self.report.bad_chunks.append(chunk)
        return chunk

    # -- what the server says --

    def _failed(self, pairs: Sequence[GroupPair]) -> list[Copy]:
        """The snapshots whose verification by the server failed: before, or when asked now."""
        options = self._options
        failed = {copy.place: copy for pair in pairs for copy in pair.copies if copy.failed}
        if options.remote_verify:
            asked = [
                Asked(
                    pair.target_namespace,
                    pair.group,
                    tuple(copy.item.snapshot.backup_time for copy in pair.copies),
                )
                for pair in pairs
                if pair.copies
            ]
            self.report.server = self._verifier().verify(asked)
            by_group = {(pair.target_namespace, str(pair.group)): pair for pair in pairs}
            for found in self.report.server:
                for copy in by_group[found.target_namespace, found.group].copies:
                    backup_time = copy.item.snapshot.backup_time
                    if backup_time in found.failed:
                        failed[copy.place] = copy
                    elif backup_time not in found.not_done:
                        failed.pop(copy.place, None)
        return list(failed.values())

    def _verifier(self) -> ServerVerifier:
        return ServerVerifier(self._run, self.report, self._notify, self._options.server_wait_s)

    # -- damage --

    def _probe(self, failed: Sequence[Copy]) -> None:
        """Find out which chunks of snapshots are missing, without downloading them."""
        look = self._look(AllClaims(), _probe, judge_probe, self._probed)
        for copy in failed:
            try:
                self._check(copy, look)
            except OF_A_GROUP as error:
                self._problem(f"{copy.place.label}: looking for missing chunks", error)

    def _probed(self, wanted: Wanted, judged: Judged) -> None:
        with self._lock:
            bad = self._note_bad(wanted, judged)
        if bad is not None:
            self._notify(BadChunkFound(bad))

    def _tell_damage(self, failed: Sequence[Copy]) -> None:
        report = self.report
        known = {copy.place: (copy, keyed) for copy, keyed in self._read}
        find_spoiled(self._run, report.bad_chunks, known.values())
        for copy in failed:
            report.spoil(copy.place, _SERVER_SAYS)
        for chunk in report.bad_chunks:
            for place, name in chunk.spoils:
                report.spoil(place, Difference(name, str(chunk)))

    # -- healing --

    def _heal(self, failed: Sequence[Copy]) -> None:
        options, report = self._options, self.report
        healer = Healer(self._run, report, options.target_namespace, options.key, self._notify)
        sent = healer.send(report.bad_chunks)
        self._read_back(sent)
        refused = {copy.place for copy in failed}
        if refused:  # until its server says otherwise, they count as damaged there
            verifier = self._verifier()
            report.server_again = verifier.verify(_asked(refused), asked_for=options.remote_verify)
        self._mend({place for chunk in sent for place, _ in chunk.spoils} | refused, refused)

    def _read_back(self, sent: Sequence[BadChunk]) -> None:
        """Look at each chunk that was sent, through the snapshots that it spoils."""
        left = {chunk.digest: chunk for chunk in sent}
        for chunk in sent:
            chunk.healing = Healing.STILL_BAD
            chunk.why = "it could not be read back"

        judge = partial(judge_download, source=self._run.source)

        def tell(wanted: Wanted, judged: Judged) -> None:
            chunk = left.pop(wanted.digest)
            if judged.ok:
                chunk.healing, chunk.why = Healing.HEALED, ""
            else:
                chunk.why = (
                    f"{judged.reason or 'it cannot be checked'}; the server keeps what it has: it "
                    "has to find that bad by itself first (--remote-verify)"
                )

        copies = {copy.place: copy for copy, _keyed in self._read}
        for attempt in range(_PLACES_TRIED):
            through: dict[CopyPlace, set[bytes]] = {}
            for chunk in left.values():
                for place, _name in chunk.spoils[attempt : attempt + 1]:
                    through.setdefault(place, set()).add(chunk.digest)
            for place, digests in through.items():
                look = self._look(OnlyClaims(digests), _download, judge, tell)
                try:
                    self._check(copies[place], look)
                except OF_A_GROUP as error:
                    self._problem(f"{place.label}: reading chunks back", error)
        for chunk in sent:
            self._notify(BadChunkTreated(chunk))

    def _mend(self, wanted: Iterable[CopyPlace], failed: set[CopyPlace]) -> None:
        """Snapshots are whole again of which each chunk is, and which their server says are."""
        report = self.report
        bad = {place for chunk in report.unhealed for place, _ in chunk.spoils}
        for place in wanted:
            said = next((one for one in report.server_again if _is_of(place, one)), None)
            at = place.snapshot.backup_time
            verified = said is not None and at not in said.failed and at not in said.not_done
            refused = said is not None and at in said.failed
            if place not in bad and not refused and (verified or place not in failed):
                report.mend(place)

    # -- telling --

    def _problem(self, what: str, error: PbsPushError) -> None:
        if isinstance(error, Cancelled):
            raise error
        self.report.add_problem(Problem(what, error))
        self._run.note("error", f"{what}: {error}")

    def _pass_on(self, event: Event) -> None:
        """An event of the machinery that a push has, too: Note, Retrying."""
        if self._listener is not None:
            self._listener(event)  # type: ignore[arg-type]

    def _notify(self, event: TargetVerifyEvent) -> None:
        self._run.notify(event)  # type: ignore[arg-type]


def _download(session: ReaderSession, wanted: Wanted) -> Call:
    return session.chunk(wanted.digest, wanted.size)


def _probe(session: ReaderSession, wanted: Wanted) -> Call:
    return session.has_chunk(wanted.digest)


def _asked(places: Iterable[CopyPlace]) -> list[Asked]:
    """The groups that these snapshots are of."""
    groups: dict[tuple[object, object], list[CopyPlace]] = {}
    for place in places:
        groups.setdefault((place.target_namespace, place.snapshot.group), []).append(place)
    return [
        Asked(
            found[0].target_namespace,
            found[0].snapshot.group,
            tuple(sorted(place.snapshot.backup_time for place in found)),
        )
        for found in groups.values()
    ]


def _is_of(place: CopyPlace, found: ServerVerification) -> bool:
    same_group = str(place.snapshot.group) == found.group
    return same_group and place.target_namespace == found.target_namespace


def _push_options(options: TargetVerifyOptions) -> PushOptions:
    """What a push of the same would be asked: the machinery is its."""
    return PushOptions(
        source_namespace=options.source_namespace,
        target_namespace=options.target_namespace,
        max_depth=options.max_depth,
        group_filters=options.group_filters,
        retries=options.retries,
        retry_for_s=options.retry_for_s,
    )


def _sides(source: Datastore, target: Target, options: TargetVerifyOptions) -> Sides:
    return Sides(
        str(source.path), options.source_namespace, target.repository, options.target_namespace
    )
