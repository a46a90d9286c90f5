"""Memory that groups pushed at once share."""

from __future__ import annotations

from pbs_push.push.room import Room


def test_it_is_shared() -> None:
    room = Room(100)
    one, two = room.claim(60), room.claim(60)
    assert one.reach(10)
    assert two.reach(60)
    assert two.reach(1000), "it holds all that it may"
    assert not one.reach(50)
    two.close()
    assert one.reach(50)
    two.close()
    assert not two.reach(60)
    one.close()
    assert two.reach(60)


def test_one_alone_always_goes_on() -> None:
    """A share that is larger than all there is."""
    room = Room(10)
    one, two = room.claim(50), room.claim(50)
    assert one.reach(50)
    assert not two.reach(1)
    one.close()
    assert two.reach(1)
