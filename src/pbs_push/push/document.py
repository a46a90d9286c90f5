"""What JSON documents have in common (docs/json.md).

Keys are written as PBS writes them. A change that could break a reader raises ``FORMAT_VERSION``.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import Any, Final

from pbs_push.errors import PbsPushError
from pbs_push.names import Namespace, Repository
from pbs_push.version import VERSION

FORMAT_VERSION: Final = 1

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sides:
    """What is pushed where, as far as it is known: an error may come before.

    ``source`` is the datastore's directory, or what it was called by.
    """

    source: str
    source_namespace: Namespace
    target: Repository | None
    target_namespace: Namespace

    def to_dict(self) -> Json:
        """As ``source`` and ``target`` of a document."""
        return {
            "source": {"datastore": self.source, "ns": str(self.source_namespace)},
            "target": {
                "repository": None if self.target is None else str(self.target),
                "ns": str(self.target_namespace),
            },
        }


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something ran, in epoch seconds."""

    began: float
    ended: float

    @classmethod
    def now(cls) -> Span:
        """Of what took no time."""
        moment = time.time()
        return cls(moment, moment)


def head(
    kind: str,
    sides: Sides | None,
    exit_status: int,
    error: PbsPushError | None,
    span: Span | None = None,
) -> Json:
    """How a document begins; without a ``span`` it is of now."""
    span = Span.now() if span is None else span
    return {
        "format": f"pbs-push-{kind}",
        "format-version": FORMAT_VERSION,
        "program": f"pbs-push {VERSION}",
        "began": round(span.began, 3),
        "ended": round(span.ended, 3),
        "exit-status": exit_status,
        "error": None if error is None else error.to_dict(),
        **({"source": None, "target": None} if sides is None else sides.to_dict()),
    }


def bare_head(kind: str, exit_status: int, error: PbsPushError | None, span: Span) -> Json:
    """How a document begins that is of no one source and target."""
    made = head(kind, None, exit_status, error, span)
    del made["source"], made["target"]
    return made


def key_of(member: enum.Enum) -> str:
    """How a member of an enumeration is named: ``not-newer``."""
    return member.name.lower().replace("_", "-")


def dashed(values: Json) -> Json:
    """The same with keys written as PBS writes them."""
    return {key.replace("_", "-"): value for key, value in values.items()}
