"""The groups of one namespace at the target: a million of them in 160 MiB."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pbs_push.errors import InvalidName, ProtocolError
from pbs_push.names import BACKUP_TYPES, Group
from pbs_push.remote.models import GroupItem

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from pbs_push.names import AuthId

T = TypeVar("T")

MAX_TEXT: Final = 64 << 20
"""Characters of owners, notes and names of files that are kept. The latter two repeat."""
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


class GroupTable(Mapping[Group, GroupItem]):
    """Groups by name, in columns; a GroupItem is made when one is asked for.

    Raises ProtocolError where their texts take too much memory.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, int]] = {kind: {} for kind in BACKUP_TYPES}
        self._times = array("q")
        self._counts = array("q")
        self._owners: _Repeating[AuthId | None] = _Repeating()
        self._files: _Repeating[tuple[str, ...]] = _Repeating()
        self._comments: dict[int, str] = {}
        self._text = 0

    @classmethod
    def of(cls, items: Iterable[GroupItem]) -> Self:
        """A table of these; one whose name is none of a group is left out."""
        table = cls()
        for item in items:
            with suppress(InvalidName):
                table.add(item)
        return table

    def add(self, item: GroupItem) -> None:
        """Take a group, in place of an earlier one of its name. Raises InvalidName for its name."""
        group = item.group
        row = len(self._times)
        self._times.append(min(max(item.last_backup, _LEAST), _MOST))
        self._counts.append(min(max(item.backup_count, _LEAST), _MOST))
        if self._owners.add(item.owner):
            self._text += len(str(item.owner))
        if self._files.add(item.files):
            self._text += sum(map(len, item.files))
        if item.comment is not None:
            self._comments[row] = item.comment
            self._text += len(item.comment)
        if self._text > MAX_TEXT:
            raise ProtocolError("the target's groups have more text than can be kept")
        self._rows[group.backup_type][group.backup_id] = row

    def __getitem__(self, group: Group) -> GroupItem:
        row = self._rows[group.backup_type][group.backup_id]
        return GroupItem(
            group.backup_type,
            group.backup_id,
            self._times[row],
            self._counts[row],
            self._files[row],
            self._owners[row],
            self._comments.get(row),
        )

    def __iter__(self) -> Iterator[Group]:
        for kind, rows in self._rows.items():
            for backup_id in rows:
                yield Group(kind, backup_id)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))


class _Repeating(Generic[T]):
    """A column whose values are few."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._numbers: dict[T, int] = {}
        self._column = array("I")

    def add(self, value: T) -> bool:
        """Add a row; whether its value is new."""
        new = value not in self._numbers
        if new:
            self._numbers[value] = len(self._values)
            self._values.append(value)
        self._column.append(self._numbers[value])
        return new

    def __getitem__(self, row: int) -> T:
        return self._values[self._column[row]]
