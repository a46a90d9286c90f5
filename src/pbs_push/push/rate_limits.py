"""What limits the rate of a push, now: a fixed rate, a timetable, a file; the smallest counts."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConfigError, os_reason
from pbs_push.push.timetable import Timetable
from pbs_push.remote.pacing import Pacer
from pbs_push.units import rate_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pbs_push.push.events import Level
    from pbs_push.push.options import PushOptions

LOOK_EVERY_S: Final = 1.0
"""At the clock, and at the file."""
_MAX_TEXT: Final = 4096


class RateFile:
    """A file with a limit: a size, ``off``, or a timetable. What cannot be read keeps the last one.

    ``warn`` is told why it cannot, once until it can again.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        self._path = path
        self._warn = warn
        self._warned = False
        self._said = Timetable(())

    def look(self) -> Timetable:
        """What it says now."""
        try:
            with self._path.open(encoding="utf-8") as file:
                text = file.read(_MAX_TEXT).strip()
            if text:  # an empty one is being written
                self._said = Timetable.parse(text)
                self._warned = False
        except OSError as error:
            self._complain(os_reason(error))
        except UnicodeDecodeError:
            self._complain("it is not UTF-8 text")
        except ConfigError as error:
            self._complain(str(error))
        return self._said

    def _complain(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(f"rate-file {self._path}: {reason}; the rate stays as it is")


class RateLimits:
    """The limits that options ask for. ``pacer`` is None where there are none.

    ``tell`` is given the level and the text of what somebody may want to read; ``now`` tells the
    local time.
    """

    def __init__(
        self,
        options: PushOptions,
        tell: Callable[[Level, str], None],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._fixed = options.rate_out
        self._timetable = options.bwlimit
        self._tell = tell
        self._now = now
        path = options.rate_file
        self._file = None if path is None else RateFile(path, lambda text: tell("warning", text))
        asked = self._fixed is not None or self.changes
        self.pacer: Final = Pacer(self.rate(), options.burst_out) if asked else None

    @property
    def changes(self) -> bool:
        """Whether the rate may become another one while a push runs."""
        return self._timetable is not None or self._file is not None

    def rate(self) -> int | None:
        """Bytes a second that may be sent now: the smallest of all limits; None: there is none."""
        moment = self._now()
        tables = [self._timetable, None if self._file is None else self._file.look()]
        rates = [self._fixed, *(table.at(moment) for table in tables if table is not None)]
        return min((rate for rate in rates if rate is not None), default=None)

    def update(self) -> None:
        """Let the rate be what it should be now, and tell where it is another."""
        if self.pacer is None:
            return
        rate = self.rate()
        if rate != self.pacer.rate:
            self.pacer.set_rate(rate)
            self._tell("info", "no rate limit" if rate is None else f"limit: {rate_text(rate)}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, a thread looks every second whether the rate changes, if it may."""
        if not self.changes:
            yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._keep, args=(over,), name="rate", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _keep(self, over: threading.Event) -> None:
        while not over.wait(LOOK_EVERY_S):
            self.update()
