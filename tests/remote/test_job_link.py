"""Frames between a push and its workers: whole, authentic, once, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import ConnectError, ProtocolError
from pbs_push.remote.job_link import Sealer


def both(key: bytes = b"k" * 32) -> tuple[Sealer, Sealer]:
    worker, push = Sealer(key, is_worker=True), Sealer(key, is_worker=False)
    assert list(push.texts(worker.nonce)) == []
    assert list(worker.texts(push.nonce)) == []
    return worker, push


@given(texts=st.lists(st.binary(max_size=300), max_size=5), size=st.integers(1, 500))
def test_frames_come_as_they_were_sent_in_any_pieces(texts: list[bytes], size: int) -> None:
    worker, push = both()
    data = b"".join(worker.frame(text) for text in texts)
    found = [text for at in range(0, len(data), size) for text in push.texts(data[at : at + size])]
    assert found == texts


@given(at=st.integers(4, 60), bit=st.integers(0, 7))
def test_a_frame_that_was_changed_is_refused(at: int, bit: int) -> None:
    worker, push = both()
    data = bytearray(worker.frame(b"x" * 40))
    data[at] ^= 1 << bit
    with pytest.raises(ProtocolError, match="nobody who knows the key"):
        list(push.texts(bytes(data)))


def test_a_frame_counts_once_here_and_from_there() -> None:
    worker, push = both()
    first = worker.frame(b"one")
    assert list(push.texts(first)) == [b"one"]
    with pytest.raises(ProtocolError):  # told again
        list(push.texts(first))
    worker, push = both()
    worker.frame(b"left out")
    with pytest.raises(ProtocolError):
        list(push.texts(worker.frame(b"two")))
    worker, push = both()
    with pytest.raises(ProtocolError):  # told back
        list(worker.texts(worker.frame(b"one")))
    worker, _ = both()
    _, push = both()
    with pytest.raises(ProtocolError):  # told on another connection
        list(push.texts(worker.frame(b"one")))


def test_frames_are_bounded() -> None:
    worker, push = both()
    with pytest.raises(ProtocolError, match="2000 bytes"):
        list(push.texts(worker.frame(b"x" * 2000)))
    worker, push = both()
    list(push.texts(worker.frame(b"hello")))
    assert list(push.texts(worker.frame(b"x" * 2000))) == [b"x" * 2000]
    with pytest.raises(ProtocolError, match="a frame of"):
        list(push.texts((1 << 30).to_bytes(4, "big") + b"x" * 40))


def test_nothing_is_said_before_the_other_side_has_spoken() -> None:
    with pytest.raises(ConnectError):
        Sealer(b"k" * 32, is_worker=True).frame(b"x")
