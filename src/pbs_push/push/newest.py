"""The target's newest snapshot of a group that is being pushed, and the source's copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.errors import PbsPushError
from pbs_push.names import Snapshot
from pbs_push.push.archives import Archives
from pbs_push.source.items import SourceSnapshot

if TYPE_CHECKING:
    from pbs_push.source.datastore import Datastore
    from pbs_push.source.items import SourceGroup


class Newest:
    """Which snapshot of ``group`` is the target's newest finished one: ``time``, None without one.

    Its indexes at the source stay open until another one is the newest. Close it in the end.
    """

    def __init__(self, source: Datastore, group: SourceGroup, time: int | None) -> None:
        self._source = source
        self._group = group
        self.time = time
        self._archives: Archives | None = None

    def archives(self) -> Archives | None:
        """The source's copy of it, borrowed; None if it cannot be had: then the target is asked."""
        if self._archives is None and self.time is not None:
            snapshot = Snapshot(self._group.group, self.time)
            item = SourceSnapshot(self._group.namespace, snapshot, finished=True, protected=False)
            try:
                with self._source.open_snapshot(item) as opened:
                    self._archives = Archives.load_indexes(opened)
            except PbsPushError:
                return None  # pruned, or being removed
        return self._archives

    def is_now(self, time: int, archives: Archives | None = None) -> None:
        """Another one is the newest; ``archives`` are the source's of it, and belong here now."""
        self.close()
        self.time, self._archives = time, archives

    def close(self) -> None:
        """Close the indexes."""
        if self._archives is not None:
            self._archives.close()
            self._archives = None
