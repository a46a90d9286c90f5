"""A datastore on a server, logged in to: where REST calls and backup sessions begin."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pbs_push._native.transport import Transport
from pbs_push.errors import AuthError
from pbs_push.names import Repository, parse_fingerprint
from pbs_push.remote.api import TargetApi
from pbs_push.remote.auth import Secret, TicketAuth, TokenAuth
from pbs_push.remote.connection import Connection
from pbs_push.remote.limits import Limits
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
    from types import TracebackType
    from typing import Self

    from pbs_push.names import AuthId, Namespace, Snapshot
    from pbs_push.remote.auth import Auth, SecretStr
    from pbs_push.remote.features import Features
    from pbs_push.remote.pacing import Pacer

UPGRADE_PATH: Final = "//api2/json/backup"
READER_PATH: Final = "//api2/json/reader"
"""With two slashes, as PBS's own client sends it (protocol/backup.md, "Other servers")."""


PREFACE_PAUSE_S: Final = 0.1
"""Some servers lose a byte right behind the 101 (protocol/backup.md, "Other servers")."""


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Target:
    """A datastore on a remote server.

    ``repository`` is a Repository or its text, ``secret`` an API token's secret or a user's
    password, ``fingerprint`` the SHA-256 of the certificate to trust (``ab:cd:…``), or None to
    trust the system's CAs. ``timeout_s``: a connection or a request is given up when nothing that
    matters has moved for so many seconds (None: 30 for a connection, 2 minutes for the begin of a
    session, 5 for a request, 15 for one that removes, and for the requests of a session).
    ``proxy`` is an HTTP proxy that all connections go through, or its URL
    (``http://user:password@host:port``); None: none, whatever the environment says.
    Nothing is sent before it is needed. Safe for threads; close it, or use it in ``with``.

    ``preface`` knows when backup sessions may begin with HTTP/2, and ``plain_only`` says that
    shortcuts are of no use: what a push found out about this server.

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
        self.limits: Final = Limits.of(timeout_s)
        self.words: Final = Words(secret.get_secret_value())
        self._context: Final = TrustContext(
            fingerprint,
            (repository.host, repository.port),
            min(VOUCH_TIMEOUT_S, self.limits.connect_s),
            proxy,
        )
        self.rest: Final = Rest(repository, self._context, self.limits, self.words, proxy)
        self.api: Final = TargetApi(self.rest, repository.datastore, self.words)
        self._auth: Final[Auth] = (
            TokenAuth(repository.auth_id, secret)
            if repository.auth_id.is_token
            else TicketAuth(repository.auth_id, secret, self.rest.login)
        )
        self.rest.use(self._auth)
        self.preface: Final = PrefaceHabit()
        self.plain_only = False
        # Not a `cached_property`: in Python 3.11 all instances of a class share its lock.
        self._features_lock = threading.Lock()
        self._features: Features | None = None
        self._tls_lock = threading.Lock()
        self._tls_session: ssl.SSLSession | None = None

    def __repr__(self) -> str:
        return f"<Target {self.repository}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

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

    def connect(
        self, cancelled: threading.Event, congestion_control: str | None = None
    ) -> TlsStream:
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
        stream: TlsStream,
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
        stream: TlsStream,
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
        self, stream: TlsStream, namespace: Namespace, snapshot: Snapshot
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

    def _keep_keys(self, stream: TlsStream) -> None:
        """What lets later connections resume this one's keys, unless it did so itself."""
        if self._tls_session is None or not stream.session_reused:
            with self._tls_lock:
                self._tls_session = stream.session or self._tls_session

    def transport(self) -> Transport:
        """A transport for one session with this target."""
        return Transport(replace(self.repository, host=self.rest.host).netloc)
