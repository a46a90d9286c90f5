"""What the parts of one verification share: what is asked, what was found, and how it is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pbs_push.errors import Cancelled
from pbs_push.push.events import Note
from pbs_push.verify.report import VerifyReport

if TYPE_CHECKING:
    from pbs_push.push.events import Level
    from pbs_push.source.datastore import Datastore
    from pbs_push.verify.events import VerifyEvent, VerifyListener
    from pbs_push.verify.options import VerifyOptions


class Task:
    """A verification of ``source``. ``cancelled`` ends it at the next wait."""

    def __init__(
        self, source: Datastore, options: VerifyOptions, listener: VerifyListener | None
    ) -> None:
        self.source: Final = source
        self.options: Final = options
        self.report: Final = VerifyReport(str(source.path), options.namespace)
        self.cancelled: Final = threading.Event()
        self._listener = listener

    def check_cancelled(self) -> None:
        """Raise Cancelled if the caller asked to stop."""
        if self.cancelled.is_set():
            raise Cancelled("stopped as asked")

    def note(self, level: Level, text: str) -> None:
        """Tell a line for people."""
        self.notify(Note(level, text))

    def notify(self, event: VerifyEvent) -> None:
        """Tell the listener, if there is one."""
        if self._listener is not None:
            self._listener(event)
