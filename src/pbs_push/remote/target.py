"""A datastore on a server, logged in to: where REST calls and backup sessions begin."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from pbs_push._native.transport import Transport
from pbs_push.closing import Closing
from pbs_push.errors import AuthError, ConfigError
from pbs_push.names import Group, Namespace, Repository, Snapshot, parse_fingerprint
from pbs_push.remote.api import TargetApi
from pbs_push.remote.auth import Secret, TicketAuth, TokenAuth
from pbs_push.remote.connection import Connection
from pbs_push.remote.limits import Limits
from pbs_push.remote.login import Habits, Login
from pbs_push.remote.preface import Preface, PrefaceHabit
from pbs_push.remote.proxy import Proxy
from pbs_push.remote.query import query_text
from pbs_push.remote.reader import READER_PROTOCOL, ReaderSession
from pbs_push.remote.rest import Rest
from pbs_push.remote.session import BackupSession
from pbs_push.remote.tls import VOUCH_TIMEOUT_S, TrustContext
from pbs_push.remote.tls_stream import TlsStream
from pbs_push.remote.words import Words

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

    from pbs_push.formats.keys import CryptKey
    from pbs_push.names import AuthId
    from pbs_push.remote.auth import Auth, SecretStr
    from pbs_push.remote.features import Features
    from pbs_push.remote.lines import RestTransport
    from pbs_push.remote.models import GroupItem, SnapshotItem
    from pbs_push.remote.pacing import Pacer
    from pbs_push.remote.rest import Params
    from pbs_push.remote.snapshot_reader import SnapshotReader
    from pbs_push.remote.snapshot_writer import SnapshotWriter
    from pbs_push.remote.stream import Stream

UPGRADE_PATH: Final = "//api2/json/backup"
READER_PATH: Final = "//api2/json/reader"
"""With two slashes, as PBS's own client sends it (protocol/backup.md, "Other servers")."""


PREFACE_PAUSE_S: Final = 0.1
"""Some servers lose a byte right behind the 101 (protocol/backup.md, "Other servers")."""


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Target(Closing):
    """A datastore on a remote server: what a push goes to, and where snapshots are written, read
    and listed by hand.

    ``repository`` is a Repository or its text, ``secret`` an API token's secret or a user's
    password, ``fingerprint`` the SHA-256 of the certificate to trust (``ab:cd:…``), or None to
    trust the system's CAs. ``timeout_s``: a connection or a request is given up when nothing that
    matters has moved for so many seconds (None: 30 for a connection, 2 minutes for the begin of a
    session, 5 for a request, 15 for one that removes, and for the requests of a session).
    ``proxy`` is an HTTP proxy that all connections go through, or its URL
    (``http://user:password@host:port``); None: none, whatever the environment says.
    Nothing is sent before it is needed. Safe for threads; close it, or use it in ``with``.

    Raises InvalidName for a repository or fingerprint that is none, ConfigError for a timeout or
    a proxy.
    """

    def __init__(
        self,
        repository: Repository | str,
        secret: SecretStr | str,
        fingerprint: str | bytes | None = None,
        *,
        timeout_s: float | None = None,
        proxy: Proxy | str | None = None,
    ) -> None:
        if isinstance(repository, str):
            repository = Repository.parse(repository)
        if isinstance(fingerprint, str):
            fingerprint = parse_fingerprint(fingerprint)
        if isinstance(secret, str):
            secret = Secret(secret)
        if isinstance(proxy, str):
            proxy = Proxy.parse(proxy)
        self.repository: Final = repository
        self.proxy: Final = proxy
        self.login: Final = Login(
            repository, Secret(secret.get_secret_value()), fingerprint, timeout_s, proxy
        )
        """What it takes to make the same elsewhere."""
        self.limits: Final = Limits.of(timeout_s)
        self.words: Final = Words(secret.get_secret_value())
        self._context: Final = TrustContext(
            fingerprint,
            (repository.host, repository.port),
            min(VOUCH_TIMEOUT_S, self.limits.connect_s),
            proxy,
        )
        self.rest: Final = Rest(
            repository, self._context, self.limits, self.words, proxy, self._rest_transport()
        )
        self.api: Final = TargetApi(self.rest, repository.datastore, self.words)
        self._auth: Final[Auth] = (
            TokenAuth(repository.auth_id, secret)
            if repository.auth_id.is_token
            else TicketAuth(repository.auth_id, secret, self.rest.login)
        )
        self.rest.use(self._auth)
        self.preface: Final = PrefaceHabit()
        """When backup sessions may begin with HTTP/2, as pushes have found out."""
        self.plain_only = False
        """Whether shortcuts are of no use with this server, as a push has found out."""
        # Not a `cached_property`: in Python 3.11 all instances of a class share its lock.
        self._features_lock = threading.Lock()
        self._features: Features | None = None
        self._tls_lock = threading.Lock()
        self._tls_session: ssl.SSLSession | None = None

    def _rest_transport(self) -> RestTransport | None:
        """What REST requests are sent over, where that is not the network."""
        return None

    @classmethod
    def of(cls, login: Login) -> Self:
        """The same target again, in another process or on another machine."""
        return cls(
            login.repository,
            login.secret,
            login.fingerprint,
            timeout_s=login.timeout_s,
            proxy=login.proxy,
        )

    @property
    def habits(self) -> Habits:
        """What was found out about it so far."""
        return Habits(self.rest.round_trip_s, self.plain_only, self.preface.way, self._features)

    def learn(self, habits: Habits) -> None:
        """Take over what others have found out about it."""
        self.rest.heard_of(habits.round_trip_s)
        self.plain_only |= habits.plain_only
        self.preface.heard(habits.preface)
        with self._features_lock:
            self._features = self._features or habits.features

    def __repr__(self) -> str:
        return f"<Target {self.repository}>"

    def close(self) -> None:
        """Close the REST connections. Sessions are closed by who opened them."""
        self.rest.close()

    @property
    def auth_id(self) -> AuthId:
        """Who we are at the target."""
        return self.repository.auth_id

    @property
    def features(self) -> Features:
        """What the target can do; asked for once. Raises RemoteError if it is too old."""
        with self._features_lock:
            if self._features is None:
                self._features = self.api.features()
            return self._features

    # -- what is there, and snapshots by hand --

    def request(self, method: str, path: str, params: Params | None = None) -> Any:
        """Make a call of the server's REST API; the ``data`` of the answer.

        ``path`` is that behind ``/api2/json/``, such as ``admin/datastore/NAME/status``; parameters
        go into the query of a GET or DELETE, and into the body of a POST or PUT. Raises RemoteError
        (DeniedError, AuthError and so on; StatusError for any other refusal), ConfigError for
        another method.
        """
        calls: dict[str, Callable[..., Any]] = {
            "GET": self.rest.get,
            "POST": self.rest.post,
            "PUT": self.rest.put,
            "DELETE": self.rest.delete,
        }
        if method not in calls:
            raise ConfigError(f"'{method}' is none of {', '.join(calls)}")
        return calls[method](path.lstrip("/"), params)

    def namespaces(self, parent: Namespace | str = "") -> list[Namespace]:
        """The namespaces at and below ``parent`` that we may see, in order. Raises RemoteError."""
        return sorted(self.api.namespaces(_namespace(parent)))

    def groups(self, namespace: Namespace | str = "") -> list[GroupItem]:
        """The groups of a namespace, in no order. Raises RemoteError."""
        return self.api.groups(_namespace(namespace))

    def snapshots(
        self, group: Group | str | None = None, namespace: Namespace | str = ""
    ) -> list[SnapshotItem]:
        """The snapshots of a group, or of all groups of a namespace, in no order.

        Also those that are being written, or were left unfinished. Raises RemoteError.
        """
        if isinstance(group, str):
            group = Group.parse(group)
        return self.api.snapshots(_namespace(namespace), group)

    def create_snapshot(
        self,
        snapshot: Snapshot | str,
        namespace: Namespace | str = "",
        *,
        key: CryptKey | None = None,
    ) -> SnapshotWriter:
        """Begin a snapshot, newer than all of its group, in a namespace that exists.

        The group is made where there is none. ``key`` encrypts it. Raises RemoteError with the
        target's reason, BusyError where another backup of the group is under way.
        """
        from pbs_push.remote.snapshot_writer import SnapshotWriter  # noqa: PLC0415  (no push does)

        snapshot, place = _snapshot(snapshot), _namespace(namespace)
        body_limit = self.features.body_limit

        def begin() -> BackupSession:
            stream, transport = self.connect(threading.Event()), self.transport()
            return self.begin_backup(stream, place, snapshot, chunks_path="", transport=transport)

        session = self._renewed(begin)
        with ExitStack() as undo:
            undo.callback(session.close)
            writer = SnapshotWriter(session, snapshot, body_limit, key)
            undo.pop_all()
        return writer

    def open_snapshot(
        self,
        snapshot: Snapshot | str,
        namespace: Namespace | str = "",
        *,
        key: CryptKey | None = None,
    ) -> SnapshotReader:
        """Open a snapshot to read it back; ``key`` decrypts it.

        Raises RemoteError with the target's reason, ManifestError.
        """
        from pbs_push.remote.snapshot_reader import SnapshotReader  # noqa: PLC0415  (as above)

        snapshot, place = _snapshot(snapshot), _namespace(namespace)

        def begin() -> ReaderSession:
            return self.begin_reading(self.connect(threading.Event()), place, snapshot)

        session = self._renewed(begin)
        with ExitStack() as undo:
            undo.callback(session.close)
            reader = SnapshotReader(session, snapshot, key)
            undo.pop_all()
        return reader

    def _renewed(self, begin: Callable[[], C]) -> C:
        """What ``begin`` gives, with a new ticket where the old one had run out."""
        try:
            return begin()
        except AuthError as error:
            if not error.renewable:
                raise
        return begin()

    # -- connections and sessions, for the rooms of this package --

    def connect(self, cancelled: threading.Event, congestion_control: str | None = None) -> Stream:
        """A TLS connection, trusted, for ``begin_backup``; keys are resumed where possible.

        ``congestion_control`` is TCP's (None: as the system has it). Raises ConnectError,
        TlsError, ProxyError, Cancelled, ConfigError once the target is closed.
        """
        self.rest.check_open()
        with self._tls_lock:
            session = self._tls_session
        return TlsStream(
            self.rest.host,
            self.repository.port,
            self._context,
            cancelled,
            session,
            congestion_control,
            self.limits.connect_s,
            self.proxy,
        )

    def begin_backup(
        self,
        stream: Stream,
        namespace: Namespace,
        snapshot: Snapshot,
        *,
        chunks_path: str,
        transport: Transport,
        pacer: Pacer | None = None,
        benchmark: bool = False,
    ) -> BackupSession:
        """Upgrade a connection to the backup protocol, for one snapshot: see ``start_backup``."""
        session, _ = self.start_backup(
            stream,
            namespace,
            snapshot,
            lambda session: session,
            chunks_path=chunks_path,
            transport=transport,
            pacer=pacer,
            benchmark=benchmark,
        )
        return session

    def start_backup(
        self,
        stream: Stream,
        namespace: Namespace,
        snapshot: Snapshot,
        start: Callable[[BackupSession], C],
        *,
        chunks_path: str,
        transport: Transport,
        pacer: Pacer | None = None,
        preface: Preface = Preface.AFTER_ANSWER,
        benchmark: bool = False,
    ) -> tuple[BackupSession, C]:
        """Upgrade a connection to the backup protocol, for one snapshot.

        ``transport`` has the source's chunks attached, ``chunks_path`` is for messages about them.
        ``start`` makes the first calls of the session, as early as ``preface`` lets it; what it
        returns is returned, or closed on an error. Stream and transport belong to the session, or
        are closed on an error. Raises RemoteError with the target's reason: AuthError with
        ``renewable`` where a ticket had run out; and what ``start`` raises.
        """
        label = f"{snapshot}" if namespace.is_root else f"{snapshot} in {namespace.label}"
        what = f"beginning backup {label} at {self.repository.netloc}"
        path = self._upgrade_path(UPGRADE_PATH, namespace, snapshot, benchmark=benchmark)
        connection = Connection(
            stream, transport, pacer, self.rest.round_trip_s, self.limits, self.words
        )
        answered = partial(self.preface.took, preface)
        session = BackupSession(connection, label, chunks_path, answered)
        early = preface is Preface.WITH_REQUEST
        with ExitStack() as undo:
            undo.callback(transport.close)
            undo.callback(stream.close)
            started = undo.enter_context(closing(start(session))) if early else None
            try:
                connection.upgrade(path, self._auth.headers(writing=False), what, early=early)
            except AuthError as error:
                error.renewable = self._auth.expired()
                raise
            self._keep_keys(stream)
            if preface is Preface.AFTER_PAUSE:
                sleep(PREFACE_PAUSE_S)
            if started is None:
                started = start(session)
            undo.pop_all()
        return session, started

    def begin_reading(
        self, stream: Stream, namespace: Namespace, snapshot: Snapshot
    ) -> ReaderSession:
        """Upgrade a connection to the reader protocol, for one snapshot.

        The stream belongs to the session, or is closed on an error. Raises RemoteError with the
        target's reason: DeniedError, NotOwnerError, StatusError for a snapshot that is not there or
        is locked, AuthError with ``renewable`` where a ticket had run out.
        """
        label = f"{snapshot}" if namespace.is_root else f"{snapshot} in {namespace.label}"
        what = f"reading {label} at {self.repository.netloc}"
        path = self._upgrade_path(READER_PATH, namespace, snapshot)
        with ExitStack() as undo:
            undo.callback(stream.close)
            transport = self.transport()
            undo.callback(transport.close)
            round_trip_s = self.rest.round_trip_s
            connection = Connection(stream, transport, None, round_trip_s, self.limits, self.words)
            try:
                connection.upgrade(
                    path, self._auth.headers(writing=False), what, protocol=READER_PROTOCOL
                )
            except AuthError as error:
                error.renewable = self._auth.expired()
                raise
            self._keep_keys(stream)
            undo.pop_all()
        return ReaderSession(connection, label)

    def _upgrade_path(
        self, path: str, namespace: Namespace, snapshot: Snapshot, *, benchmark: bool = False
    ) -> str:
        params = {
            "store": self.repository.datastore,
            "ns": str(namespace),
            "backup-type": snapshot.group.backup_type,
            "backup-id": snapshot.group.backup_id,
            "backup-time": str(snapshot.backup_time),
        }
        if namespace.is_root:
            del params["ns"]
        if benchmark:
            params["benchmark"] = "1"
        return f"{path}?{query_text(params)}"

    def _keep_keys(self, stream: Stream) -> None:
        """What lets later connections resume this one's keys, unless it did so itself."""
        if self._tls_session is None or not stream.session_reused:
            with self._tls_lock:
                self._tls_session = stream.session or self._tls_session

    def transport(self) -> Transport:
        """A transport for one session with this target."""
        return Transport(replace(self.repository, host=self.rest.host).netloc)


def _namespace(given: Namespace | str) -> Namespace:
    return Namespace.parse(given) if isinstance(given, str) else given


def _snapshot(given: Snapshot | str) -> Snapshot:
    return Snapshot.parse(given) if isinstance(given, str) else given
