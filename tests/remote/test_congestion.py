"""The congestion control of the connections that carry backups."""

from __future__ import annotations

import socket
import threading

import pytest

from pbs_push.errors import ConfigError
from pbs_push.push.options import PushOptions
from pbs_push.remote.congestion import allowed_congestion_controls, used_congestion_control
from pbs_push.remote.supply import ConnectionSupply
from pbs_push.remote.target import Target

from .servers import Identity, Server
from .sessions import SECRET, waits


def test_a_connection_uses_what_was_asked_for(identity: Identity) -> None:
    names = allowed_congestion_controls().split()
    if not names:
        pytest.skip("this system does not tell which congestion controls it allows")
    for name in names:
        with (
            Server(identity, waits) as server,
            Target(server.repository, SECRET, identity.fingerprint) as target,
        ):
            supply = ConnectionSupply(target, threading.Event(), name)
            stream, _fresh = supply.take()
            used = stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
            assert used.rstrip(b"\0").decode() == name
            stream.close()
            supply.close()


def test_one_that_is_not_to_be_had_is_a_mistake_of_the_options() -> None:
    with pytest.raises(ConfigError, match=r"does not let us use 'nosuch' .*it allows: "):
        PushOptions(congestion_control="nosuch")


def test_what_the_system_uses_is_known() -> None:
    assert used_congestion_control() in ("", *used_congestion_control().split())
