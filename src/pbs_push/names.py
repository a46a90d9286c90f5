"""The names of the field: parsed once, then values.

Each class checks on construction, so that a value that exists is a valid one; each sorts the way a
PBS administrator expects (protocol/access.md, "Groups sort naturally").
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, total_ordering
from typing import Final, Self

from pbs_push.errors import InvalidName

BACKUP_TYPES: Final = ("ct", "host", "vm")
"""In the order in which groups are handled."""

INDEX_SUFFIXES: Final = (".fidx", ".didx")
ARCHIVE_SUFFIXES: Final = (".fidx", ".didx", ".blob")
MANIFEST_NAME: Final = "index.json.blob"
CLIENT_LOG_NAME: Final = "client.log.blob"

MAX_NAMESPACE_DEPTH: Final = 7
MAX_NAMESPACE_LENGTH: Final = 256
DEFAULT_PORT: Final = 8007

_FIRST_TIME: Final = -62_135_596_800
_LAST_TIME: Final = 253_402_300_799
"""The years 1 to 9999, which a snapshot's folder can be named after."""

_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_USER = re.compile(r"[^\s:/\x00-\x1f\x7f@]+(?:@[^\s:/\x00-\x1f\x7f@]+)*", re.ASCII)
_REALM = _SAFE_ID
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.?", re.ASCII)
_MAX_HOST_NAME: Final = 253
ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", re.ASCII)
_FINGERPRINT = re.compile(
    r"(?:(?:sha-?256[ \t]+)?fingerprint(?:[ \t]*\(sha-?256\))?[ \t]*[=:][ \t]*)?"
    r"(?P<hex>[0-9a-f]{2}(?::?[0-9a-f]{2}){31})",
    re.ASCII | re.IGNORECASE,
)
"""As it is, or the line that ``openssl x509 -fingerprint`` or ``proxmox-backup-manager cert info``
shows it in."""


def why_not_a_path(path: str | os.PathLike[str]) -> str | None:
    """Why no file can have this path, None if one can: for texts from a command line, say."""
    try:
        raw = os.fsencode(path)
    except (UnicodeEncodeError, TypeError):
        return "it cannot be written in the encoding of file names"
    return "it contains a NUL byte" if b"\0" in raw else None


def is_safe_id(text: str) -> bool:
    """Whether ``text`` is what PBS calls a safe id: a name that can be one path component."""
    return _SAFE_ID.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether ``text`` can name a server: a name or an address, IPv6 without brackets.

    A name in another script than ASCII is one if it has a form in ASCII (IDNA).
    """
    if ":" in text:
        try:
            return ipaddress.IPv6Address(text).scope_id is None
        except ValueError:
            return False
    try:
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return len(name) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(name) is not None


@dataclass(frozen=True, order=True, slots=True)
class Namespace:
    """A path of namespace components; the root has none and is written as the empty string."""

    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for component in self.components:
            if not is_safe_id(component):
                raise InvalidName(f"namespace '{self}': '{component}' is not a valid component")
        if len(self.components) > MAX_NAMESPACE_DEPTH:
            raise InvalidName(
                f"namespace '{self}': {len(self.components)} levels, at most {MAX_NAMESPACE_DEPTH}"
            )
        if len(str(self)) > MAX_NAMESPACE_LENGTH:
            raise InvalidName(f"namespace '{self}': longer than {MAX_NAMESPACE_LENGTH} characters")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``a/b/c``; the empty string is the root. Raises InvalidName."""
        return cls(tuple(text.split("/")) if text else ())

    @property
    def depth(self) -> int:
        """Number of levels below the root."""
        return len(self.components)

    @property
    def is_root(self) -> bool:
        """Whether this is the datastore's root namespace."""
        return not self.components

    @property
    def parent(self) -> Namespace:
        """The namespace one level up; the root is its own parent."""
        return Namespace(self.components[:-1])

    @property
    def disk_path(self) -> str:
        """Path below the base (protocol/datastore.md, "Names"): ``ns/a/ns/b``, root ``""``."""
        return "/".join([f"ns/{component}" for component in self.components])

    def child(self, name: str) -> Namespace:
        """The namespace ``name`` below this one. Raises InvalidName."""
        return Namespace((*self.components, name))

    def contains(self, other: Namespace) -> bool:
        """Whether ``other`` is this namespace or lies below it."""
        return other.components[: self.depth] == self.components

    def mapped(self, source_anchor: Namespace, target_anchor: Namespace) -> Namespace:
        """This source namespace's place at the target (protocol/access.md, "Mapping").

        Raises InvalidName where it is not below ``source_anchor`` or would lie too deep.
        """
        if not source_anchor.contains(self):
            raise InvalidName(f"namespace '{self}' is not below '{source_anchor}'")
        return Namespace(target_anchor.components + self.components[source_anchor.depth :])

    def __str__(self) -> str:
        return "/".join(self.components)

    @property
    def label(self) -> str:
        """For messages: the path, or ``root namespace``."""
        return f"namespace {self}" if self.components else "root namespace"


def route(source: Namespace, target: Namespace) -> str:
    """Where a source namespace lands: ``prod → site1/prod``; just its path where that is the same.

    The root is ``root``, and nothing where it lands in the root.
    """
    if source == target:
        return str(source)
    return f"{str(source) or 'root'} → {str(target) or 'root'}"


def route_label(source: Namespace, target: Namespace) -> str:
    """For messages: ``namespace prod → site1/prod``, or ``root namespace``."""
    where = route(source, target)
    return f"namespace {where}" if where else source.label


def placed(source: Namespace, target: Namespace, name: str) -> str:
    """A group or snapshot of a source namespace, for messages, with where that lands."""
    where = route(source, target)
    return f"{where}: {name}" if where else name


@total_ordering
@dataclass(frozen=True, slots=True)
class Group:
    """A backup group: type and id."""

    backup_type: str
    backup_id: str

    def __post_init__(self) -> None:
        if self.backup_type not in BACKUP_TYPES:
            raise InvalidName(f"'{self.backup_type}' is not a backup type (vm, ct, host)")
        if not is_safe_id(self.backup_id):
            raise InvalidName(f"'{self.backup_id}' is not a valid backup id")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``type/id``. Raises InvalidName."""
        backup_type, slash, backup_id = text.partition("/")
        if not slash:
            raise InvalidName(f"'{text}' is not a backup group: expected TYPE/ID")
        return cls(backup_type, backup_id)

    @property
    def sort_key(self) -> tuple[str, int, int, bytes]:
        """Type; numeric ids below 2^64 by value; then the others by bytes.

        See protocol/access.md, "Groups sort naturally".
        """
        raw = self.backup_id.encode()
        digits = raw.lstrip(b"0") or b"0"
        # The length first: Python refuses to read numbers of more than some thousand digits.
        if raw.isdigit() and len(digits) <= 20 and int(digits) < 1 << 64:  # noqa: PLR2004
            return (self.backup_type, 0, int(digits), raw)
        return (self.backup_type, 1, 0, raw)

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return self.sort_key < other.sort_key

    def __str__(self) -> str:
        return f"{self.backup_type}/{self.backup_id}"


@lru_cache(maxsize=1024)
def format_backup_time(epoch: int) -> str:
    """RFC 3339 UTC without a fraction, as a snapshot's folder (protocol/datastore.md, "Names").

    ``epoch`` is in seconds. Raises InvalidName for a time outside the years 1 to 9999.
    """
    try:
        return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")[:19] + "Z"
    except (ValueError, OverflowError, OSError):
        raise InvalidName(f"{epoch} is not a backup time") from None


def looks_like_backup_time(text: str) -> bool:
    """Whether a folder's name has the form of a snapshot's; it may still be no date."""
    return _TIME.fullmatch(text) is not None


def parse_backup_time(text: str) -> int:
    """Epoch seconds of a snapshot folder's name. Raises InvalidName."""
    if not looks_like_backup_time(text):
        raise InvalidName(f"'{text}' is not a backup time (YYYY-MM-DDThh:mm:ssZ)")
    try:
        epoch = int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise InvalidName(f"'{text}' is not a date") from None
    # Python 3.13 and later take 24:00:00 for the next day's start; a folder's name is exact.
    if text[11:13] == "24":
        raise InvalidName(f"'{text}' is not a date")
    return epoch


@dataclass(frozen=True, order=True, slots=True)
class Snapshot:
    """A snapshot: a group and a time in epoch seconds."""

    group: Group
    backup_time: int

    def __post_init__(self) -> None:
        if not _FIRST_TIME <= self.backup_time <= _LAST_TIME:
            raise InvalidName(f"{self.backup_time} is not a backup time")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``type/id/2026-11-22T18:49:14Z``. Raises InvalidName."""
        group, slash, time = text.rpartition("/")
        if not slash:
            raise InvalidName(f"'{text}' is not a snapshot: expected TYPE/ID/TIME")
        return cls(Group.parse(group), parse_backup_time(time))

    @property
    def time_text(self) -> str:
        """The time as the snapshot's folder is named."""
        return format_backup_time(self.backup_time)

    def __str__(self) -> str:
        return f"{self.group}/{self.time_text}"


@dataclass(frozen=True, slots=True)
class AuthId:
    """Who acts: a user ``user@realm``, or an API token ``user@realm!token``."""

    user: str
    token: str | None = None

    def __post_init__(self) -> None:
        name, at, realm = self.user.rpartition("@")
        if not at or not _USER.fullmatch(name) or not _REALM.fullmatch(realm):
            raise InvalidName(f"'{self.user}' is not a user: expected NAME@REALM")
        if self.token is not None and not is_safe_id(self.token):
            # What follows a colon may be the token's secret, given in a wrong place.
            shown = self.token.partition(":")[0]
            hint = "…', with something behind a colon," if shown != self.token else "'"
            raise InvalidName(f"'{shown}{hint} is not a valid token name")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``user@realm`` or ``user@realm!token``. Raises InvalidName."""
        # A user's name may hold '!' (PBS forbids only blanks, ':', '/' and control characters in
        # it), a realm and a token's name never do: what follows the last '@' decides.
        name, at, rest = text.rpartition("@")
        realm, bang, token = rest.partition("!")
        return cls(f"{name}{at}{realm}", token if bang else None)

    @property
    def is_token(self) -> bool:
        """Whether this is an API token and not a user."""
        return self.token is not None

    def owns(self, owner: AuthId) -> bool:
        """Whether this identity may write what ``owner`` owns (protocol/rest.md, "Owning").

        The owner may, and the user whose token is the owner; not the reverse.
        """
        return self == owner or (self.token is None and self.user == owner.user)

    def __str__(self) -> str:
        return self.user if self.token is None else f"{self.user}!{self.token}"


ROOT: Final = AuthId("root@pam")


@dataclass(frozen=True, slots=True)
class Repository:
    """A datastore on a server: ``[[AUTH-ID@]HOST[:PORT]:]DATASTORE``.

    See protocol/rest.md, "Auth-ids and repositories".
    """

    datastore: str
    host: str = "localhost"
    port: int = DEFAULT_PORT
    auth_id: AuthId = ROOT

    def __post_init__(self) -> None:
        if not is_safe_id(self.datastore) or not 3 <= len(self.datastore) <= 32:  # noqa: PLR2004
            raise InvalidName(
                f"'{self.datastore}' is not a datastore name: 3 to 32 of A-Z a-z 0-9 . _ -"
            )
        if not is_host(self.host):
            raise InvalidName(f"'{self.host}' is not a host name or address")
        if not 1 <= self.port <= 65535:  # noqa: PLR2004
            raise InvalidName(f"port {self.port} is not between 1 and 65535")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a repository as PBS's own client writes it. Raises InvalidName."""
        head, colon, datastore = text.rpartition(":")
        if not colon:
            return cls(datastore)
        auth_text, at, address = head.rpartition("@")
        auth_id = AuthId.parse(auth_text) if at else ROOT
        matched = ADDRESS.fullmatch(address)
        if matched is None:
            raise InvalidName(
                f"repository '{text}': expected [[AUTH-ID@]HOST[:PORT]:]DATASTORE, "
                "an IPv6 address in brackets"
            )
        host = matched[1] or matched[2]
        return cls(datastore, host, int(matched[3] or DEFAULT_PORT), auth_id)

    @property
    def netloc(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.auth_id}@{self.netloc}:{self.datastore}"


def parse_fingerprint(text: str) -> bytes:
    """The 32 bytes of a fingerprint ``ab:cd:…`` (colons optional). Raises InvalidName.

    The line that openssl or PBS's own tools print one in is taken too.
    """
    found = _FINGERPRINT.fullmatch(text.strip())
    if found is None:
        raise InvalidName("a fingerprint is 32 bytes in hex, written ab:cd:…")
    return bytes.fromhex(found["hex"].replace(":", ""))


def format_fingerprint(digest: bytes) -> str:
    """``ab:cd:…`` for a digest's bytes."""
    return digest.hex(":")
