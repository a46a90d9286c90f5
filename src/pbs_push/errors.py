"""Every exception that a caller of pbs_push meets.

Each module may have errors of its own, of these kinds, for what it catches itself.

::

    PbsPushError
    ├── ConfigError             an option, a name, a repository, a configuration file
    │   ├── InvalidName         text that is not a valid namespace, group, auth-id, …
    │   └── KeyFileError        an encryption key cannot be read, or its password is wrong
    ├── FormatError             bytes that are not what they claim to be
    │   ├── IndexFormatError
    │   ├── BlobFormatError
    │   └── ManifestError
    ├── SourceError             the source datastore cannot be read
    │   ├── ChunkError          one chunk is missing or corrupt
    │   ├── SourceLocked        a snapshot is being removed or written
    │   └── SnapshotVanished    a snapshot, or its group, is gone since it was listed
    ├── AccessError             the local access control list says no
    ├── AlreadyRunning          the same push runs already on this host
    ├── LimitError              the system gives no more memory, or no more threads
    ├── WorkerLost              a worker of an executor cannot do its job, or is gone
    ├── RemoteError             the target, or the way to it
    │   ├── ConnectError        no connection, or it broke
    │   ├── TlsError            no trust: certificate or fingerprint
    │   ├── AuthError           the target refuses who we are
    │   ├── StatusError         the target answered a request with an error
    │   │   ├── DeniedError     … because the identity lacks a privilege there
    │   │   ├── NotOwnerError   … because the group belongs to somebody else
    │   │   ├── BusyError       … because another backup or task holds a lock
    │   │   └── NoSpaceError    … because its disk is full
    │   └── ProtocolError       the target's answer is not the protocol's
    │       └── ResetError      … and one request was given up in the middle
    └── Cancelled               the caller asked to stop

Each message says what was being done, to what, and where it helps, what to do about it. No message
and no repr holds a password, a token's secret or a ticket.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator


class PbsPushError(Exception):
    """Root of all errors of this package.

    ``exit_status`` is what the command ends with when the error ends the whole run.
    ``retryable`` tells whether trying the same again, unchanged, may succeed. ``damage`` says that
    something at the source is damaged, missing or not to be carried by the protocol, and will stay
    so unless somebody mends it.
    """

    exit_status: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    damage: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes, without what led to them; their constructors differ."""
        return _again, (type(self), self.args, dict(self.__dict__))

    def to_dict(self) -> dict[str, Any]:
        """As in JSON documents (docs/json.md)."""
        return {
            "kind": type(self).__name__,
            "message": str(self),
            "exit-status": self.exit_status,
            "retryable": self.retryable,
        }


def _again(kind: type[PbsPushError], args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """An error that was pickled."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class ConfigError(PbsPushError):
    """An option, a name or a configuration file is wrong; nothing was tried."""

    exit_status = 2


class InvalidName(ConfigError, ValueError):
    """A text is not the name of what it should name.

    See protocol/datastore.md, "Names", and protocol/rest.md, "Auth-ids and repositories".
    """


class FormatError(PbsPushError):
    """Bytes from disk or network are not in the format they should be in."""

    damage = True


class IndexFormatError(FormatError):
    """A ``.fidx`` or ``.didx`` file is damaged, truncated, or changed while it was read."""


class BlobFormatError(FormatError):
    """A data blob is damaged: magic, length, CRC-32, compression or encryption."""


class ManifestError(FormatError):
    """An ``index.json.blob`` cannot be understood or contradicts itself."""


class KeyFileError(ConfigError):
    """An encryption key file cannot be read, or its password is wrong."""


_LASTING: Final = frozenset(
    (
        errno.EBADMSG,
        errno.EFBIG,
        errno.EINVAL,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENODATA,
        errno.ENOTDIR,
        errno.EUCLEAN,
    )
)
"""Errors of the file that could not be read itself, and not of this moment or this user.

EIO is what a disk says of a bad sector: whoever asks for it reads once more before.
"""


class SourceError(PbsPushError):
    """The source datastore, or something in it, cannot be read.

    ``errno`` is the system's error, None where it had none.
    """

    def __init__(
        self, message: str, *, errno: int | None = None, damage: bool | None = None
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.damage = errno in _LASTING if damage is None else damage

    @classmethod
    def of(cls, doing: str, error: OSError) -> SourceError:
        """That ``doing`` this met a system error."""
        return SourceError(f"{doing}: {os_reason(error)}", errno=error.errno)

    @property
    def may_pass(self) -> bool:
        """Whether what could not be read is as a rule readable later."""
        return self.errno is not None and self.errno not in _LASTING


Fault = Literal[
    "missing", "unreadable", "format", "crc", "crypt-mode", "content", "length", "digest"
]
"""What is wrong with a chunk or a file.

It is not there; an I/O error; not a blob, an index or a manifest at all; a CRC-32 or a csum does
not match; it is encrypted where it should not be, or the reverse; what is in it cannot be decoded;
that is of another length, or has another digest.
"""


class ChunkError(SourceError):
    """One chunk of the source is missing, corrupt, or cannot be read.

    ``digest_hex`` names the chunk, ``path`` the file looked at, ``reason`` what is wrong with it,
    ``fault`` the same in a word; ``archive`` an archive that needs it, where that is known.
    ``errno`` is the system's error where the file could not be read, None for one that is missing
    or corrupt.
    """

    def __init__(
        self,
        digest_hex: str,
        path: str,
        reason: str,
        *,
        fault: Fault = "format",
        archive: str | None = None,
        errno: int | None = None,
    ) -> None:
        place = f" of {archive}" if archive is not None else ""
        damage = None if errno is not None else True
        super().__init__(
            f"chunk {digest_hex}{place}: {reason} ({path})", errno=errno, damage=damage
        )
        self.digest_hex = digest_hex
        self.path = path
        self.reason = reason
        self.fault = fault
        self.archive = archive

    def needed_by(self, archive: str) -> ChunkError:
        """The same, naming an archive that needs the chunk."""
        return ChunkError(
            self.digest_hex,
            self.path,
            self.reason,
            fault=self.fault,
            archive=archive,
            errno=self.errno,
        )


class SourceLocked(SourceError):
    """Another process holds the lock of a source snapshot (it is being removed or written)."""

    retryable = True


class SnapshotVanished(SourceError):
    """A source snapshot, or its whole group, is gone since it was listed (pruned, say)."""


class AccessError(PbsPushError):
    """The local user lacks a privilege on this host (protocol/access.md, "What a push needs").

    ``privileges`` are the missing ones' names, ``path`` the ACL path asked about; ``partial`` says
    that any one of them would do.
    """

    exit_status = 4

    def __init__(self, privileges: tuple[str, ...], path: str, *, partial: bool = False) -> None:
        names = ("|" if partial else "&").join(privileges)
        super().__init__(f"missing permissions '{names}' on '{path}'")
        self.privileges = privileges
        self.path = path


class AlreadyRunning(PbsPushError):
    """The same push, of the same source to the same target, runs already on this host."""

    exit_status = 5
    retryable = True


class LimitError(PbsPushError):
    """The system gives this process no more memory, or no more threads."""


class WorkerLost(PbsPushError):
    """A worker of an executor is gone, or cannot do its job: its group failed, or was not tried.

    What was under way is dropped by the target; the next push does it.
    """

    retryable = True


_SIGNS_OF_LIMITS: Final = (
    "can't start new thread",
    "failed to map segment",
    "cannot allocate memory",
    "cannot create shared object descriptor",
)
"""How Python and the dynamic linker say so, where that is not a MemoryError."""


def limit_error(error: BaseException) -> LimitError | None:
    """The LimitError that an exception of Python's is at bottom; None for any other."""
    reason = str(error)
    if isinstance(error, MemoryError):
        reason = reason or "out of memory"
    elif isinstance(error, RuntimeError | ImportError):
        reason = next((sign for sign in _SIGNS_OF_LIMITS if sign in reason.lower()), "")
        if not reason:
            return None
    else:
        return None
    return LimitError(
        f"the system gives this process no more memory or threads ({reason}): raise its limits "
        "(ulimit -v, -u, those of its control group), or lower --parallel and --read-ahead"
    )


class RemoteError(PbsPushError):
    """The target, or the way to it, failed."""


class ConnectError(RemoteError):
    """No connection to the target, or it broke."""

    retryable = True


class TlsError(RemoteError):
    """No TLS, or the target's certificate is not trusted; no credentials were sent.

    ``may_pass``: the handshake failed for another reason than the certificate. Where there was a
    connection before, its bytes were damaged on the way, or the server was about to go.
    """

    exit_status = 4
    may_pass = False


class ProxyError(RemoteError):
    """The proxy on the way to the target refuses our login, or the way to this target."""

    exit_status = 4


class AuthError(RemoteError):
    """The target refuses the credentials; ``renewable``: new ones may be had, and work."""

    exit_status = 4
    renewable = False


class StatusError(RemoteError):
    """The target answered a request with an error.

    ``status`` is the HTTP status, ``request`` the method and path, ``text`` the server's reason.
    """

    def __init__(self, request: str, status: int, text: str) -> None:
        super().__init__(f"{request}: {text or 'no reason given'} (status {status})")
        self.request = request
        self.status = status
        self.text = text


class DeniedError(StatusError):
    """The target says that the identity lacks a privilege (status 403)."""

    exit_status = 4


class NotOwnerError(StatusError):
    """The group at the target belongs to someone else (protocol/rest.md, "Owning")."""


class BusyError(StatusError):
    """Another backup, or a task of the target, holds the lock that is needed."""

    retryable = True


class NoSpaceError(StatusError):
    """The target's disk is full."""

    retryable = True


class ProtocolError(RemoteError):
    """The target's answer is not what the protocol allows."""


class ResetError(ProtocolError):
    """The target gave up one request in the middle (HTTP/2's RST_STREAM)."""


class Cancelled(PbsPushError):
    """The caller asked to stop; nothing half-done is left at the target."""

    exit_status = 130
    retryable = True


def drop_frames(error: BaseException) -> None:
    """Take the tracebacks off an error that is kept, and off those that led to it.

    Their frames hold all that was under way: open indexes, blobs, a connection.
    """
    for one in _chain(error):
        one.__traceback__ = None


def clear_frames(error: BaseException) -> None:
    """Let the frames of an error's tracebacks, and of those that led to it, hold nothing any more.

    Where it happened can still be told.
    """
    for one in _chain(error):
        traceback = one.__traceback__
        while traceback is not None:
            with suppress(RuntimeError):  # one that still runs
                traceback.tb_frame.clear()
            traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that led to it."""
    found: list[BaseException | None] = [error]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        found += [one.__cause__, one.__context__]


def os_reason(error: OSError) -> str:
    """The system's reason for an error, and what to do about it where that can be told."""
    reason = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        return f"{reason}: raise the limit (ulimit -n), or lower --parallel"
    return reason
