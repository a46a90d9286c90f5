"""Which errors are worth another try, and after what pause (protocol/push.md, "Trying again")."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from pbs_push.errors import ConnectError, ResetError, StatusError, TlsError
from pbs_push.push.patience import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pbs_push.errors import PbsPushError
    from pbs_push.remote.pacing import Paced
    from pbs_push.remote.rest import Params, Rest

T = TypeVar("T")

_PASSING: Final = frozenset((408, 425, 429, 502, 503, 504))
"""Statuses of a server, or of a proxy before it, that is busy or not there at the moment."""
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_GROWTH: Final = 2.0


def is_passing(error: PbsPushError) -> bool:
    """Whether what failed may well work in a moment, with nothing mended by anybody.

    Locks that are held are waited for elsewhere (``push.patience``), credentials that ran out are
    renewed where they are used.
    """
    if isinstance(error, StatusError):
        return error.status in _PASSING
    if isinstance(error, TlsError):
        return error.may_pass
    return isinstance(error, ConnectError | ResetError)


class Retries:
    """The tries of one thing: at most ``tries``, as long as something worked within ``limit_s``.

    ``number`` is how many there were; times are in seconds, of a clock that does not jump, and the
    first try began at ``now``. What a try that got nowhere took counts: a limit of its own for each
    (``--timeout``) does not come on top.
    """

    def __init__(self, tries: int, limit_s: float, now: float) -> None:
        self._most = tries
        self._limit_s = limit_s
        self._pauses = _pauses()
        self._failing_since: float | None = None
        self._began = now
        self.number = 0

    def pause(self, now: float, *, worked: bool = False) -> float | None:
        """How long to wait before the next try; None if it was enough.

        ``worked``: the try that failed now got somewhere before.
        """
        if worked:
            self._failing_since, self._pauses = None, _pauses()
        if self._failing_since is None:
            self._failing_since = now if worked else self._began
        left_s = self._failing_since + self._limit_s - now
        if self.number >= self._most or left_s <= 0:
            return None
        self.number += 1
        pause_s = min(self._pauses.take(), left_s)
        self._began = now + pause_s
        return pause_s


def _pauses() -> Pauses:
    return Pauses(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH, (0.5, 1.0))


class PatientRest:
    """REST calls that are tried again; ``trying`` does it, and is told what is asked."""

    def __init__(self, rest: Rest, trying: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._rest = rest
        self._trying = trying

    def get(self, path: str, params: Params | None = None) -> Any:
        """As ``Rest.get``."""
        return self._trying(f"GET {path}", lambda: self._rest.get(path, params))

    def items(self, path: str, params: Params | None, collect: Callable[[Iterator[Any]], T]) -> T:
        """As ``Rest.items``; ``collect`` begins anew with each try."""
        found: T = self._trying(f"GET {path}", lambda: self._rest.items(path, params, collect))
        return found

    def post(self, path: str, params: Params | None = None) -> Any:
        """As ``Rest.post``."""
        return self._trying(f"POST {path}", lambda: self._rest.post(path, params))

    def put(self, path: str, params: Params | None = None) -> Any:
        """As ``Rest.put``."""
        return self._trying(f"PUT {path}", lambda: self._rest.put(path, params))

    def delete(self, path: str, params: Params | None = None) -> Any:
        """As ``Rest.delete``."""
        return self._trying(f"DELETE {path}", lambda: self._rest.delete(path, params))

    def upload(self, path: str, params: Params, content: Paced) -> Any:
        """As ``Rest.upload``: the content can be gone through again."""
        return self._trying(f"POST {path}", lambda: self._rest.upload(path, params, content))
