"""HTTP/1.1 of a target: the REST API with keep-alive, and upgrades to the other protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import h11

from pbs_push.formats.blob import MAX_BLOB_FILE
from pbs_push.target.answers import (
    Answer,
    Refusal,
    bad_request,
    data_answer,
    not_found,
    os_refusal,
    refusal_answer,
)
from pbs_push.target.login import LOGIN_PARAMETERS
from pbs_push.target.params import (
    STORE,
    Params,
    Schema,
    check_value,
    read_parameters,
    read_query,
    without,
)
from pbs_push.target.reader import PROTOCOL as READER_PROTOCOL
from pbs_push.target.reader import UPGRADE_PARAMETERS as READER_PARAMETERS
from pbs_push.target.reader import ReadPlace, open_for_reading
from pbs_push.target.rest import ENDPOINTS, Endpoint, RestCall
from pbs_push.target.rights import PERMISSIONS_PARAMETERS, Rights
from pbs_push.target.session import Place
from pbs_push.target.shared import Shared
from pbs_push.target.tasks import TASK_CALLS
from pbs_push.target.upgrade import PROTOCOL, UPGRADE_PARAMETERS, open_place
from pbs_push.target.wire import Line

_MAX_URI: Final = 3072
_LARGEST_BODY: Final = MAX_BLOB_FILE
_API: Final = ["api2", "json"]


@dataclass(slots=True)
class _Request:
    """A request whose body has been read; of a too long one as much as is needed to say so."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytearray

    @property
    def components(self) -> list[str]:
        """The path's components, decoded; empty ones do not count."""
        return [unquote(part) for part in self.path.split("/") if part]


class RestConnection:
    """Answers REST requests on one connection until it ends or becomes a backup session."""

    def __init__(self, wire: Line, shared: Shared) -> None:
        self._wire = wire
        self._shared = shared
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=256 << 10)
        self._place: Place | ReadPlace | None = None
        self._incoming: _Request | None = None

    def serve(self) -> tuple[Place | ReadPlace, bytes] | None:
        """Answer requests. Returns where a session writes or reads, and the bytes of it that came
        along already; None when the connection is over. Raises OSError.
        """
        try:
            while (request := self._read_request()) is not None:
                self._answer(self._handle(request))
                if self._place is not None:
                    return self._place, self._http.trailing_data[0]
                if self._http.our_state is h11.MUST_CLOSE:
                    break
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self._say_goodbye(error)
        except BaseException:
            if isinstance(self._place, Place):
                self._place.abandon()
            elif self._place is not None:
                self._place.release()
            raise
        return None

    def _read_request(self) -> _Request | None:
        request = self._incoming or self._begin_request()
        if request is None:
            return None
        self._incoming = request  # a line that waits for nothing comes back here
        while isinstance(event := self._next_event(), h11.Data):
            if len(request.body) <= _LARGEST_BODY:
                request.body += event.data
        self._incoming = None
        return request if isinstance(event, h11.EndOfMessage) else None

    def _begin_request(self) -> _Request | None:
        event = self._next_event()
        if not isinstance(event, h11.Request):
            return None
        path, _, query = event.target.decode("latin-1").partition("?")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        return _Request(event.method.decode("latin-1"), path, query, headers, bytearray())

    def _next_event(self) -> h11.Event | None:
        """The next event of the request; None if nothing more can come."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
            received = self._wire.exchange()
            if received != b"":
                self._http.receive_data(received or b"")
        return event if isinstance(event, h11.Event) else None

    def _handle(self, request: _Request) -> Answer:
        if len(request.path) + len(request.query) > _MAX_URI:
            return Answer(HTTPStatus.REQUEST_URI_TOO_LONG, content_type=None)
        kind = _kind(request)
        self._shared.counters.request(kind)
        self._shared.pause(self._shared.faults.delays_s.get(kind, 0))
        faults = self._shared.faults
        faults.at_boundary(kind, handled=False)
        answer = faults.answered(kind, faults.refused(kind) or self._answered(request))
        if self._place is not None and answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self._place.abandon()  # a fault has put another answer in the place of ours
            self._place = None
        return answer

    def _answered(self, request: _Request) -> Answer:
        try:
            return self._route(request)
        except Refusal as refusal:
            if refusal.status == HTTPStatus.UNAUTHORIZED:
                self._shared.pause(self._shared.options.bad_login_delay_s)
            return refusal_answer(refusal)
        except OSError as error:
            return refusal_answer(os_refusal(error))

    def _route(self, request: _Request) -> Answer:  # noqa: PLR0911  (a table of paths)
        components = request.components
        known = components[:2] == _API
        call = (request.method, *components[2:]) if known else ()
        if call == ("POST", "access", "ticket"):
            return self._shared.gate.log_in(self._parameters(LOGIN_PARAMETERS, request))
        csrf_needed = request.method != "GET"
        auth_id = self._shared.gate.authenticate(request.headers, csrf_needed=csrf_needed)
        rights = Rights(auth_id, self._shared.identities.privileges)
        if call == ("GET", "version"):
            read_query({}, request.query)
            version, release = self._shared.options.version
            return data_answer({"version": version, "release": release, "repoid": "pbs-push"})
        if call == ("GET", "access", "permissions"):
            params = read_query(PERMISSIONS_PARAMETERS, request.query)
            return data_answer(rights.permissions(params.text("path")))
        match call:
            case ("GET", "backup"):
                return self._upgrade(request, rights)
            case ("GET", "reader"):
                return self._upgrade_to_reader(request, rights)
            case ("GET", "nodes", node, "tasks", upid, what) if what in TASK_CALLS:
                return self._task(node, upid, what, request, rights)
            case (method, "admin", "datastore", store_name, tail) if (method, tail) in ENDPOINTS:
                endpoint = ENDPOINTS[method, tail]
                return self._call(endpoint, store_name, request, rights)
        raise not_found(f"Path '{request.path}' not found.")

    def _call(
        self, endpoint: Endpoint, store_name: str, request: _Request, rights: Rights
    ) -> Answer:
        check_value("store", STORE, store_name)
        if endpoint.raw_body:
            params = read_query(endpoint.parameters, request.query)
            if len(request.body) > _LARGEST_BODY:
                raise bad_request("Request body too large")
        else:
            params = self._parameters(endpoint.known_to(self._shared.habits), request)
        shared = self._shared
        call = RestCall(
            shared.stores, store_name, rights, params, request.body, shared.habits, shared.tasks
        )
        return data_answer(endpoint.run(call))

    def _parameters(self, schema: Schema, request: _Request) -> Params:
        if request.method in {"GET", "DELETE"}:
            return read_query(schema, request.query)
        content_type = request.headers.get("content-type")
        limit = self._shared.habits.body_limit
        return read_parameters(schema, request.query, content_type, request.body, body_limit=limit)

    def _upgrade(self, request: _Request, rights: Rights) -> Answer:
        known = UPGRADE_PARAMETERS
        if not self._shared.habits.no_cache:
            known = without(known, "no-cache")
        params = read_query(known, request.query)
        upgrade = request.headers.get("upgrade")
        self._place = open_place(params, upgrade, rights, self._shared.stores.writable)
        return _switch_to(PROTOCOL)

    def _upgrade_to_reader(self, request: _Request, rights: Rights) -> Answer:
        params = read_query(READER_PARAMETERS, request.query)
        upgrade = request.headers.get("upgrade")
        self._place = open_for_reading(params, upgrade, rights, self._shared.stores.readable)
        return _switch_to(READER_PROTOCOL)

    def _task(self, node: str, upid: str, what: str, request: _Request, rights: Rights) -> Answer:
        schema, tell = TASK_CALLS[what]
        params = read_query(schema, request.query)
        return data_answer(tell(self._shared.tasks.find(node, upid, rights.auth_id), params))

    def _answer(self, answer: Answer) -> None:
        headers = [*answer.headers, ("date", formatdate(usegmt=True))]
        if answer.content_type is not None:
            headers.append(("content-type", answer.content_type))
        if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._send(h11.InformationalResponse(status_code=answer.status, headers=headers))
        else:
            headers.append(("content-length", str(len(answer.body))))
            self._send(h11.Response(status_code=answer.status, headers=headers))
            self._send(h11.Data(data=answer.body))
            self._send(h11.EndOfMessage())
        self._wire.flush()

    def _say_goodbye(self, error: h11.RemoteProtocolError) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._answer(Answer(error.error_status_hint, str(error).encode(), content_type=None))

    def _send(self, event: h11.Event) -> None:
        self._wire.send(self._http.send(event) or b"")


def _switch_to(protocol: str) -> Answer:
    headers = (("connection", "upgrade"), ("upgrade", protocol))
    return Answer(HTTPStatus.SWITCHING_PROTOCOLS, content_type=None, headers=headers, sized=False)


def _kind(request: _Request) -> str:
    """Under which name a request is counted."""
    components = request.components
    if components[:2] != _API:
        return "other"
    if components[2:] == ["backup"]:
        return "upgrade"
    if components[2:] == ["reader"]:
        return "GET reader"
    if components[2:3] == ["nodes"] and components[-1] in TASK_CALLS:
        return f"{request.method} task {components[-1]}"
    tail = components[-1]
    known = (request.method, tail) in ENDPOINTS or components[2:] in (
        ["version"],
        ["access", "ticket"],
        ["access", "permissions"],
    )
    return f"{request.method} {tail}" if known else "other"
