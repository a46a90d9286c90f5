"""The requests of the reader protocol as a table (protocol/reader.md, "Requests")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pbs_push.target.answers import RAW_TYPE, Answer
from pbs_push.target.calls import Call, SessionCall, list_names
from pbs_push.target.params import DIGEST, SAFE_ID, required
from pbs_push.target.reader import ReaderSession

_SPEEDTEST: Final = bytes(1 << 20)

Reading = SessionCall[ReaderSession]


def _list_names(_call: Reading) -> Answer:
    return list_names(READER_CALLS)


def _download(call: Reading) -> Answer:
    content = call.session.download(call.params.text("file-name"), call.turn)
    return Answer(body=content, content_type=RAW_TYPE, sized=False)


def _chunk(call: Reading) -> Answer:
    content = call.session.chunk(call.params.text("digest"), call.turn)
    return Answer(body=content, content_type=RAW_TYPE)


def _speedtest(_call: Reading) -> Answer:
    return Answer(body=_SPEEDTEST, content_type=RAW_TYPE)


READER_CALLS: Final[Mapping[tuple[str, str], Call[ReaderSession]]] = {
    ("GET", "/"): Call("GET /", {}, _list_names),
    ("GET", "/download"): Call("GET download", {"file-name": required(SAFE_ID)}, _download),
    ("GET", "/chunk"): Call("GET chunk", {"digest": required(DIGEST)}, _chunk),
    ("GET", "/speedtest"): Call("GET speedtest", {}, _speedtest),
}
