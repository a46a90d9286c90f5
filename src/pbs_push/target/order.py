"""What a client can have seen: answers numbered in batches, and a PING in front of each batch.

A real server handles the requests of a connection side by side, so a request that relies on the
answer to an earlier one has to wait for that answer. To hold clients to that, a server must know
whether the answer can have been seen when the request was sent. Frames arrive in order: in front of
each batch of answers goes a PING, and a client that has read that batch has acknowledged the PING
before it sends anything that rests on those answers. A request that arrives before the
acknowledgement was therefore sent without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MARK: Final = b"seen"
_PAYLOAD_SIZE: Final = 8


class AnswerOrder:
    """Numbers batches of answers; ``ping`` sends a PING with 8 bytes of payload.

    Not ``strict``, an answer counts as seen as soon as it is sent.
    """

    def __init__(self, ping: Callable[[bytes], None], *, strict: bool) -> None:
        self._ping = ping
        self._strict = strict
        self._seen = 0
        self._batch = 1
        self._begun = False

    @property
    def seen(self) -> int:
        """The newest batch that the client can have seen."""
        return self._seen

    @property
    def batch(self) -> int:
        """The batch that an answer given now will be in."""
        return self._batch

    def begin(self) -> None:
        """Call before anything of an answer is put in line to be sent."""
        if not self._begun:
            self._begun = True
            if self._strict:
                number = self._batch.to_bytes(_PAYLOAD_SIZE - len(_MARK), "big")
                self._ping(_MARK + number)

    def sent(self) -> None:
        """Call when what is in line has been handed to the connection."""
        if self._begun:
            self._begun = False
            if not self._strict:
                self._seen = self._batch
            self._batch += 1

    def acknowledged(self, payload: bytes) -> None:
        """Call for each PING acknowledgement, of whatever PING."""
        if payload.startswith(_MARK):
            self._seen = max(self._seen, int.from_bytes(payload[len(_MARK) :], "big"))
