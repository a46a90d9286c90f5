"""What a server says to a transport: HPACK of another's making, and bytes of any kind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hpack
import pytest
from hpack.struct import HeaderTuple, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pbs_push._native.transport import DOWNLOAD, Answer, Transport
from pbs_push.errors import ConnectError, ProtocolError
from pbs_push.formats.index import Index

from .h2_peer import ChunkFolder, all_of

SETTINGS = SettingsFrame(0).serialize()
CALLS = 40

NAMES = st.sampled_from(["date", "server", "x-a", "x-" + "b" * 60, "content-type", "set-cookie"])
VALUES = st.one_of(
    st.sampled_from(["", "text/plain", "Sun, 22 Nov 2026 18:49:14 GMT", "v" * 700, "w" * 5000]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40),
)
HEADERS = st.lists(
    st.tuples(NAMES, VALUES, st.sampled_from([HeaderTuple, NeverIndexedHeaderTuple])), max_size=5
)


def drain(transport: Transport) -> bytes:
    """All that it wants to send now."""
    output = b""
    while (view := transport.send()) is not None:
        with view:
            output += view
    return output


def calling(count: int) -> Transport:
    """A transport with that many calls under way, on streams 1, 3, …."""
    transport = Transport("target:8007")
    transport.receive(SETTINGS)
    for tag in range(count):
        transport.call(tag, "GET", "/", mode=DOWNLOAD if tag % 7 == 6 else 0)
    drain(transport)
    return transport


@settings(max_examples=150, deadline=None)
@given(
    answers=st.lists(
        st.tuples(
            st.integers(200, 599),
            HEADERS,
            st.booleans(),
            st.sampled_from([None, None, 4096, 0, 100, 4000]),
            st.lists(st.integers(0, 60), max_size=3),
        ),
        max_size=CALLS,
    ),
    by_bytes=st.booleans(),
)
def test_headers_of_another_encoder_are_understood(
    answers: list[
        tuple[int, list[tuple[str, str, type[HeaderTuple]]], bool, int | None, list[int]]
    ],
    by_bytes: bool,
) -> None:
    """Huffman and plain, indexed and never indexed, tables that shrink and grow, in any pieces."""
    transport = calling(CALLS)
    encoder = hpack.Encoder()
    for number, (status, headers, huffman, table_size, cuts) in enumerate(answers):
        if table_size is not None:
            encoder.header_table_size = table_size
        fields = [HeaderTuple(":status", str(status))]
        fields += [kind(name, value.encode("latin-1")) for name, value, kind in headers]
        block = encoder.encode(fields, huffman=huffman)
        wire = in_frames(2 * number + 1, block, cuts)
        for piece in [wire[i : i + 1] for i in range(len(wire))] if by_bytes else [wire]:
            transport.receive(piece)
    assert [(a.tag, a.status) for a in transport.answers()] == [
        (number, answer[0]) for number, answer in enumerate(answers)
    ]


def in_frames(stream: int, block: bytes, cuts: list[int]) -> bytes:
    """A header block as one HEADERS frame and as many CONTINUATION frames as are needed."""
    pieces = []
    for cut in [*cuts, 16000, 16000, 16000]:
        pieces.append(block[:cut])
        block = block[cut:]
    assert not block
    while len(pieces) > 1 and not pieces[-1]:
        pieces.pop()
    frames: list[HeadersFrame | ContinuationFrame] = [HeadersFrame(stream, pieces[0])]
    frames += [ContinuationFrame(stream, piece) for piece in pieces[1:]]
    frames[0].flags.add("END_STREAM")
    frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in frames)


@pytest.mark.parametrize("huffman", [True, False])
@pytest.mark.parametrize("status", [200, 204, 206, 304, 400, 401, 403, 404, 500, 503, 599])
def test_each_status(status: int, huffman: bool) -> None:
    transport = calling(1)
    block = hpack.Encoder().encode([(":status", str(status))], huffman=huffman)
    transport.receive(in_frames(1, block, []))
    (answer,) = transport.answers()
    assert answer == Answer(0, status, b"", 0, False, None)


def test_a_table_larger_than_ours_is_refused() -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 8192
    with pytest.raises(ProtocolError, match="headers of an answer"):
        calling(1).receive(in_frames(1, encoder.encode([(":status", "200")]), []))


# -- hostile bytes --

STREAMS = st.integers(0, 20)
FRAME = st.one_of(
    st.builds(lambda s, d: DataFrame(s or 1, d), STREAMS, st.binary(max_size=50)),
    st.builds(lambda s, d: HeadersFrame(s or 1, d), STREAMS, st.binary(max_size=50)),
    st.builds(
        lambda s, d: HeadersFrame(s or 1, d, flags=["END_HEADERS"]),
        STREAMS,
        st.sampled_from([b"\x88", b"\x8d", b"\x08\x03403", b"\x48\x03503", b"\xbe"]),
    ),
    st.builds(lambda s, d: ContinuationFrame(s or 1, d), STREAMS, st.binary(max_size=9)),
    st.builds(
        lambda s, c: RstStreamFrame(s or 1, error_code=c), STREAMS, st.sampled_from([0, 7, 8])
    ),
    st.builds(
        lambda n, v: SettingsFrame(0, settings={n: v}),
        st.integers(0, 8),
        st.sampled_from([0, 1, 100, 16384, 65535, (1 << 24) - 1, (1 << 31) - 1, 1 << 31]),
    ),
    st.builds(
        lambda s, n: WindowUpdateFrame(s, window_increment=n),
        STREAMS,
        st.sampled_from([1, 100, 65536, (1 << 31) - 1]),
    ),
    st.builds(lambda d: PingFrame(0, d), st.binary(min_size=8, max_size=8)),
    st.builds(
        lambda s, c, d: GoAwayFrame(0, last_stream_id=s, error_code=c, additional_data=d),
        STREAMS,
        st.sampled_from([0, 0, 2]),
        st.binary(max_size=20),
    ),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames in any order, some of their bytes changed."""
    wire = bytearray()
    for frame in draw(st.lists(FRAME, max_size=20)):
        if draw(st.booleans()):
            frame.flags.add("END_STREAM") if "END_STREAM" in str(frame.defined_flags) else None
        wire += frame.serialize()
    for position, value in draw(
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=3)
    ):
        if wire:
            wire[position % len(wire)] = value
    return bytes(wire)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Index]]:
    """An open chunk folder, and an archive of 20 chunks in it."""
    folder = ChunkFolder(tmp_path_factory.mktemp("store"))
    fd = os.open(folder.path, os.O_RDONLY)
    yield fd, folder.dynamic(bytes([i]) * 3000 for i in range(20))
    os.close(fd)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.one_of(st.binary(max_size=300), frames()),
    begun=st.booleans(),
    cuts=st.lists(st.integers(1, 100), max_size=5),
)
@example(data=b"HTTP/1.1 400 Bad Request\r\n\r\n", begun=False, cuts=[])
@example(data=b"", begun=False, cuts=[])
def test_any_bytes_are_answers_or_our_errors(
    data: bytes, begun: bool, cuts: list[int], source: tuple[int, Index]
) -> None:
    transport = Transport("target:8007")
    fd, table = source
    try:
        transport.attach_uploads(fd, readers=1, buffer_bytes=0)
        transport.add_chunks(table, all_of(table), writer_id=1, encrypted=False)
        for tag in range(3):
            transport.call(tag, "POST", "/", body=bytes(30_000 * tag))
        if begun:
            transport.receive(SETTINGS)
        drain(transport)
        for cut in [*cuts, len(data)]:
            transport.receive(data[:cut])
            data = data[cut:]
            drain(transport)
    except (ProtocolError, ConnectError) as error:
        for again in (transport.send, lambda: transport.receive(SETTINGS)):
            with pytest.raises(type(error), match=r"^HTTP/2: \S"):
                again()
    finally:
        for answer in transport.answers():
            assert 200 <= answer.status <= 599 or answer.status == 0
        transport.close()
