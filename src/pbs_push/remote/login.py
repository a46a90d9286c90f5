"""What it takes to log in to a target again, elsewhere: a value that can be pickled."""

from __future__ import annotations

from dataclasses import dataclass, field

from pbs_push.names import Repository
from pbs_push.remote.auth import Secret
from pbs_push.remote.features import Features
from pbs_push.remote.preface import Preface
from pbs_push.remote.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Login:
    """The parameters of a ``Target``. Pickled it holds the secret; it never shows it."""

    repository: Repository
    secret: Secret = field(repr=False, compare=False)
    fingerprint: bytes | None
    timeout_s: float | None
    proxy: Proxy | None


@dataclass(frozen=True, slots=True)
class Habits:
    """What was found out about a target, and need not be found out again: its round trip (0.0:
    it was never reached), whether shortcuts are of no use, how early HTTP/2 may begin, and what its
    version can do (None: that was not asked)."""

    round_trip_s: float = 0.0
    plain_only: bool = False
    preface: Preface = Preface.WITH_REQUEST
    features: Features | None = None
