"""What the target has already, and the writers of what it is to get (protocol/backup.md).

One flight where the source has the target's previous snapshot too: it is taken for what the target
has while the target's manifest comes along. Two where not: then that snapshot's indexes are
downloaded first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pbs_push.errors import FormatError, RemoteError
from pbs_push.formats.index import Index
from pbs_push.formats.manifest import Manifest
from pbs_push.names import INDEX_SUFFIXES
from pbs_push.push.archives import MAX_INDEXES, Archives
from pbs_push.push.writers import IndexWriter, alike, needed_digests

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pbs_push.push.archives import IndexArchive
    from pbs_push.remote.session import BackupSession, Call


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be relied on.

    ``expects_previous``: the target has a previous snapshot. ``here`` are the source's own indexes
    of that one, if they can stand for the target's. ``reuse``: writers may start as copies, and
    rely on what was sent for another. ``accepts`` says of the target's manifest whether its
    chunks are of use.
    """

    expects_previous: bool
    here: Archives | None
    reuse: bool
    accepts: Callable[[Manifest], bool]


@dataclass(frozen=True, slots=True)
class Witness:
    """Whom to tell what was seen on the way.

    ``previous`` is given the manifest of the target's previous snapshot where it was asked for,
    ``broken`` the name of an index that it names and the target cannot give.
    """

    previous: Callable[[Manifest], None]
    broken: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Previous:
    """What the target has of its previous snapshot, and takes for known in this session.

    ``manifest`` is None where there is none that can be used; ``registered`` are the indexes, by
    name, whose chunks need not be sent. ``fallbacks`` counts shortcuts that were refused,
    ``shortcuts`` those taken.
    """

    manifest: Manifest | None
    registered: Mapping[str, Index]
    fallbacks: int
    shortcuts: int


class Negotiation:
    """Opens the writers of one snapshot's indexes: ``ask``, ``run``, and close it in the end.

    It never fails for what only saves work.
    """

    def __init__(
        self, session: BackupSession, archives: Archives, terms: Terms, witness: Witness
    ) -> None:
        self._session = session
        self._indexes = archives.indexes
        self._terms = terms
        self._witness = witness
        self._writers: list[IndexWriter] = []
        self._about: Call | None = None
        self._registrations: dict[str, Call] = {}
        self._downloads_asked: dict[str, Call] = {}
        self._there: Manifest | None = None
        self._registered: dict[str, Index] = {}
        self._downloaded: list[Index] = []
        self._fallbacks = 0
        self._shortcuts = 0

    def ask(self) -> None:
        """Make the calls that wait for nothing."""
        if self._terms.expects_previous:
            self._about = self._session.previous_manifest()
        if self._about is not None and self._terms.here is None:
            self._ask_for_downloads()
        else:
            self._ask_optimistically()

    def run(self) -> tuple[list[IndexWriter], Previous]:
        """The writers, asked for but not all answered yet; and what need not be sent."""
        if self._about is not None and self._terms.here is None:
            downloads = self._open_after_download(self._about)
        else:
            downloads = self._open_optimistically()
        downloads |= self._open_refused_again(downloads)
        self._take_downloads(downloads)
        shortcuts = self._shortcuts + len(self._registered)
        if self._terms.reuse:
            shortcuts += max(0, len(self._writers) - 1)  # one need not send what another does
        previous = Previous(self._there, self._registered, self._fallbacks, shortcuts)
        return self._writers, previous

    def close(self) -> None:
        """Close what was downloaded."""
        for index in self._downloaded:
            index.close()

    # -- with the source's own copy of the previous snapshot, or without a previous one --

    @property
    def _here(self) -> Mapping[str, IndexArchive]:
        """The source's own indexes of the previous snapshot."""
        return self._terms.here.indexes if self._terms.here is not None else {}

    def _ask_optimistically(self) -> None:
        """Take the source's copy of the previous snapshot for the target's."""
        here = self._here
        self._writers = [
            self._open(archive, self._reusable(archive, here.get(name)))
            for name, archive in self._indexes.items()
        ]
        self._registrations = {
            name: self._session.register_previous(name) for name in self._worth_registering(here)
        }

    def _open_optimistically(self) -> dict[str, Call]:
        """Check what was taken for the target's.

        Returns downloads of those previous indexes that are not what the source has, or that it
        cannot read.
        """
        registrations, here = self._registrations, self._here
        creates = [writer.create for writer in self._writers]
        asked = [self._about] if self._about is not None else []
        self._session.wait([*registrations.values(), *creates, *asked])
        self._there = self._manifest_in(self._about)
        self._take_from_source(registrations)
        stale = [name for name in registrations if not self._is_same_at_target(name)]
        return self._downloads([*stale, *(name for name in self._indexes if name not in here)])

    def _reusable(
        self, archive: IndexArchive, old: IndexArchive | None
    ) -> tuple[Index, bytes] | None:
        """The previous index that a fixed one can start from as a copy, with its csum."""
        if not self._terms.reuse or old is None or not alike(archive.index, old.index):
            return None
        return old.index, old.info.csum

    def _worth_registering(self, here: Mapping[str, IndexArchive]) -> list[str]:
        """The previous indexes that hold a chunk that is needed; the copied entries need none."""
        if not here or not len(needed := needed_digests(self._writers)):
            return []
        return [name for name, old in here.items() if needed.contains(old.index.digests).any()]

    def _take_from_source(self, registrations: dict[str, Call]) -> None:
        """Previous indexes that the target has registered, and that the source has too."""
        for name, call in registrations.items():
            if call.refused:
                self._fallbacks += 1
                self._note_broken(name, call)
            elif self._terms.here is not None and self._is_same_at_target(name):
                call.body()
                self._registered[name] = self._terms.here.indexes[name].index

    def _is_same_at_target(self, name: str) -> bool:
        """Whether the target's previous snapshot has the very index that the source's has."""
        here, there = self._terms.here, self._there
        ours = here.manifest.file(name) if here is not None else None
        theirs = there.file(name) if there is not None else None
        if ours is None or theirs is None:
            return False
        return (theirs.csum, theirs.size) == (ours.csum, ours.size)

    # -- without it --

    def _ask_for_downloads(self) -> None:
        """The source's copy of the previous snapshot is of no use: ask for all of it.

        Indexes are asked for along with the manifest that tells which there are.
        """
        self._downloads_asked = {name: self._session.previous_index(name) for name in self._indexes}

    def _open_after_download(self, about: Call) -> dict[str, Call]:
        """Open the writers by what was downloaded.

        Indexes of other names are asked for along with these, where one of ours is new: it may have
        been renamed. Returns these downloads.
        """
        downloads = self._downloads_asked
        self._session.wait([about, *downloads.values()])
        self._there = self._manifest_in(about)
        self._take_downloads(downloads)
        self._writers = [
            self._open(archive, self._reusable_download(name, archive))
            for name, archive in self._indexes.items()
        ]
        renamed = self._downloads(self._possibly_renamed())
        self._session.wait([writer.create for writer in self._writers])
        return renamed

    def _reusable_download(self, name: str, archive: IndexArchive) -> tuple[Index, bytes] | None:
        """The target's previous index that a fixed one can start from as a copy, with its csum."""
        old = self._registered.get(name)
        info = self._there.file(name) if self._there is not None else None
        if not self._terms.reuse or old is None or info is None or not alike(archive.index, old):
            return None
        return old, info.csum

    def _possibly_renamed(self) -> list[str]:
        """The target's previous indexes that none of ours is named like, if one of ours is new.

        No more than a session can write.
        """
        there = self._there
        if (
            not self._terms.reuse
            or there is None
            or all(there.file(name) for name in self._indexes)
        ):
            return []
        others = [
            info.filename
            for info in there.files
            if info.filename.endswith(INDEX_SUFFIXES) and info.filename not in self._indexes
        ]
        return others[:MAX_INDEXES]

    # -- both --

    def _open(self, archive: IndexArchive, reuse: tuple[Index, bytes] | None) -> IndexWriter:
        base, csum = reuse or (None, None)
        self._shortcuts += base is not None
        return IndexWriter.open(self._session, archive, base, csum)

    def _open_refused_again(self, asked: dict[str, Call]) -> dict[str, Call]:
        """Where the target refused a copy of its previous index: write all of it.

        Its chunks are registered, so that they need not be sent. Returns downloads of those
        previous indexes for which the source's own cannot stand, if not ``asked`` for before.
        """
        registrations: dict[str, Call] = {}
        unlike: list[str] = []
        for writer in self._writers:
            if not writer.refused_copy:
                continue
            self._fallbacks += 1
            writer.open_again(self._session)
            name = writer.archive.info.filename
            if name in self._registered or name in asked:
                continue
            if self._is_same_at_target(name):
                registrations[name] = self._session.register_previous(name)
            else:
                unlike.append(name)
        downloads = self._downloads(unlike)
        self._session.wait(registrations.values())
        self._take_from_source(registrations)
        return downloads

    def _downloads(self, names: Iterable[str]) -> dict[str, Call]:
        """Ask for those of these indexes that the target's previous snapshot has."""
        there = self._there
        if there is None:
            return {}
        return {name: self._session.previous_index(name) for name in names if there.file(name)}

    def _take_downloads(self, downloads: dict[str, Call]) -> None:
        """Downloaded previous indexes: their chunks are known. It only saves work."""
        self._session.wait(downloads.values())
        for name, call in downloads.items():
            if (index := self._downloaded_index(name, call)) is not None:
                self._registered[name] = index

    def _downloaded_index(self, name: str, call: Call) -> Index | None:
        """An index of the previous snapshot from its download, if it is what its manifest says.

        None if there is none there, or, a fallback, if it is unusable.
        """
        info = self._there.file(name) if self._there is not None else None
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

    def _manifest_in(self, about: Call | None) -> Manifest | None:
        """The previous snapshot's manifest in an answer, None if there is none that can be used."""
        if about is None or about.refused:
            return None
        try:
            found = Manifest.decode(about.body())
        except (FormatError, RemoteError):
            return None
        self._witness.previous(found)
        return found if self._terms.accepts(found) else None

    def _note_broken(self, name: str, call: Call) -> None:
        """Tell of an index that the target's previous manifest names, and that it cannot give."""
        if call.refused and self._there is not None and self._there.file(name) is not None:
            self._witness.broken(name)
