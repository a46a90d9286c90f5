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

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

_MODULES: Final = {
    "AuthId": "pbs_push.names",
    "CryptKey": "pbs_push.formats.keys",
    "CryptMode": "pbs_push.formats.manifest",
    "Datastore": "pbs_push.source.datastore",
    "DigestSet": "pbs_push._native.digests",
    "Event": "pbs_push.push.events",
    "FileInfo": "pbs_push.formats.manifest",
    "Group": "pbs_push.names",
    "GroupFilter": "pbs_push.access.filters",
    "GroupFilters": "pbs_push.access.filters",
    "Index": "pbs_push.formats.index",
    "Manifest": "pbs_push.formats.manifest",
    "Namespace": "pbs_push.names",
    "NamespaceCreated": "pbs_push.push.events",
    "Note": "pbs_push.push.events",
    "Outcome": "pbs_push.push.report",
    "PbsPushError": "pbs_push.errors",
    "Planned": "pbs_push.push.events",
    "Problem": "pbs_push.push.report",
    "Push": "pbs_push.push.engine",
    "PushOptions": "pbs_push.push.options",
    "Report": "pbs_push.push.report",
    "Repository": "pbs_push.names",
    "Result": "pbs_push.push.report",
    "Skip": "pbs_push.push.report",
    "Snapshot": "pbs_push.names",
    "SnapshotEnded": "pbs_push.push.events",
    "SnapshotProgress": "pbs_push.push.events",
    "SnapshotStarted": "pbs_push.push.events",
    "Target": "pbs_push.remote.target",
    "TransferStats": "pbs_push.push.report",
    "decode_blob": "pbs_push.formats.blob",
    "load_key_file": "pbs_push.formats.keys",
    "open_index": "pbs_push.formats.index",
    "push": "pbs_push.push.engine",
}
"""Where each public name lives. They are imported when first used: all of them take some 0.4 s, which
``pbs-push --help`` and programs that only look into indexes need not wait for."""

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


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'pbs_push' has no attribute '{name}'")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
