"""A connection that was reset before TLS began on it is closed, by each side's context."""

from __future__ import annotations

import ast
import gc
import socket
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pbs_push
from pbs_push.remote.tls import TrustContext
from pbs_push.target.certificate import server_context


@contextmanager
def reset_connection() -> Iterator[socket.socket]:
    """A connection that the other side has reset."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as ours,
    ):
        theirs, _address = listening.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        yield ours


@pytest.mark.parametrize("side", ["client", "server"])
def test_a_connection_reset_before_tls_is_closed(side: str) -> None:
    server = side == "server"
    context = server_context(None)[0] if server else TrustContext(bytes(32))
    with warnings.catch_warnings(record=True) as told, reset_connection() as ours:
        warnings.simplefilter("always")
        with pytest.raises(ConnectionResetError):
            context.wrap_socket(ours, server_side=server, do_handshake_on_connect=False)
        gc.collect()
    assert [str(one.message) for one in told] == []


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_every_context_makes_such_sockets(folder: str) -> None:
    """Where a context is made, its kind of socket is set; nothing else is looked at."""
    root = Path(pbs_push.__file__).parent if folder == "src" else Path(__file__).parent
    made = 0
    for path in root.rglob("*.py"):
        if path == Path(__file__):
            continue
        text = path.read_text()
        contexts = sum(_makes_a_context(node) for node in ast.walk(ast.parse(text)))
        assert text.count(".sslsocket_class = TlsSocket") == contexts, path
        made += contexts
    assert made >= 3


def _makes_a_context(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called == "super().__new__":  # TrustContext
        return any(ast.unparse(one).startswith("ssl.PROTOCOL") for one in node.args)
    return called in {"ssl.SSLContext", "ssl.create_default_context"}
