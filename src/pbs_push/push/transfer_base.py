"""What the transfers of a snapshot have in common: their frame, and their end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pbs_push.errors import ChunkError, FormatError, RemoteError, StatusError
from pbs_push.formats.index import Index
from pbs_push.formats.manifest import Manifest
from pbs_push.names import MANIFEST_NAME
from pbs_push.push.report import TransferStats
from pbs_push.push.writers import IndexWriter, alike, opened_no_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pbs_push.push.archives import Archives
    from pbs_push.remote.session import BackupSession, Call

    Positions = NDArray[np.uint32]


class ReuseRefused(StatusError):
    """The target refused entries or a close after a shortcut; the plain way may still work."""


class Sent(NamedTuple):
    """Chunks that were sent, their bytes as on the wire, and plain."""

    chunks: int
    wire_bytes: int
    plain_bytes: int


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """How a snapshot is sent, and what is known of the target's newest one.

    ``previous`` are the source's own indexes of that snapshot, if it has it; ``expects_previous``
    says that the target has one at all. ``body_limit``: bytes that an entry list must be below.
    ``order`` says in which order the chunks at some positions of an index are best read. ``plain``:
    take no shortcut but downloading previous indexes. ``on_previous`` is given the manifest of the
    target's previous snapshot where it was asked for, ``on_broken`` the name of an index that it
    names and the target cannot give. ``on_progress(done, known)`` is called often,
    with numbers of chunks, ``on_closing`` when three flights are left.
    """

    client_log: bytes | None
    previous: Archives | None
    expects_previous: bool
    body_limit: int
    order: Callable[[Index, Positions], Positions]
    plain: bool
    on_previous: Callable[[Manifest], None]
    on_broken: Callable[[str], None]
    on_progress: Callable[[int, int], None]
    on_closing: Callable[[], None]


class Transfer(ABC):
    """Sends one snapshot; ``run`` it once.

    A subclass opens its ``_writers`` and fills them in ``_send``. ``_at_target`` is the manifest of
    the target's previous snapshot, if it can be used.
    """

    _writers: Sequence[IndexWriter]

    def __init__(
        self, session: BackupSession, archives: Archives, options: TransferOptions
    ) -> None:
        self._session = session
        self._archives = archives
        self._options = options
        self._plain = options.plain
        self._writers = []
        self._at_target: Manifest | None = None
        self._downloaded: list[Index] = []
        self._fallbacks = 0
        self._shortcuts = 0

    def run(self) -> TransferStats:
        """Send all of it, and finish. Raises PbsPushError; the caller closes the session then."""
        try:
            self._send()
            self._archives.check_unchanged()
            self._options.on_closing()
            self._close()
            # Not before: a folder with a manifest counts as finished, whatever becomes of the rest.
            self._answered(self._session.upload_blob(MANIFEST_NAME, self._manifest().encode()))
            self._answered(self._session.finish())
            return self._stats()
        except ChunkError as error:
            raise self._naming_archive(error) from error
        except RemoteError:
            # An index cut short by somebody is the reason, whatever the target said of it.
            self._archives.check_unchanged()
            raise
        finally:
            for index in self._downloaded:
                index.close()

    def _naming_archive(self, error: ChunkError) -> ChunkError:
        names = self._archives.needing(bytes.fromhex(error.digest_hex))
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return error.needed_by(f"{names[0]}{others}") if names else error

    @abstractmethod
    def _send(self) -> None:
        """Send everything but closes and the manifest; all answers have come then."""

    @abstractmethod
    def _manifest(self) -> Manifest:
        """The snapshot's manifest at the target."""

    @property
    @abstractmethod
    def _sent(self) -> Sent:
        """The chunks that were sent."""

    @property
    def _took_shortcuts(self) -> bool:
        """Whether doing without them may help where the target refuses something.

        A damaged previous index that was asked for is one: the target has registered its chunks,
        with sizes that may be wrong.
        """
        return self._shortcuts + self._fallbacks > 0

    def _note_shared(self, previous: int) -> None:
        """Count shortcuts: so many previous indexes, and writers that share what others send.

        In the plain way each writer is by itself.
        """
        self._shortcuts += previous
        if not self._plain:
            self._shortcuts += len(self._writers) - 1

    # -- what the target has --

    def _manifest_of(self, call: Call | None) -> Manifest | None:
        """The previous snapshot's manifest in an answer, None if there is none that can be used."""
        if call is None or call.refused:
            return None
        try:
            found = Manifest.decode(call.body())
        except (FormatError, RemoteError):
            return None
        self._options.on_previous(found)
        return found

    def _downloaded_index(self, name: str, call: Call) -> Index | None:
        """An index of the previous snapshot from its download, if it is what its manifest says.

        It only saves work: None if there is none there, or, a fallback, if it is unusable. It is
        closed in the end.
        """
        info = self._at_target.file(name) if self._at_target is not None else None
        if info is None:
            return None
        self._note_broken(name, call)
        try:
            index = call.index(f"{name} of the target's previous snapshot")
            self._downloaded.append(index)
            if (index.csum(), index.size) == (info.csum, info.size):
                return index
        except (RemoteError, FormatError):
            pass  # as where it is another one
        self._fallbacks += 1
        return None

    def _csum_to_reuse(self, name: str, old: Index | None) -> bytes | None:
        """The csum of the target's previous index, where the new one can start as its copy.

        ``old`` is that index, downloaded.
        """
        info = self._at_target.file(name) if self._at_target is not None else None
        if self._plain or old is None or info is None:
            return None
        return info.csum if alike(self._archives.indexes[name].index, old) else None

    def _note_broken(self, name: str, call: Call) -> None:
        """Tell of an index that the target's previous manifest names, and that it cannot give."""
        if call.refused and self._at_target is not None and self._at_target.file(name) is not None:
            self._options.on_broken(name)

    # -- writers --

    def _take_refused_copies(self) -> list[IndexWriter]:
        """The writers that were not opened as a copy: now they write all, if opened anew."""
        copies = [writer for writer in self._writers if writer.positions is not None]
        refused = [writer for writer in copies if opened_no_writer(writer.create)]
        self._fallbacks += len(refused)
        for writer in refused:
            writer.positions = None
        return refused

    def _finish_opening(self, uploads: Iterable[Call]) -> None:
        """Wait for the writers, and for what was uploaded along with them."""
        uploads = list(uploads)
        self._session.wait([*uploads, *(writer.create for writer in self._writers)])
        for upload in uploads:
            upload.body()
        for writer in self._writers:
            writer.writer_id = writer.create.writer_id()

    # -- the end --

    def _answered(self, call: Call) -> None:
        """Wait for a call's success."""
        self._session.wait([call])
        call.body()

    def _checked(self, call: Call) -> None:
        """Raise the error of a call, as ReuseRefused where a shortcut may be the reason."""
        try:
            call.body()
        except StatusError as error:
            if self._took_shortcuts:
                raise ReuseRefused(error.request, error.status, error.text) from error
            raise

    def _close(self) -> None:
        closes = [writer.close(self._session) for writer in self._writers]
        self._session.wait(closes)
        for call in closes:
            self._checked(call)

    def _stats(self) -> TransferStats:
        sent = self._sent
        entries = sum(len(writer.archive.index) for writer in self._writers)
        size = sum(writer.archive.index.size for writer in self._writers)
        return TransferStats(
            sent_chunks=sent.chunks,
            sent_bytes=sent.wire_bytes,
            sent_plain_bytes=sent.plain_bytes,
            reused_entries=entries - sent.chunks,
            reused_bytes=size - sent.plain_bytes,
            requests=self._session.state.requests,
            entry_lists=sum(writer.n_lists for writer in self._writers),
            flights=self._session.flights,
            fallbacks=self._fallbacks,
        )
