"""The requests of the backup protocol as a table (protocol/backup.md, "Requests").

HTTP/2 is not seen here: a function gets the session, checked parameters, the body and the turn.
Those of the reader protocol are in target/reader_calls.py.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from pbs_push.formats.blob import MAX_CHUNK_SIZE, MAX_PROTOCOL_BLOB
from pbs_push.target.answers import RAW_TYPE, Answer, bad_request, data_answer
from pbs_push.target.blobs import check_uploaded_chunk
from pbs_push.target.counters import Counters
from pbs_push.target.habits import Habits
from pbs_push.target.params import (
    DIGEST,
    SAFE_ID,
    WRITER_ID,
    Array,
    Integer,
    Params,
    Schema,
    Text,
    optional,
    required,
)
from pbs_push.target.session import BackupSession, ChunkCheck, Turn
from pbs_push.target.writers import DynamicWriter, FixedWriter, Writer

S = TypeVar("S")


class BodyUse(enum.Enum):
    """What a request's body is."""

    PARAMETERS = enum.auto()
    DATA = enum.auto()
    DROPPED = enum.auto()


@dataclass(frozen=True, slots=True)
class SessionCall(Generic[S]):
    """One request to a session. ``counters`` are the server's; ``check`` is of a chunk."""

    session: S
    params: Params
    body: bytearray
    turn: Turn
    counters: Counters
    check: ChunkCheck = check_uploaded_chunk


@dataclass(frozen=True, slots=True)
class Call(Generic[S]):
    """A request's parameters, what it does, what its body is, and the name it is counted under."""

    kind: str
    parameters: Schema
    run: Callable[[SessionCall[S]], Answer]
    body: BodyUse = BodyUse.PARAMETERS

    def known_to(self, habits: Habits) -> Schema:
        """The parameters that a server with these habits knows, and needs."""
        if self.kind == "POST fixed_index" and not habits.growing_indexes:
            return {**self.parameters, "size": required(Integer(minimum=1))}
        return self.parameters

    @property
    def takes_chunk(self) -> bool:
        """Whether its body is a chunk."""
        return self.kind.endswith("_chunk")


Backup = SessionCall[BackupSession]


def list_names(calls: Iterable[tuple[str, str]]) -> Answer:
    """The answer to ``GET /``: the paths of a table of calls, by method and path."""
    names = sorted({path.removeprefix("/") for _method, path in calls if path != "/"})
    return data_answer([{"subdir": name} for name in names])


def _list_names(_call: Backup) -> Answer:
    return list_names(CALLS)


def _previous(call: Backup) -> Answer:
    content = call.session.previous_file(call.params.text("archive-name"), call.turn)
    return Answer(body=content, content_type=RAW_TYPE, sized=False)


def _previous_time(call: Backup) -> Answer:
    return data_answer(call.session.previous_time())


def _create_fixed(call: Backup) -> Answer:
    params = call.params
    size = params.integer("size") if "size" in params else None
    reuse_csum = params.text("reuse-csum") if "reuse-csum" in params else None
    return data_answer(call.session.create_fixed(params.text("archive-name"), size, reuse_csum))


def _create_dynamic(call: Backup) -> Answer:
    return data_answer(call.session.create_dynamic(call.params.text("archive-name")))


def _upload_chunk(kind: type[Writer], call: Backup) -> Answer:
    params, body = call.params, call.body
    announced = params.integer("encoded-size")
    if len(body) > announced:
        raise bad_request("uploaded chunk is larger than announced.")
    if len(body) < announced:
        raise bad_request("uploaded chunk has unexpected size.")
    digest, size = params.text("digest"), params.integer("size")
    wid = params.integer("wid")
    new = call.session.upload_chunk(kind, wid, digest, size, body, turn=call.turn, check=call.check)
    call.counters.add(chunks=1, new_chunks=int(new), chunk_bytes=len(body))
    return data_answer(digest)


def _append(kind: type[Writer], call: Backup) -> Answer:
    params = call.params
    digests, offsets = params.texts("digest-list"), params.integers("offset-list")
    call.session.append(kind, params.integer("wid"), digests, offsets, call.turn)
    return data_answer(None)


def _close(kind: type[Writer], call: Backup) -> Answer:
    params = call.params
    count, size = params.integer("chunk-count"), params.integer("size")
    wid, csum = params.integer("wid"), params.text("csum")
    call.session.close(kind, wid, count, size, csum, turn=call.turn)
    return data_answer(None)


def _upload_blob(call: Backup) -> Answer:
    params = call.params
    name, announced = params.text("file-name"), params.integer("encoded-size")
    call.session.upload_blob(name, announced, call.body, call.turn)
    return data_answer(None)


def _finish(call: Backup) -> Answer:
    call.session.finish(call.turn)
    return data_answer(None)


def _speedtest(_call: Backup) -> Answer:
    return data_answer(None)


_ARCHIVE: Final[Schema] = {"archive-name": required(SAFE_ID)}
_CHUNK: Final[Schema] = {
    "wid": required(WRITER_ID),
    "digest": required(DIGEST),
    "size": required(Integer(1, MAX_CHUNK_SIZE)),
    "encoded-size": required(Integer(13, MAX_PROTOCOL_BLOB)),
}
_ENTRIES: Final[Schema] = {
    "wid": required(WRITER_ID),
    "digest-list": required(Array(DIGEST)),
    "offset-list": required(Array(Integer(minimum=0))),
}
_BLOB: Final[Schema] = {
    "file-name": required(SAFE_ID),
    "encoded-size": required(Integer(12, MAX_PROTOCOL_BLOB)),
}


def _close_parameters(minimum: int) -> Schema:
    return {
        "wid": required(WRITER_ID),
        "chunk-count": required(Integer(minimum=minimum)),
        "size": required(Integer(minimum=minimum)),
        "csum": required(Text()),
    }


_FIXED_INDEX: Final[Schema] = {
    **_ARCHIVE,
    "size": optional(Integer(minimum=1)),
    "reuse-csum": optional(Text()),
}


def _call(
    method: str, name: str, parameters: Schema, run: Callable[[Backup], Answer]
) -> tuple[tuple[str, str], Call[BackupSession]]:
    return (method, f"/{name}"), Call(f"{method} {name}", parameters, run)


def _data_call(
    name: str,
    parameters: Schema,
    run: Callable[[Backup], Answer],
    body: BodyUse = BodyUse.DATA,
) -> tuple[tuple[str, str], Call[BackupSession]]:
    return ("POST", f"/{name}"), Call(f"POST {name}", parameters, run, body)


CALLS: Final[Mapping[tuple[str, str], Call[BackupSession]]] = dict(
    [
        (("GET", "/"), Call("GET /", {}, _list_names)),
        (("GET", "/previous"), Call("previous", _ARCHIVE, _previous)),
        _call("GET", "previous_backup_time", {}, _previous_time),
        _call("POST", "fixed_index", _FIXED_INDEX, _create_fixed),
        _call("POST", "dynamic_index", _ARCHIVE, _create_dynamic),
        _data_call("fixed_chunk", _CHUNK, partial(_upload_chunk, FixedWriter)),
        _data_call("dynamic_chunk", _CHUNK, partial(_upload_chunk, DynamicWriter)),
        _call("PUT", "fixed_index", _ENTRIES, partial(_append, FixedWriter)),
        _call("PUT", "dynamic_index", _ENTRIES, partial(_append, DynamicWriter)),
        _call("POST", "fixed_close", _close_parameters(0), partial(_close, FixedWriter)),
        _call("POST", "dynamic_close", _close_parameters(1), partial(_close, DynamicWriter)),
        _data_call("blob", _BLOB, _upload_blob),
        _call("POST", "finish", {}, _finish),
        _data_call("speedtest", {}, _speedtest, BodyUse.DROPPED),
    ]
)
