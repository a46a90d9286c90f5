"""A certificate that changes while a push runs: each connection is checked before it is used.

Who stands between may let the first connections through, and take one that comes later.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.remote.servers import Identity, Line, new_identity

from pbs_push.errors import TlsError
from pbs_push.names import Namespace, Snapshot
from pbs_push.remote.supply import ConnectionSupply
from pbs_push.remote.target import Target

from .conftest import Cli
from .server import SECRET, HostileTarget


@pytest.fixture(scope="module")
def other() -> Identity:
    return new_identity()


class Swapping(HostileTarget):
    """Shows another certificate from some connection on, and notes what comes over such ones."""

    def __init__(self, identity: Identity, other: Identity, good: int) -> None:
        super().__init__(identity)
        self.good = good
        self.connections = 0
        self.stolen = bytearray()
        self._other = other

    def _serve(self, line: Line) -> None:
        self.connections += 1
        if self.connections > self.good:
            line = Line(line._raw, self._other.context, self.stolen)
        super()._serve(line)

    def _answer(self, line: Line, asked: object) -> None:
        super()._answer(line, asked)  # type: ignore[arg-type]
        if self.connections >= self.good:
            raise ConnectionAbortedError

    def _honest(self, what: str) -> bytes:
        """The last answer before the other certificate says that the connection ends with it.

        The next request makes a new one then, and does not meet the end of this one on its way.
        """
        answer = super()._honest(what)
        if self.connections < self.good:
            return answer
        return answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


@contextlib.contextmanager
def swapping(identity: Identity, other: Identity, good: int) -> Iterator[tuple[Swapping, Target]]:
    with (
        Swapping(identity, other, good) as server,
        Target(server.repository(), SECRET, identity.fingerprint, timeout_s=2) as target,
    ):
        yield server, target


def test_a_new_connection_of_rest(identity: Identity, other: Identity) -> None:
    with swapping(identity, other, 1) as (server, target):
        target.rest.get("version")
        with pytest.raises(TlsError, match="no credentials were sent"):
            target.rest.get("version")
    assert server.received
    assert not server.stolen


def test_a_login_anew(identity: Identity, other: Identity) -> None:
    with (
        Swapping(identity, other, 1) as server,
        Target(server.repository("me@pbs"), SECRET, identity.fingerprint, timeout_s=2) as target,
    ):
        with pytest.raises(TlsError, match="no credentials were sent"):
            target.rest.get("version")  # logs in over the first one
        assert b"password" in server.received
        assert not server.stolen


def test_a_connection_of_a_backup(identity: Identity, other: Identity) -> None:
    with swapping(identity, other, 1) as (server, target):
        target.rest.get("version")
        with pytest.raises(TlsError, match="no credentials were sent"):
            target.begin_backup(
                target.connect(threading.Event()),
                Namespace(),
                Snapshot.parse("vm/1/2026-05-28T20:26:40Z"),
                chunks_path="/x",
                transport=target.transport(),
            )
    assert not server.stolen


def test_a_connection_opened_ahead(identity: Identity, other: Identity) -> None:
    with swapping(identity, other, 0) as (server, target):
        supply = ConnectionSupply(target, threading.Event())
        supply.open_ahead()
        with pytest.raises(TlsError, match="no credentials were sent"):
            supply.take()
        supply.close()
    assert not server.stolen


@pytest.mark.parametrize("good", [0, 1, 2, 3])
def test_a_whole_push(
    good: int, identity: Identity, other: Identity, source: Path, cli: Cli
) -> None:
    """Whatever connection it is: not tried again, a status of its own, and nothing went out."""
    with Swapping(identity, other, good) as server:
        ran = cli(
            "push", source, server.repository(), "--fingerprint", identity.fingerprint.hex(),
            "--timeout", "2",
        )  # fmt: skip
    if server.connections <= good:
        assert ran.status == 0
    else:
        assert ran.status == 4, ran
        assert "no credentials were sent" in ran.err
    assert not server.stolen
