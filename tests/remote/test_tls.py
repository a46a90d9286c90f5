"""The context that all connections to a target share."""

from __future__ import annotations

import ssl

import pytest

from pbs_push.remote.tls import TrustContext

from .servers import new_identity


def test_who_connects_does_not_change_what_others_offer() -> None:
    """httpcore sets protocols before each connection, while threads begin others."""
    identity = new_identity()
    identity.context.set_alpn_protocols(["h2", "http/1.1"])
    context = TrustContext(identity.fingerprint)
    context.set_alpn_protocols(["h2"])
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(back, there)
    theirs = identity.context.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    context.check_peer(ours)
    assert ours.selected_alpn_protocol() == "http/1.1"


class Wrapped:
    """A socket that was reset before its peer could be looked at."""

    closed = False

    def getpeercert(self, *, binary_form: bool = False) -> bytes:
        raise OSError(107, "Transport endpoint is not connected")

    def close(self) -> None:
        self.closed = True


def test_a_connection_whose_peer_cannot_be_looked_at_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrapped = Wrapped()
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", lambda *_args, **_more: wrapped)
    context = TrustContext(bytes(32))
    with pytest.raises(OSError, match="not connected"):
        context.wrap_socket()
    assert wrapped.closed
