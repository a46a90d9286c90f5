"""Changes of metadata that a plan holds (protocol/push.md, "Notes and protection")."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from pbs_push.source.items import SourceSnapshot


class MetadataKind(enum.Enum):
    """What is to be set at the target; the value is how people read it."""

    NOTES = "notes"
    GROUP_NOTES = "group notes"
    PROTECT = "protected"
    UNPROTECT = "not protected"


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """Something to be set at the target: of ``snapshot``, or of the group (None).

    ``notes`` is their whole text. ``after_push``: only if the snapshot (or any of the group) is
    pushed now.
    """

    kind: MetadataKind
    snapshot: SourceSnapshot | None = None
    notes: str = ""
    after_push: bool = False

    def is_due(self, pushed: Sequence[SourceSnapshot]) -> bool:
        """Whether it is to be set, after these snapshots of its group were pushed."""
        if not self.after_push:
            return True
        return bool(pushed) if self.snapshot is None else self.snapshot in pushed
