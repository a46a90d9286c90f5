"""Push a Proxmox Backup Server datastore to a remote one.

>>> import pbs_push
>>> target = pbs_push.Target("root@pam!push@backup.example.org:offsite", "token secret",
...                          fingerprint="ab:cd:" * 15 + "ab:cd")
>>> target
<Target root@pam!push@backup.example.org:8007:offsite>

``pbs_push.push(source, target, options, listener)`` pushes and returns a typed report; the rest of
this module is what such a program needs beside it: opening archives, sets of digests, reading and
checking chunks and manifests, and the exceptions, all of which are PbsPushErrors. See
docs/library.md, and docs/api.md for all of it.

Names are imported when they are used: a program that only needs some does not wait for all.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from pbs_push.version import VERSION

_MODULES: Final[dict[str, tuple[str, ...]]] = {
    "_native.digests": ("DigestSet",),
    "_native.shared": ("ReadCounts",),
    "access.filters": ("GroupFilter", "GroupFilters"),
    "errors": (
        "AccessError",
        "AlreadyRunning",
        "AuthError",
        "BlobFormatError",
        "BusyError",
        "Cancelled",
        "ChunkError",
        "ConfigError",
        "ConnectError",
        "DeniedError",
        "FormatError",
        "IndexFormatError",
        "InvalidName",
        "KeyFileError",
        "LimitError",
        "ManifestError",
        "NoSpaceError",
        "NotOwnerError",
        "PbsPushError",
        "ProtocolError",
        "ProxyError",
        "ResetError",
        "RemoteError",
        "SnapshotVanished",
        "SourceError",
        "SourceLocked",
        "StatusError",
        "TlsError",
        "WorkerLost",
    ),
    "formats.blob": ("decode_blob",),
    "formats.index": ("Index", "open_index"),
    "formats.keys": ("CryptKey", "load_key_file"),
    "formats.manifest": ("CryptMode", "FileInfo", "Manifest", "Protection"),
    "names": ("AuthId", "Group", "Namespace", "Repository", "Snapshot"),
    "push.async_push": ("Finished", "apush"),
    "push.checkpoint_rule": ("CheckpointRule",),
    "push.engine": ("Push", "push"),
    "push.events": (
        "Checkpointed",
        "Estimated",
        "Event",
        "FanOutListener",
        "FromTarget",
        "Listener",
        "NamespaceCreated",
        "Note",
        "Planned",
        "Removal",
        "Retrying",
        "SnapshotEnded",
        "SnapshotProgress",
        "SnapshotStarted",
        "SourceMarked",
    ),
    "push.fan_out": ("FanOut", "push_to_all"),
    "push.fan_out_report": ("FanOutReport",),
    "push.options": ("PushOptions",),
    "push.outcome": (
        "Alert",
        "Finding",
        "HeldBack",
        "Outcome",
        "Problem",
        "Removed",
        "Result",
        "Skip",
        "TransferStats",
    ),
    "push.plan": ("GroupPlan", "NamespacePlan", "Plan"),
    "push.removal_limit": ("MaxRemovals",),
    "push.report": ("Report",),
    "push.timetable": ("Timetable",),
    "push.workers": ("Workers",),
    "remote.models": ("GroupItem", "SnapshotFile", "SnapshotItem"),
    "remote.snapshot_reader": ("SnapshotReader",),
    "remote.snapshot_writer": ("SnapshotWriter",),
    "remote.target": ("Target",),
    "source.datastore": ("Datastore",),
    "source.items": ("SnapshotList", "SourceGroup", "SourceSnapshot"),
    "source.snapshot": ("OpenSnapshot",),
    "verify.events": (
        "DamageFound",
        "SnapshotVerified",
        "VerifyBegan",
        "VerifyEvent",
        "VerifyListener",
        "VerifyProgress",
    ),
    "verify.options": ("VerifyOptions",),
    "verify.report": (
        "ChunkCounts",
        "ChunkDamage",
        "FileDamage",
        "Place",
        "Unlisted",
        "Verdict",
        "VerifyReport",
    ),
    "verify.source": ("SourceVerification", "verify_source"),
    "verify.target": ("TargetVerification", "verify_target"),
    "verify.target_events": (
        "BadChunkFound",
        "BadChunkTreated",
        "CopyCompared",
        "CopyProgress",
        "ServerVerified",
        "ServerVerifying",
        "TargetVerifyBegan",
        "TargetVerifyEvent",
        "TargetVerifyListener",
    ),
    "verify.target_options": ("Sample", "TargetVerifyOptions"),
    "verify.target_report": (
        "BadChunk",
        "CopyChunks",
        "CopyPlace",
        "CopyResult",
        "CopyVerdict",
        "Difference",
        "Healing",
        "ServerVerification",
        "TargetReport",
    ),
}
"""Where the public names are defined; ``__init__.pyi`` says the same to type checkers."""

_HOMES: Final = {name: module for module, names in _MODULES.items() for name in names}

__version__ = VERSION
__all__ = sorted((*_HOMES, "__version__"))  # noqa: PLE0605  # stubtest compares it with the stub


class _Lazy(ModuleType):
    """This module, with its public names imported when they are asked for."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'pbs_push' has no attribute {name!r}")
        found = getattr(import_module(f"pbs_push.{_HOMES[name]}"), name)
        if name != "push":
            setattr(self, name, found)
        return found

    def __dir__(self) -> list[str]:
        return __all__

    @property
    def push(self) -> Any:
        """The function. Its package has the same name, and is bound here when it is imported."""
        return self.__getattr__("push")

    @push.setter
    def push(self, package: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Lazy
