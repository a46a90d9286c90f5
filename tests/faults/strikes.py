"""Faults that strike one request of a push: what they do, and what must come of them.

A strike is told of the boundaries of all requests, and does its work at those of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pbs_push.target.answers import Answer, StreamKilled

from . import frames
from .frames import Once
from .line import Armed, Damage, Way
from .scene import Scene

REFUSED_STREAM: Final = 7

Boundary = tuple[str, int, bool]


@dataclass(frozen=True, slots=True)
class Aim:
    """One request: its kind, which of its kind, and the boundary that came before it."""

    kind: str
    number: int
    before: Boundary | None

    @property
    def is_rest(self) -> bool:
        """Whether it is none of a session's."""
        return self.kind in REST


REST: Final = frozenset(
    (
        "POST ticket",
        "GET version",
        "GET namespace",
        "GET groups",
        "GET snapshots",
        "GET notes",
        "GET group-notes",
        "PUT notes",
        "PUT group-notes",
        "PUT protected",
        "POST namespace",
        "POST upload-backup-log",
        "DELETE snapshots",
        "DELETE groups",
        "DELETE namespace",
        "upgrade",
    )
)

Strike = Callable[[Scene, Aim], Callable[[], bool]]
"""Makes ready for a push; what it returns tells afterwards whether it has struck."""


NEVER_REACHED: Final = "POST ticket"
"""What fails here, before anything was answered, is not tried again: the address may be wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. ``passes``: a push that tries again brings everything all the same."""

    name: str
    strike: Strike
    passes: bool
    fits: Callable[[Aim], bool] = lambda _aim: True


def _at(scene: Scene, boundary: Boundary, act: Callable[[], None]) -> Callable[[], bool]:
    """Do something once, at a boundary."""
    done: list[bool] = []

    def hook(kind: str, number: int, handled: bool) -> None:
        if (kind, number, handled) == boundary and not done:
            done.append(True)
            act()

    scene.hook = hook
    return lambda: bool(done)


def _before(damage: Damage) -> Strike:
    """What carries the request is damaged, as well as can be told from outside of TLS."""

    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        assert aim.before is not None
        return _at(scene, aim.before, lambda: scene.line.arm(Armed(damage, Way.UP)))

    return strike


def _after(damage: Damage) -> Strike:
    """What carries the answer is."""

    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        boundary = (aim.kind, aim.number, True)
        return _at(scene, boundary, lambda: scene.line.arm(Armed(damage, Way.DOWN)))

    return strike


def _broken_off(*, handled: bool) -> Strike:
    """The target ends the connection, in the middle of all that is under way there."""

    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        def cut() -> None:
            raise ConnectionResetError

        return _at(scene, (aim.kind, aim.number, handled), cut)

    return strike


def _away(connections: int) -> Strike:
    """All is cut, and the next connections are refused: a restart."""

    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        def go() -> None:
            scene.line.refuse(connections)
            scene.line.cut_all()

        return _at(scene, (aim.kind, aim.number, False), go)

    return strike


def _answers(change: Callable[[Answer], Answer]) -> Strike:
    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        seen: list[str] = []

        def on_answer(kind: str, answer: Answer) -> Answer:
            if kind == aim.kind:
                seen.append(kind)
                if len(seen) == aim.number:
                    return change(answer)
            return answer

        scene.faults.on_answer = on_answer
        return lambda: len(seen) >= aim.number

    return strike


def _status(status: int) -> Strike:
    text = {
        400: b"something is wrong\nwith\x1b[31m this",
        502: b"<html><h1>Bad Gateway</h1></html>",
    }.get(status, b"")
    return _answers(lambda _answer: Answer(status, text, None))


def _body(body: Callable[[bytes], bytes], content_type: str | None = "text/html") -> Strike:
    return _answers(
        lambda answer: replace(answer, body=body(answer.body), content_type=content_type)
    )


def _frames(make: Callable[[], Once]) -> Strike:
    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        once = make()

        def arm() -> None:
            once.armed = True

        scene.faults.on_frames = once
        _at(scene, (aim.kind, aim.number, True), arm)
        return lambda: once.struck

    return strike


def _resets(code: int) -> Strike:
    """The request is reset: where the target says that it did not look at it, before it did."""

    def strike(scene: Scene, aim: Aim) -> Callable[[], bool]:
        def kill() -> None:
            raise StreamKilled("on purpose", code)

        return _at(scene, (aim.kind, aim.number, code != REFUSED_STREAM), kill)

    return strike


def _in_session(aim: Aim) -> bool:
    return not aim.is_rest


def _has_one_before(aim: Aim) -> bool:
    return aim.before is not None


def _is_json(aim: Aim) -> bool:
    return aim.kind not in ("upgrade", "previous")


def _tcp() -> list[Fault]:
    found = []
    for damage in Damage:
        found.append(Fault(f"request {damage.value}", _before(damage), True, _has_one_before))
        found.append(Fault(f"answer {damage.value}", _after(damage), True))
    found += [
        Fault("target breaks off before", _broken_off(handled=False), True),
        Fault("target breaks off after", _broken_off(handled=True), True),
        Fault("target away for 4 connections", _away(4), True),
    ]
    return found


_PASSING: Final = (408, 425, 429, 502, 503, 504)
_LASTING: Final = (400, 403, 404, 500, 501)


def _http() -> list[Fault]:
    found = [Fault(f"status {status}", _status(status), True) for status in _PASSING]
    found += [Fault(f"status {status}", _status(status), False) for status in _LASTING]
    found += [
        Fault("status 401", _status(401), False),
        Fault("a page with status 200", _body(lambda _: b"<html>log in</html>"), False, _is_json),
        Fault("JSON cut in the middle", _body(lambda one: one[: len(one) // 2]), False, _is_json),
        Fault("an empty answer", _body(lambda _: b""), False, _is_json),
        Fault("JSON of another shape", _body(lambda _: b'{"data":{"x":[1]}}'), False, _is_json),
        Fault("random bytes", _body(lambda _: bytes(range(255, 0, -1)), None), False, _is_json),
    ]
    return found


def _raw(name: str, make: Callable[[], Once], *, passes: bool) -> Fault:
    return Fault(name, _frames(make), passes, _in_session)


def _h2() -> list[Fault]:
    def put(data: bytes) -> Callable[[], Once]:
        return lambda: Once(lambda sent: sent + data)

    def shut() -> Once:
        # With the acknowledgement: it may be the last that comes while the window is shut.
        return Once(frames.window_shut, [frames.window_opened])

    found = [
        Fault(f"RST_STREAM {code}", _resets(code), True, _in_session)
        for code in (0, 1, 2, 7, 8, 11)
    ]
    found += [
        _raw("GOAWAY, no error", put(frames.goaway(0, 0)), passes=True),
        _raw("GOAWAY for later streams", put(frames.goaway(2**31 - 1, 0)), passes=True),
        _raw("GOAWAY, internal error", put(frames.goaway(1, 2, b"\x1b[2Jbye")), passes=True),
        _raw("GOAWAY, calm down", put(frames.goaway(2**31 - 1, 11)), passes=True),
        _raw("answer twice", lambda: Once(frames.twice), passes=False),
        _raw("answer's end too early", lambda: Once(frames.end_missing), passes=False),
        _raw("a frame's length flipped", lambda: Once(frames.flipped), passes=False),
        _raw("a frame cut short", lambda: Once(frames.cut_short), passes=False),
        _raw("window shut, then opened", shut, passes=True),
        _raw("window of 100 bytes", put(frames.settings(window=100)), passes=True),
        _raw("window too large", put(frames.settings(window=2**32 - 1)), passes=False),
        _raw("frames of 16 KiB", put(frames.settings(frame_size=16384)), passes=True),
        _raw("frames too small", put(frames.settings(frame_size=100)), passes=False),
        _raw("one stream at once", put(frames.settings(streams=1)), passes=True),
        _raw("no header table", put(frames.settings(table=0)), passes=True),
        _raw("window update of 0", put(frames.frame(8, 0, 0, bytes(4))), passes=False),
        _raw("window overflows", put(frames.frame(8, 0, 0, b"\x7f\xff\xff\xff")), passes=False),
        _raw("an unknown frame", put(frames.frame(0xFA, 9, 0, b"?" * 99)), passes=True),
        _raw("a push promise", put(frames.frame(5, 4, 1, bytes((0, 0, 0, 2, 0x88)))), passes=False),
        _raw("a ping", put(frames.frame(6, 0, 0, b"pingping")), passes=True),
        _raw("an answer nobody asked for", put(frames.frame(1, 5, 9999, b"\x88")), passes=False),
    ]
    return found


FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in (*_tcp(), *_http(), *_h2())}
