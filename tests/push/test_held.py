"""A snapshot's files are closed when it ended, whatever became of it.

Without the garbage collector, which may not run before there are no more descriptors.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbs_push.formats.keys import CryptKey
from pbs_push.push import retries
from pbs_push.push.outcome import Result
from pbs_push.target import Faults

from .world import World

KEY = CryptKey(bytes(range(100, 132)))
GROUPS = 5


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def mapped_below(folder: Path) -> list[str]:
    return [
        line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line
    ]


@pytest.mark.parametrize("key", [None, KEY], ids=["as it is", "with a key"])
def test_nothing_of_a_pushed_snapshot_stays_open(
    world: World, key: CryptKey | None, open_below: Callable[[Path], list[str]]
) -> None:
    for number in range(GROUPS):
        world.source.add(f"host/h{number}", 1, 2)

    pushed = world.push(encryption_key=key, parallel=2)

    assert pushed.report.counts[Result.PUSHED] == 2 * GROUPS
    assert open_below(world.source.path) == []
    assert mapped_below(world.source.path) == []


@pytest.mark.parametrize("key", [None, KEY], ids=["as it is", "with a key"])
def test_nothing_of_a_failed_snapshot_stays_open(
    world: World, key: CryptKey | None, open_below: Callable[[Path], list[str]]
) -> None:
    for number in range(GROUPS):
        world.source.add(f"host/h{number}", 1, archives={"root.pxar.didx": ("here", "lost")})
    world.source.chunk_of("lost").unlink()

    pushed = world.push(encryption_key=key, parallel=2)

    assert pushed.report.counts[Result.FAILED] == GROUPS
    assert len(pushed.errors) == GROUPS
    assert open_below(world.source.path) == []
    assert mapped_below(world.source.path) == []


@pytest.mark.parametrize(
    "kind",
    ["upgrade", "POST dynamic_index", "POST dynamic_chunk", "PUT dynamic_index", "POST finish"],
)
@pytest.mark.parametrize("key", [None, KEY], ids=["as it is", "with a key"])
def test_nothing_of_a_try_that_is_made_again_stays_open(
    world: World,
    key: CryptKey | None,
    kind: str,
    open_below: Callable[[Path], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors that are told of hold the frames that raised them, and these what was under way."""
    monkeypatch.setattr(retries, "_FIRST_PAUSE_S", 0.01)
    world.source.add("host/h", 1, 2)
    cuts = iter((True, True))

    def cut(seen: str, handled: bool) -> None:
        if seen == kind and not handled and next(cuts, False):
            raise ConnectionResetError

    world.serve(faults=Faults(on_request=cut))
    pushed = world.push(encryption_key=key, retries=3)
    assert next(cuts, None) is None
    assert pushed.report.counts[Result.PUSHED] == 2
    assert open_below(world.source.path) == []
    assert mapped_below(world.source.path) == []
