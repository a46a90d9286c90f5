"""The connections under REST requests: what is waited for, and what ends that."""

from __future__ import annotations

import fcntl
import resource
import socket
import threading
from contextlib import suppress

import httpcore
import pytest

from pbs_push.errors import Cancelled
from pbs_push.names import Repository
from pbs_push.remote import lines as lines_module
from pbs_push.remote.limits import Stall
from pbs_push.remote.rest import Rest
from pbs_push.remote.tls import TrustContext

from .servers import PATIENCE_S, Identity, Line, Server, read_request


class HasSocket(httpcore.NetworkStream):
    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def get_extra_info(self, info: str) -> socket.socket:
        return self.connection


class SlowUpload:
    """A socket whose system gets rid of so many bytes each time it is asked."""

    def __init__(self, waiting: int, each: int) -> None:
        self.waiting = waiting
        self.each = each

    def unacknowledged(self, _connection: object) -> int:
        self.waiting = max(0, self.waiting - self.each)
        return self.waiting


@pytest.mark.parametrize(("each", "gets_through"), [(2048, True), (0, False)])
def test_an_upload_over_a_slow_line_is_waited_for(
    each: int, gets_through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = SlowUpload(400_000, each)
    monkeypatch.setattr(lines_module, "unacknowledged", line.unacknowledged)
    monkeypatch.setattr(lines_module, "_LOOK_EVERY_S", 0.001)
    stall = Stall(0.05)
    here, there = socket.socketpair()
    with here, there:
        lines_module._Line(HasSocket(here), lines_module._Asked())._deliver(stall)
        assert (stall.left_s > 0) is gets_through
        assert (line.waiting <= 16 << 10) is gets_through
        line.waiting, stall = 400_000, Stall(1000.0)
        there.send(b"an answer before all of it was read")
        lines_module._Line(HasSocket(here), lines_module._Asked())._deliver(stall)
        assert line.waiting > 300_000


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_a_request_ends_when_the_caller_asks_to_stop(identity: Identity, begun: bytes) -> None:
    """However long the target may take to answer, and wherever it stopped."""
    cancelled, ended = threading.Event(), threading.Event()

    def script(line: Line) -> None:
        assert read_request(line) is not None
        if begun:
            line.send(begun)
        cancelled.set()
        ended.wait(PATIENCE_S)

    with Server(identity, script) as server:
        repository = Repository.parse(server.repository)
        with Rest(repository, TrustContext(identity.fingerprint)) as rest:
            with rest.heeding(cancelled), pytest.raises(Cancelled):
                rest.get("x")
            ended.set()


def test_an_upload_ends_when_the_caller_asks_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the system has no room for more, and while it gets rid of nothing."""
    monkeypatch.setattr(lines_module, "unacknowledged", lambda _: 400_000)
    asked = lines_module._Asked()
    asked.cancelled = threading.Event()
    asked.cancelled.set()
    here, there = socket.socketpair()
    with here, there:
        line = lines_module._Line(HasSocket(here), asked)
        with pytest.raises(Cancelled):
            line._deliver(Stall(1000.0))
        here.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                here.send(bytes(1 << 16))
        asked.stall = Stall(1000.0)
        with pytest.raises(Cancelled):
            line.write(b"more")


def test_an_upload_is_waited_for_where_many_files_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """``select.select`` knows no descriptor from 1024 on."""
    line = SlowUpload(400_000, 400_000)
    monkeypatch.setattr(lines_module, "unacknowledged", line.unacknowledged)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2000, hard), hard))
    here, there = socket.socketpair()
    try:
        with here, there, socket.socket(fileno=fcntl.fcntl(here, fcntl.F_DUPFD, 1500)) as high:
            line.waiting = 1 << 20
            lines_module._Line(HasSocket(high), lines_module._Asked())._deliver(Stall(1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert line.waiting <= 16 << 10
