"""What a source datastore is found to hold: values, with no open files behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pbs_push.names import AuthId, Group, Namespace, Snapshot


def group_disk_path(namespace: Namespace, group: Group) -> str:
    """Path of a group below the datastore: ``ns/a/vm/100`` (protocol/datastore.md, "Layout")."""
    return f"{namespace.disk_path}/{group}".lstrip("/")


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """A group found in a source namespace; ``owner`` is None if its owner file is unreadable.

    PBS hides a group without a readable owner, so the caller warns and skips it
    (protocol/push.md, "Odd sources").
    """

    namespace: Namespace
    group: Group
    owner: AuthId | None

    @property
    def disk_path(self) -> str:
        """Path below the datastore's base directory."""
        return group_disk_path(self.namespace, self.group)

    @property
    def label(self) -> str:
        """For messages: the group and where it lies."""
        return _label(str(self.group), self.namespace)


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """A snapshot found in a source group.

    ``finished``: it has a manifest; without one it is in progress, or its backup died.
    ``protected``: somebody keeps it from prune. ``waits_for`` are the places that it is to be
    copied to, for which a push keeps it from prune until then (``source.marks``).
    """

    namespace: Namespace
    snapshot: Snapshot
    finished: bool
    protected: bool
    waits_for: tuple[str, ...] = ()

    @property
    def disk_path(self) -> str:
        """Path below the datastore's base directory."""
        group = group_disk_path(self.namespace, self.snapshot.group)
        return f"{group}/{self.snapshot.time_text}"

    @property
    def label(self) -> str:
        """For messages: the snapshot and where it lies."""
        return _label(str(self.snapshot), self.namespace)


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """The snapshots of a group, oldest first, and what looks like one but cannot be.

    ``odd`` holds pairs of a folder's name and the reason why it is left out: a time that is no
    date makes a real PBS fail on the whole group
    (protocol/datastore.md, "Names that do not match"). ``links`` are names of symbolic links
    in the place of snapshots, which are not followed.
    """

    snapshots: tuple[SourceSnapshot, ...]
    odd: tuple[tuple[str, str], ...] = ()
    links: tuple[str, ...] = ()

    @property
    def left_out(self) -> Iterator[tuple[str, str]]:
        """Names of all that is left out, with the reasons."""
        yield from self.odd
        for name in self.links:
            yield name, "it is a symbolic link, which is not followed"


def _label(name: str, namespace: Namespace) -> str:
    return name if namespace.is_root else f"{name} in {namespace.label}"
