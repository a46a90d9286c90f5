"""Push a Proxmox Backup Server datastore to a remote one.

>>> import pbs_push
>>> target = pbs_push.Target("root@pam!push@backup.example.org:offsite", "token secret",
...                          fingerprint="ab:cd:" * 15 + "ab:cd")
>>> target
<Target root@pam!push@backup.example.org:8007:offsite>

``pbs_push.push(source, target, options, listener)`` pushes and returns a typed report; the rest of
this module is what such a program needs beside it: opening archives, sets of digests, reading and
checking chunks and manifests. See docs/library.md.
"""

from pbs_push._native.digests import DigestSet
from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.errors import PbsPushError
from pbs_push.formats.blob import decode_blob
from pbs_push.formats.index import Index, open_index
from pbs_push.formats.keys import CryptKey, load_key_file
from pbs_push.formats.manifest import CryptMode, FileInfo, Manifest
from pbs_push.names import AuthId, Group, Namespace, Repository, Snapshot
from pbs_push.push.engine import Push, push
from pbs_push.push.events import (
    Event,
    NamespaceCreated,
    Note,
    Planned,
    SnapshotEnded,
    SnapshotProgress,
    SnapshotStarted,
)
from pbs_push.push.options import PushOptions
from pbs_push.push.report import Outcome, Problem, Report, Result, Skip, TransferStats
from pbs_push.remote.target import Target
from pbs_push.source.datastore import Datastore

__all__ = [
    "AuthId",
    "CryptKey",
    "CryptMode",
    "Datastore",
    "DigestSet",
    "Event",
    "FileInfo",
    "Group",
    "GroupFilter",
    "GroupFilters",
    "Index",
    "Manifest",
    "Namespace",
    "NamespaceCreated",
    "Note",
    "Outcome",
    "PbsPushError",
    "Planned",
    "Problem",
    "Push",
    "PushOptions",
    "Report",
    "Repository",
    "Result",
    "Skip",
    "Snapshot",
    "SnapshotEnded",
    "SnapshotProgress",
    "SnapshotStarted",
    "Target",
    "TransferStats",
    "decode_blob",
    "load_key_file",
    "open_index",
    "push",
]
