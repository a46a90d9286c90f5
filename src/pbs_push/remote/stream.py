"""What a session needs of a connection: TLS on a socket, or memory where there is no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import ssl

    from typing_extensions import Buffer


class Stream(Protocol):
    """A connection to a target that is trusted, of one thread: ``TlsStream`` is the real one."""

    netloc: str
    closed_by_target: bool
    most_in_flight: int | None
    """Bytes that the system lets the connection have on the way at once, None if unknown."""

    @property
    def session(self) -> ssl.SSLSession | None:
        """What lets a later connection resume this one's keys."""

    @property
    def session_reused(self) -> bool:
        """Whether the keys are those of an earlier connection."""

    @property
    def pending(self) -> int:
        """Bytes that were written, and wait in memory."""

    @property
    def unacknowledged(self) -> int:
        """Bytes that were written, and of which the target has not said that it has them."""

    def write(self, data: Buffer) -> None:
        """Take all of ``data``; it is sent by ``flush``. Raises ConnectError."""

    def flush(self) -> bool:
        """Send what can be sent without waiting; True if that was all. Raises ConnectError."""

    def wait(self, timeout_s: float, extra_fd: int = -1) -> bool:
        """Wait until there is something to receive; True if so.

        Ends early, with False, when more can be sent or ``extra_fd`` is readable. Raises Cancelled,
        ConnectError.
        """

    def receive(self) -> None:
        """Take what has come. Raises ConnectError."""

    def read(self) -> memoryview | None:
        """Some of what was taken, None where there is none; valid until the next call."""

    def end(self, last_words: bytes) -> None:
        """Send ``last_words`` as far as that needs no waiting, and close."""

    def close(self) -> None:
        """Close at once."""
