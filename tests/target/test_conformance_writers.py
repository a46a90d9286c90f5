"""Recorded sessions of a PBS 4.2.3, replayed: chunks, indexes and their entries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .client import entries
from .recordings import ZERO_CHUNK, load, session_of
from .replays import Address, open_two_entry_writer, replays, steps
from .samples import CHUNK, content, dynamic_csum, fixed_csum, packed, send_chunk, sha256


@replays(
    "fixed-chunk-ok-and-duplicate",
    "fixed-chunk-errors",
    "fixed-chunk-second-small-chunk",
    "put-fixed-index-ok",
    "put-fixed-index-errors",
    "put-is-not-atomic",
)
def test_fixed_writer(address: Address, recordings: Path) -> None:
    """One session, its parts in the order in which they were recorded."""
    with session_of(address) as replay:
        for name in (
            "fixed-chunk-ok-and-duplicate",
            "fixed-chunk-errors",
            "fixed-chunk-second-small-chunk",
            "put-fixed-index-ok",
        ):
            replay.run(steps(recordings, name))
        digest = replay.subst[ZERO_CHUNK]
        compact = json.dumps(entries(1, [digest], [0]), separators=(",", ":")).encode()
        replay.bodies = {18: compact, 19: compact, 20: compact}
        replay.run(steps(recordings, "put-fixed-index-errors"))
        replay.bodies = {}
        (reply,) = replay.run(steps(recordings, "put-is-not-atomic"))
        assert "(8 != 1)" in reply.text


@replays("dynamic-ok", "dynamic-append-errors", "dynamic-close-errors")
def test_dynamic_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        first = steps(recordings, "dynamic-ok")
        replay.run(first)
        replay.run(steps(recordings, "dynamic-append-errors"))
        digests = [replay.subst[step["request"]["params"]["digest"]] for step in first[1:4]]
        recorded = "1ef46f89650c7433d3b136deae4a1bdcf29fb309c6162c4305584e93e4fe716a"
        replay.subst[recorded] = dynamic_csum(digests, [1000, 1001, 1002])
        replay.run(steps(recordings, "dynamic-close-errors"))


@replays("dynamic-close-empty")
def test_an_empty_dynamic_index_cannot_be_closed(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.session.call("POST", "/dynamic_index", {"archive-name": "e.pxar.didx"})
        replay.run(steps(recordings, "dynamic-close-empty"))


@replays("encrypted-chunk")
def test_encrypted_chunk(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.session.call("POST", "/fixed_index", {"archive-name": "a.fidx", "size": 9 << 20})
        replay.run(steps(recordings, "encrypted-chunk"))


@replays("chunk-upload-cancelled-then-again")
def test_upload_cancelled_then_again(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "a.fidx", "size": 4 << 20})
        upload, put = steps(recordings, "chunk-upload-cancelled-then-again")
        stream = session.http.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "https"), (":authority", "x")]
        session.http.send_headers(stream, [*headers, (":path", "/fixed_chunk?wid=1")])
        session.http.send_data(stream, bytes(1 << 20))
        session.reset(stream)
        replay.run([upload, put])


@replays("fixed-close-errors")
def test_fixed_close_errors(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        append_more = open_two_entry_writer(replay)
        replay.run(steps(recordings, "fixed-close-errors"), before_2=append_more)


@replays("fixed-close-with-hole")
def test_close_with_hole(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "h.fidx", "size": 3 * CHUNK})
        zero = send_chunk(session, "fixed", 1, bytes(CHUNK))
        session.put("fixed", 1, [zero, zero, zero], [0, 0, 2 * CHUNK])
        (step,) = steps(recordings, "fixed-close-with-hole")
        csum = fixed_csum([zero, "00" * 32, zero])
        replay.subst[step["request"]["params"]["csum"]] = csum
        replay.run([step])


@replays(
    "index-create-errors",
    "fixed-index-create-json-body",
    "index-create-same-name-twice",
    "fixed-index-create-without-size",
    "fixed-index-create-reuse-csum-no-previous",
)
def test_creating_indexes(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        for name in (
            "index-create-errors",
            "fixed-index-create-reuse-csum-no-previous",
            "fixed-index-create-json-body",
            "index-create-same-name-twice",
            "fixed-index-create-without-size",
        ):
            replay.run(steps(recordings, name))


@replays("wid-unknown")
def test_unknown_writer(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        replay.run(steps(recordings, "wid-unknown"))


@replays("put-size-limit")
def test_put_size_limit(address: Address, recordings: Path) -> None:
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/fixed_index", {"archive-name": "b.fidx", "size": 1 << 40})
        digest = send_chunk(session, "fixed", 1, bytes(CHUNK))
        for step in steps(recordings, "put-size-limit")[:-1]:
            count, length = step.get("entries", 100), step["request"]["body-bytes"]
            offsets = [position * CHUNK for position in range(count)]
            body = json.dumps(entries(1, [digest] * count, offsets), separators=(",", ":"))
            if "entries" in step:
                assert len(body) == length
            piece = 1000 if "content-type" not in step["request"] else None
            reply = session.call(
                "PUT",
                "/fixed_index",
                None,
                body.ljust(length).encode(),
                content_type="application/json",
                chunk=piece,
            )
            assert reply.status == step["status"], step
        replay.run(steps(recordings, "put-size-limit")[-1:])


@replays("put-size-limit-dynamic")
def test_put_size_limit_dynamic(address: Address, recordings: Path) -> None:
    fits, too_large = steps(recordings, "put-size-limit-dynamic")
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "b.didx"})
        digest = send_chunk(session, "dynamic", 1, bytes(64))
        for step, start in ((fits, 0), (too_large, 7107 * 64)):
            offsets = [start + position * 64 for position in range(step["entries"])]
            body = json.dumps(
                entries(1, [digest] * len(offsets), offsets), separators=(",", ":")
            ).encode()
            if start == 0:
                assert len(body) == step["request"]["body-bytes"]
            assert len(body) < 512 << 10 or start
            reply = session.call(
                "PUT", "/dynamic_index", None, body, content_type="application/json"
            )
            assert reply.status == step["status"]


@replays("pipelining")
@pytest.mark.parametrize("count", [2, 10])
def test_pipelining(address: Address, recordings: Path, count: int) -> None:
    """A real server refuses by chance; the target always does, but never a pipelined fixed PUT."""
    results = load(recordings, "pipelining")["results"]
    assert results["two-small"]["refused-PUTs"] > 0
    assert results["chunk-then-put-of-it"]["refused-PUTs"] == 200
    fixed = results["fixed-40-puts-pipelined-then-close"]
    with session_of(address) as replay:
        session = replay.session
        session.call("POST", "/dynamic_index", {"archive-name": "p.pxar.didx"})
        digest = send_chunk(session, "dynamic", 1, content("p", 1000))
        bodies = [entries(1, [digest], [1000 * number]) for number in range(count)]
        streams = [
            session.start("PUT", "/dynamic_index", json_body=body, flush=False) for body in bodies
        ]
        first, *others = [session.wait(stream).status for stream in streams]
        assert first == 200
        assert others == [400] * (count - 1)
        assert refused_close(session, digest) == 400
        assert refused_chunk(session) == 400
        assert fixed_puts(session, digest) == ([200] * fixed["ok"], fixed["close"])


def refused_close(session: Any, digest: str) -> int | None:
    put = entries(1, [digest], [1000])
    session.start("PUT", "/dynamic_index", json_body=put, flush=False)
    close = {
        "wid": 1,
        "chunk-count": 2,
        "size": 2000,
        "csum": dynamic_csum([digest] * 2, [1000] * 2),
    }
    status: int | None = session.call("POST", "/dynamic_close", close).status
    return status


def refused_chunk(session: Any) -> int | None:
    data = content("q", 1000)
    raw = packed(data)
    chunk = {"wid": 1, "digest": sha256(data), "size": 1000, "encoded-size": len(raw)}
    session.start("POST", "/dynamic_chunk", chunk, raw, flush=False)
    status: int | None = session.put("dynamic", 1, [sha256(data)], [2000]).status
    return status


def fixed_puts(session: Any, _digest: str) -> tuple[list[int | None], int | None]:
    session.call("POST", "/fixed_index", {"archive-name": "p.fidx", "size": 40 * CHUNK})
    zero = send_chunk(session, "fixed", 2, bytes(CHUNK))
    streams = [
        session.start(
            "PUT", "/fixed_index", json_body=entries(2, [zero], [CHUNK * number]), flush=False
        )
        for number in range(40)
    ]
    statuses = [session.wait(stream).status for stream in streams]
    close = {
        "wid": 2,
        "chunk-count": 40,
        "size": 40 * CHUNK,
        "csum": fixed_csum([zero] * 40),
    }
    return statuses, session.call("POST", "/fixed_close", close).status
