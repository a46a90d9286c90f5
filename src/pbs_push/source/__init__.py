"""A datastore on disk, read only (protocol/datastore.md): what it holds, and locks.

Names that do not match PBS's patterns are skipped; symbolic links below the datastore are never
followed; nothing is ever written below it.
"""

from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SnapshotList, SourceGroup, SourceSnapshot
from pbs_push.source.snapshot import OpenSnapshot

__all__ = ["Datastore", "OpenSnapshot", "SnapshotList", "SourceGroup", "SourceSnapshot"]
