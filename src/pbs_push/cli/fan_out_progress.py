"""Pushes to several targets while they go on: each line says which target it is of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from pbs_push.cli.lines import PROGRAM, say
from pbs_push.names import DEFAULT_PORT

if TYPE_CHECKING:
    from pbs_push.cli.event_lines import Importance
    from pbs_push.cli.progress import Progress
    from pbs_push.names import Repository
    from pbs_push.push.events import FromTarget

_HEADS: Final = (f"{PROGRAM}: error: ", f"{PROGRAM}: warning: ")


def label_of(target: Repository) -> str:
    """A target as lines name it: ``host:datastore``, with the port where it is another one."""
    where = target.netloc.removesuffix(f":{DEFAULT_PORT}")
    return f"{where}:{target.datastore}"


def labelled(label: str, text: str) -> str:
    """A line that says which target it is of."""
    for head in _HEADS:
        if text.startswith(head):
            return f"{head}{label}: {text.removeprefix(head)}"
    return f"{label}: {text}"


def labelling(target: Repository, write: Callable[[str], None] = say) -> Callable[[str], None]:
    """What writes lines of one target by ``write``."""
    label = label_of(target)
    return lambda text: write(labelled(label, text))


class OfEach:
    """Shows each target's push by itself, with one of ``shown``, in the order of the targets."""

    def __init__(self, shown: Sequence[Progress]) -> None:
        self._shown = shown
        self._stack = ExitStack()

    def __call__(self, event: FromTarget) -> None:
        """Take an event."""
        self._shown[event.number](event.event)

    def __enter__(self) -> Self:
        for one in self._shown:
            self._stack.enter_context(one)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def lines_of(targets: Sequence[Repository], shown: Importance) -> OfEach:
    """Line by line, as far as ``shown`` goes."""
    from pbs_push.cli.progress import LineProgress  # noqa: PLC0415

    return OfEach([LineProgress(shown, labelling(target)) for target in targets])


def events_of(targets: Sequence[Repository]) -> OfEach:
    """JSON lines."""
    from pbs_push.cli.event_json import JsonProgress  # noqa: PLC0415

    return OfEach([JsonProgress(about={"repository": str(target)}) for target in targets])
