"""Every check of protocol/backup.md, with data of our own.

A case is a short script in a new session; its last answer is compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pbs_push.formats.blob import decode_blob
from pbs_push.target import TargetServer

from .client import Reply, Session, entries, open_session, token, upgrade
from .conftest import ALICES_TOKEN
from .samples import (
    CHUNK,
    ENCRYPTED,
    blob,
    content,
    dynamic_csum,
    finish,
    fixed_csum,
    manifest,
    packed,
    send_blob,
    send_chunk,
    send_dynamic,
    send_fixed,
    sha256,
)

PARAMS = {"store": "store", "backup-type": "vm", "backup-id": "100", "backup-time": 1000}
SMALL = content("small", 1000)
SMALL_DIGEST = sha256(SMALL)
ZEROS = bytes(CHUNK)

Case = Callable[[Session], Reply]
CASES: list[tuple[str, int, str, Case]] = []


def case(status: int, text: str) -> Callable[[Case], Case]:
    """Register a case with its status and a part of its error text."""

    def register(function: Case) -> Case:
        CASES.append((function.__name__, status, text, function))
        return function

    return register


def upload(session: Session, raw: bytes, kind: str = "dynamic", **changes: Any) -> Reply:
    params = {
        "wid": 1,
        "digest": SMALL_DIGEST,
        "size": len(SMALL),
        "encoded-size": len(raw),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return session.call("POST", f"/{kind}_chunk", params, raw)


def dynamic(session: Session) -> Session:
    session.call("POST", "/dynamic_index", {"archive-name": "a.didx"})
    return session


def fixed(session: Session, size: int | None = 2 * CHUNK) -> Session:
    asked = {"archive-name": "a.fidx"} | ({} if size is None else {"size": size})
    session.call("POST", "/fixed_index", asked)
    return session


def close(session: Session, kind: str, **values: Any) -> Reply:
    params = {"wid": 1, "chunk-count": 1, "size": 1, "csum": "00" * 32}
    params |= {name.replace("_", "-"): value for name, value in values.items()}
    return session.call("POST", f"/{kind}_close", params)


# Chunks.


@case(200, "")
def chunk_plain(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL))


@case(200, "")
def chunk_compressed(session: Session) -> Reply:
    return upload(dynamic(session), packed(SMALL))


@case(400, "larger than announced")
def chunk_longer_than_announced(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), encoded_size=len(blob(SMALL)) - 1)


@case(400, "unexpected size")
def chunk_shorter_than_announced(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), encoded_size=len(blob(SMALL)) + 1)


@case(400, "wrong magic")
def chunk_without_magic(session: Session) -> Reply:
    return upload(dynamic(session), b"x" * 100)


@case(400, "wrong digest")
def chunk_of_another_digest(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL[::-1]))


@case(400, "wrong length")
def chunk_of_another_size(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), size=len(SMALL) + 1)


@case(400, "wrong length")
def chunk_that_inflates_to_more(session: Session) -> Reply:
    return upload(dynamic(session), packed(SMALL + b"x"))


@case(400, "orrupt")
def chunk_cut_short_before_it_was_framed(session: Session) -> Reply:
    return upload(dynamic(session), packed(SMALL)[:-4])


@case(400, "no such chunk")
def encrypted_chunk_is_known_only_when_uploaded(session: Session) -> Reply:
    upload(dynamic(session), ENCRYPTED + bytes(50), digest="12" * 32)
    return session.put("dynamic", 1, ["34" * 32], [0])


@case(400, "too small")
def encrypted_chunk_without_tag(session: Session) -> Reply:
    return upload(dynamic(session), ENCRYPTED + bytes(35))


@case(400, "regex")
def chunk_digest_in_upper_case(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), digest=SMALL_DIGEST.upper())


@case(400, "maximum value")
def chunk_of_more_than_16_mib(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), size=(16 << 20) + 1)


@case(400, "large chunk")
def chunk_of_more_than_4_mib_in_an_image(session: Session) -> Reply:
    data = bytes(CHUNK + 1)
    return upload(fixed(session), packed(data), "fixed", digest=sha256(data), size=len(data))


@case(400, "multiple end chunks")
def second_short_chunk_of_an_image(session: Session) -> Reply:
    fixed(session)
    upload(session, blob(SMALL), "fixed")
    return upload(session, blob(SMALL), "fixed")


@case(400, "fixed writer '1' not registered")
def chunk_for_a_writer_of_the_other_kind(session: Session) -> Reply:
    return upload(dynamic(session), blob(SMALL), "fixed")


@case(400, "duplicate parameter")
def parameter_given_twice(session: Session) -> Reply:
    return session.call("POST", "/dynamic_index?archive-name=a.didx&archive-name=a.didx")


# Entries.


@case(400, "no such chunk")
def entry_of_a_refused_chunk(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL), encoded_size=13)
    return session.put("dynamic", 1, [SMALL_DIGEST], [0])


@case(200, "")
def entry_of_a_chunk_of_another_writer(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL))
    session.call("POST", "/dynamic_index", {"archive-name": "b.didx"})
    return session.put("dynamic", 2, [SMALL_DIGEST], [0])


@case(400, "strange chunk offset")
def entry_with_end_instead_of_start(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL))
    return session.put("dynamic", 1, [SMALL_DIGEST], [len(SMALL)])


@case(400, "unaligned")
def entry_between_the_chunks_of_an_image(session: Session) -> Reply:
    zeros = send_chunk(fixed(session), "fixed", 1, ZEROS)
    return session.put("fixed", 1, [zeros], [4096])


@case(400, "refusing to resize")
def entry_beyond_the_image(session: Session) -> Reply:
    zeros = send_chunk(fixed(session), "fixed", 1, ZEROS)
    return session.put("fixed", 1, [zeros], [2 * CHUNK])


@case(400, "unexpected length")
def short_entry_inside_the_image(session: Session) -> Reply:
    upload(fixed(session), blob(SMALL), "fixed")
    return session.put("fixed", 1, [SMALL_DIGEST], [0])


@case(400, "refusing to resize")
def growing_image_behind_its_short_chunk(session: Session) -> Reply:
    zeros = send_chunk(fixed(session, None), "fixed", 1, ZEROS)
    upload(session, blob(SMALL), "fixed")
    session.put("fixed", 1, [SMALL_DIGEST], [0])
    return session.put("fixed", 1, [zeros], [CHUNK])


@case(400, "unsupported content type")
def entries_as_data(session: Session) -> Reply:
    body = json.dumps(entries(1, [], [])).encode()
    return session.call("PUT", "/fixed_index", None, body, content_type="application/octet-stream")


@case(400, "Request body too large")
def entries_in_a_body_of_512_kib(session: Session) -> Reply:
    body = json.dumps(entries(1, [], [])).encode().ljust(512 << 10)
    return session.call("PUT", "/fixed_index", None, body, content_type="application/json")


@case(400, "wrong length (0 != 1)")
def lists_of_unequal_length(session: Session) -> Reply:
    return session.put("fixed", 1, [SMALL_DIGEST], [])


@case(200, "")
def empty_list_for_an_unknown_writer(session: Session) -> Reply:
    return session.put("fixed", 200, [], [])


# Closing.


@case(400, "unexpected chunk count")
def close_with_a_wrong_count(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL))
    session.put("dynamic", 1, [SMALL_DIGEST], [0])
    return close(session, "dynamic", chunk_count=2, size=1000)


@case(400, "received wrong number of chunk")
def close_an_image_with_entries_missing(session: Session) -> Reply:
    zeros = send_chunk(fixed(session), "fixed", 1, ZEROS)
    session.put("fixed", 1, [zeros], [0])
    return close(session, "fixed", chunk_count=2, size=2 * CHUNK, csum=fixed_csum([zeros] * 2))


@case(400, "unexpected checksum")
def close_with_a_wrong_checksum(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL))
    session.put("dynamic", 1, [SMALL_DIGEST], [0])
    return close(session, "dynamic", size=1000)


@case(400, "already closed")
def close_again_after_a_wrong_checksum(session: Session) -> Reply:
    close_with_a_wrong_checksum(session)
    return close(session, "dynamic", size=1000, csum=dynamic_csum([SMALL_DIGEST], [1000]))


@case(400, "not registered")
def close_twice(session: Session) -> Reply:
    send_dynamic(session, "a.didx", [SMALL])
    return close(session, "dynamic", size=1000, csum=dynamic_csum([SMALL_DIGEST], [1000]))


@case(400, "minimum value")
def close_without_entries(session: Session) -> Reply:
    return close(dynamic(session), "dynamic", chunk_count=0, size=0)


# Blobs.


@case(400, "wrong CRC")
def blob_with_a_wrong_crc(session: Session) -> Reply:
    raw = blob(SMALL)[:8] + bytes(4) + SMALL
    return session.call("POST", "/blob", {"file-name": "a.blob", "encoded-size": len(raw)}, raw)


@case(400, "wrong blob file extension")
def blob_of_another_extension(session: Session) -> Reply:
    raw = blob(SMALL)
    return session.call("POST", "/blob", {"file-name": "a.conf", "encoded-size": len(raw)}, raw)


@case(400, "regex")
def blob_outside_the_snapshot(session: Session) -> Reply:
    raw = blob(SMALL)
    return session.call("POST", "/blob", {"file-name": "../a.blob", "encoded-size": len(raw)}, raw)


# Finishing.


@case(400, "file count == 0")
def finish_without_files(session: Session) -> Reply:
    return session.call("POST", "/finish")


@case(400, "open index writer")
def finish_with_an_open_writer(session: Session) -> Reply:
    send_blob(dynamic(session), "index.json.blob", manifest(PARAMS))
    return session.call("POST", "/finish")


@case(400, "unable to load blob")
def finish_without_manifest(session: Session) -> Reply:
    send_blob(session, "a.blob", blob(SMALL))
    return session.call("POST", "/finish")


@case(400, "already in the process of finishing")
def finish_again_after_a_failure(session: Session) -> Reply:
    finish_without_manifest(session)
    send_blob(session, "index.json.blob", manifest(PARAMS))
    return session.call("POST", "/finish")


@case(400, "already marked as finished")
def finish_twice(session: Session) -> Reply:
    finish(session, PARAMS)
    return session.call("POST", "/finish")


@case(400, "missing field `files`")
def finish_with_half_a_manifest(session: Session) -> Reply:
    raw = blob(json.dumps({"backup-type": "vm", "backup-id": "1", "backup-time": 1}).encode())
    send_blob(session, "index.json.blob", raw)
    return session.call("POST", "/finish")


# Order: what a real server does by chance, the target does always.


@case(400, "the order is not certain")
def second_append_without_waiting(session: Session) -> Reply:
    upload(dynamic(session), blob(SMALL))
    session.start("PUT", "/dynamic_index", json_body=entries(1, [SMALL_DIGEST], [0]))
    return session.put("dynamic", 1, [SMALL_DIGEST], [1000])


@case(400, "the order is not certain")
def close_without_waiting_for_a_fixed_append(session: Session) -> Reply:
    zeros = send_chunk(fixed(session, CHUNK), "fixed", 1, ZEROS)
    session.start("PUT", "/fixed_index", json_body=entries(1, [zeros], [0]))
    return close(session, "fixed", size=CHUNK, csum=fixed_csum([zeros]))


@case(400, "no such chunk")
def append_without_waiting_for_the_chunk(session: Session) -> Reply:
    raw = blob(SMALL)
    chunk = {"wid": 1, "digest": SMALL_DIGEST, "size": 1000, "encoded-size": len(raw)}
    dynamic(session).start("POST", "/dynamic_chunk", chunk, raw)
    return session.put("dynamic", 1, [SMALL_DIGEST], [0])


@case(400, "the order is not certain")
def finish_without_waiting_for_the_manifest(session: Session) -> Reply:
    raw = manifest(PARAMS)
    named = {"file-name": "index.json.blob", "encoded-size": len(raw)}
    session.start("POST", "/blob", named, raw)
    return session.call("POST", "/finish")


@pytest.mark.parametrize(
    ("status", "text", "script"), [one[1:] for one in CASES], ids=[one[0] for one in CASES]
)
def test_check(target: TargetServer, status: int, text: str, script: Case) -> None:
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        reply = script(session)
        assert (reply.status, text in reply.text) == (status, True), reply


def test_an_unanswered_unprotected_kills_the_request(target: TargetServer) -> None:
    """A reset, and no answer (protocol/datastore.md, "What a server keeps")."""
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        send_blob(session, "index.json.blob", manifest(PARAMS, unprotected=[1]))
        reply = session.call("POST", "/finish")
        assert (reply.status, reply.error) == (None, "reset 2")
        assert session.call("POST", "/finish").status == 400


@pytest.mark.parametrize("group_is_new", [True, False])
def test_an_unfinished_snapshot_goes_with_its_connection(
    target: TargetServer, tmp_path: Path, *, group_is_new: bool
) -> None:
    group = tmp_path / "store/vm/100"
    if not group_is_new:
        with open_session(target.address, {**PARAMS, "backup-time": 1}, token(ALICES_TOKEN)) as one:
            finish(one, PARAMS)
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        send_fixed(session, "a.fidx", CHUNK, [ZEROS])
        assert (group / "1970-01-01T00:16:40Z/a.fidx").is_file()
    target.close()
    assert group.exists() is not group_is_new
    assert not (group / "1970-01-01T00:16:40Z").exists()
    assert (tmp_path / "store/.chunks" / sha256(ZEROS)[:4] / sha256(ZEROS)).is_file()


def test_chunks_of_the_connection_before_are_not_known(target: TargetServer) -> None:
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        send_dynamic(session, "a.didx", [SMALL])
        finish(session, PARAMS)
    later = {**PARAMS, "backup-time": 1001}
    with open_session(target.address, later, token(ALICES_TOKEN)) as session:
        assert session.put("dynamic", 1, [SMALL_DIGEST], [0]).status == 400
        assert len(session.call("GET", "/previous", {"archive-name": "a.didx"}).body) == 4136
        dynamic(session)
        assert session.put("dynamic", 1, [SMALL_DIGEST], [0]).status == 200


def test_times_must_increase_and_the_directory_must_be_new(
    target: TargetServer, tmp_path: Path
) -> None:
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        finish(session, PARAMS)
    for time in (999, 1000):
        assert refused(target, time).startswith("backup timestamp is older")
    (tmp_path / "store/vm/100/1970-01-01T00:16:41Z").mkdir()
    assert refused(target, 1001) == "backup directory already exists."
    (tmp_path / "store/vm/100/1970-01-01T00:16:40Z/index.json.blob").write_bytes(b"damaged")
    assert "decode backup manifest blob failed" in refused(target, 1002)


def test_a_group_without_owner_is_not_written_to(target: TargetServer, tmp_path: Path) -> None:
    (tmp_path / "store/vm/100").mkdir(parents=True)
    assert "owner" in refused(target, 1000)


def refused(target: TargetServer, time: int) -> str:
    params = {**PARAMS, "backup-time": time}
    rest, reply = upgrade(target.address, params, token(ALICES_TOKEN))
    rest.close()
    assert reply.status == 400
    return reply.text


def test_the_stored_datastore_is_a_real_one(target: TargetServer, tmp_path: Path) -> None:
    """Layout, CRC computed anew, index files, owner (protocol/datastore.md)."""
    wrong_crc = packed(ZEROS)[:8] + bytes(4) + packed(ZEROS)[12:]
    with open_session(target.address, PARAMS, token(ALICES_TOKEN)) as session:
        fixed(session, CHUNK)
        upload(session, wrong_crc, "fixed", digest=sha256(ZEROS), size=CHUNK)
        session.put("fixed", 1, [sha256(ZEROS)], [0])
        assert close(session, "fixed", size=CHUNK, csum=fixed_csum([sha256(ZEROS)])).status == 200
        finish(session, PARAMS)
    base = tmp_path / "store"
    assert (base / "vm/100/owner").read_text() == f"{ALICES_TOKEN}\n"
    names = sorted(path.name for path in (base / "vm/100/1970-01-01T00:16:40Z").iterdir())
    assert names == ["a.fidx", "index.json.blob"]
    stored = (base / ".chunks" / sha256(ZEROS)[:4] / sha256(ZEROS)).read_bytes()
    assert decode_blob(stored) == ZEROS
