"""What may be removed there, and what keeps it (protocol/push.md, "Vanished namespaces")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.filters import GroupFilters
from pbs_push.errors import DeniedError, PbsPushError, StatusError
from pbs_push.names import AuthId, Group, Namespace, Snapshot
from pbs_push.push.options import PushOptions
from pbs_push.push.vanished import (
    VanishedNamespace,
    is_gone,
    judge_namespace,
    namespace_candidates,
    vanished_groups,
    vanished_snapshots,
    why_not_to_look,
)
from pbs_push.remote.models import GroupItem, SnapshotItem
from pbs_push.remote.reading import read
from pbs_push.source.items import SnapshotList, SourceSnapshot

from .world import ME, MY_USER, STRANGER, filters, time

REMOTE_USER = AuthId.parse(ME)
NONE = GroupFilters()


def ns(text: str) -> Namespace:
    return Namespace.parse(text)


def group(name: str, owner: str | None = ME, count: int = 2) -> GroupItem:
    kind, _, number = name.partition("/")
    return read(
        GroupItem,
        {"backup-type": kind, "backup-id": number, "owner": owner, "backup-count": count},
        "a list",
    )


def snapshot(name: str, number: int, **more: Any) -> SnapshotItem:
    kind, _, ident = name.partition("/")
    keys = {"backup-type": kind, "backup-id": ident, "backup-time": time(number), "size": 1}
    return read(SnapshotItem, {**keys, **more}, "a list")


# -- snapshots and groups --


def test_snapshots_are_vanished_by_their_time_alone() -> None:
    name = Group("vm", "1")
    here = SnapshotList(
        (
            SourceSnapshot(ns(""), Snapshot(name, time(1)), finished=True, protected=False),
            SourceSnapshot(ns(""), Snapshot(name, time(2)), finished=False, protected=False),
        )
    )
    there = [snapshot("vm/1", 4, protected=True), *(snapshot("vm/1", n) for n in (3, 2, 1, 0))]
    there.append(snapshot("vm/1", 5, size=None))
    gone = vanished_snapshots(here, there)
    assert [item.snapshot.backup_time for item in gone] == [time(n) for n in (0, 3, 4, 5)]
    assert [item.protected for item in gone] == [False, False, True, False]
    assert [item.finished for item in gone] == [True, True, True, False]


GROUPS: dict[str, tuple[list[GroupItem], Sequence[str], list[str]]] = {
    "gone at the source": ([group("vm/1"), group("vm/2")], (), ["vm/2"]),
    "in natural order": (
        [group("vm/100"), group("vm/99"), group("ct/5")],
        (),
        ["ct/5", "vm/99", "vm/100"],
    ),
    "owned by someone else": ([group("vm/2", STRANGER)], (), []),
    "owned by our token's user": ([group("vm/2", MY_USER)], (), []),
    "owned by nobody": ([group("vm/2", None)], (), []),
    "not of the filters": (
        [group("vm/2"), group("ct/2"), group("vm/3")],
        ("type:vm", "exclude:group:vm/3"),
        ["vm/2"],
    ),
}


@pytest.mark.parametrize("rule", GROUPS)
def test_groups(rule: str) -> None:
    items, texts, expected = GROUPS[rule]
    there = {item.group: item for item in items}
    gone = vanished_groups({Group("vm", "1")}, there, {}, filters(*texts), REMOTE_USER)
    assert [str(item.group) for item in gone] == expected


def test_a_users_pruning_includes_what_its_tokens_own() -> None:
    there = {Group("vm", "2"): group("vm/2", ME)}
    assert vanished_groups(set(), there, {}, NONE, AuthId.parse(MY_USER))


def test_protected_ones_of_a_group_stay() -> None:
    name = Group("vm", "2")
    listed = {name: [snapshot("vm/2", 0, protected=True), snapshot("vm/2", 1)]}
    (gone,) = vanished_groups(set(), {name: group("vm/2")}, listed, NONE, REMOTE_USER)
    assert (gone.snapshots, gone.protected) == (1, 1)


# -- which namespaces to look at --

CANDIDATES: dict[str, tuple[str, int | None, list[str], list[str], list[str]]] = {
    "what is not mapped": ("", None, ["", "a", "b"], ["", "a"], ["b"]),
    "never the root": ("", None, ["", "a"], ["a"], []),
    "never outside of the anchor": ("x", None, ["", "x", "x/a", "y", "xy/a"], ["x"], ["x/a"]),
    "never above a mapped one": ("", None, ["", "a", "a/b", "a/c"], ["", "a/b"], ["a/c"]),
    "never beyond max-depth": ("x", 1, ["x", "x/a", "x/a/b"], ["x"], ["x/a"]),
    "depth 0 is the anchor alone": ("x", 0, ["x", "x/a"], ["x"], []),
    "children first": (
        "",
        None,
        ["", "a", "a/b", "a/b/c", "b"],
        [""],
        ["a/b/c", "a/b", "a", "b"],
    ),
}


@pytest.mark.parametrize("rule", CANDIDATES)
def test_candidates(rule: str) -> None:
    anchor, depth, there, mapped, expected = CANDIDATES[rule]
    options = PushOptions(target_namespace=ns(anchor), max_depth=depth)
    found = namespace_candidates(
        {ns(text) for text in there}, {ns(text) for text in mapped}, options
    )
    assert [str(namespace) for namespace in found] == expected


COMPONENTS = st.sampled_from("abc")
NAMESPACES = st.lists(COMPONENTS, max_size=5).map(lambda parts: Namespace(tuple(parts)))


@given(
    there=st.sets(NAMESPACES, max_size=25),
    source=st.sets(NAMESPACES, max_size=10),
    anchor=st.lists(COMPONENTS, max_size=2).map(lambda parts: Namespace(tuple(parts))),
    depth=st.none() | st.integers(0, 5),
)
def test_candidates_are_safe(
    there: set[Namespace], source: set[Namespace], anchor: Namespace, depth: int | None
) -> None:
    mapped = {namespace.mapped(ns(""), anchor) for namespace in source} | {anchor}
    options = PushOptions(target_namespace=anchor, max_depth=depth)
    found = namespace_candidates(there, mapped, options)
    assert set(found) <= there
    assert len(set(found)) == len(found)
    for position, candidate in enumerate(found):
        assert not candidate.is_root
        assert anchor.contains(candidate)
        assert candidate != anchor
        assert depth is None or candidate.depth <= anchor.depth + depth
        assert not any(candidate.contains(kept) for kept in mapped), "a mapped one would go too"
        above = found[:position]
        assert not any(earlier.contains(candidate) for earlier in above), "children come first"
    # and nothing that may go is forgotten
    for namespace in there:
        if depth is None and anchor.contains(namespace) and namespace not in found:
            assert namespace.is_root or any(namespace.contains(kept) for kept in mapped)


@given(there=st.sets(NAMESPACES, max_size=25), depth=st.integers(0, 4))
def test_what_lies_beyond_max_depth_keeps_what_holds_it(there: set[Namespace], depth: int) -> None:
    """A server deletes all that is below; beyond max-depth nothing is looked at."""
    options = PushOptions(max_depth=depth)
    candidates = namespace_candidates(there, {ns("")}, options)
    for candidate in candidates:
        holds_more = any(candidate.contains(other) and other.depth > depth for other in there)
        if holds_more:
            assert why_not_to_look(candidate, there, candidates) is not None


def test_a_namespace_whose_parent_is_not_shown_stays() -> None:
    there = {ns("Root")}
    assert "root namespace" in str(why_not_to_look(ns("Root"), there, [ns("Root")]))
    assert why_not_to_look(ns("Root"), {ns(""), *there}, [ns("Root")]) is None


@given(source=NAMESPACES, source_anchor=NAMESPACES, target_anchor=NAMESPACES)
def test_mapping_moves_a_tree_as_it_is(
    source: Namespace, source_anchor: Namespace, target_anchor: Namespace
) -> None:
    namespace = Namespace((source_anchor.components + source.components)[:7])
    levels = namespace.depth - source_anchor.depth
    if levels + target_anchor.depth > 7:
        return
    mapped = namespace.mapped(source_anchor, target_anchor)
    assert target_anchor.contains(mapped)
    assert mapped.depth - target_anchor.depth == levels
    assert mapped.mapped(target_anchor, source_anchor) == namespace


# -- what is in them --

JUDGED: dict[str, tuple[list[GroupItem], Sequence[str], list[VanishedNamespace], str | None]] = {
    "empty": ([], (), [], None),
    "ours": ([group("vm/1"), group("ct/1")], (), [], None),
    "a stranger's group": ([group("vm/1"), group("vm/2", STRANGER)], (), [], STRANGER),
    "a group of nobody": ([group("vm/1", None)], (), [], "owned by nobody"),
    "a group that the filters leave out": ([group("vm/1")], ("type:ct",), [], "vm/1"),
    "one below goes": ([], (), [VanishedNamespace(ns("a/b"), 1, 1)], None),
    "one below stays": ([], (), [VanishedNamespace(ns("a/b"), keep="so")], "a/b below it stays"),
    "protected below": ([], (), [VanishedNamespace(ns("a/b"), 1, 1, 1)], "a/b below it stays"),
}


@pytest.mark.parametrize("rule", JUDGED)
def test_judging_a_namespace(rule: str) -> None:
    groups, texts, below, keep = JUDGED[rule]
    made = judge_namespace(ns("a"), groups, [], below, filters(*texts), REMOTE_USER)
    assert made.groups == len(groups)
    assert made.keep is None if keep is None else keep in str(made.keep)


def test_a_namespaces_protected_snapshots_are_counted() -> None:
    listed = [snapshot("vm/1", n, protected=n == 0) for n in range(3)]
    made = judge_namespace(ns("a"), [group("vm/1", count=3)], listed, [], NONE, REMOTE_USER)
    assert (made.snapshots, made.protected, made.keep) == (2, 1, None)


# -- limits --


@pytest.mark.parametrize(
    ("planned", "there", "limits", "refused"),
    [
        (5, 10, {}, False),
        (5, 10, {"max_removals": 5}, False),
        (6, 10, {"max_removals": 5}, True),
        (1, 10, {"max_removals": 0}, True),
        (5, 10, {"max_removals": "50%"}, False),
        (6, 10, {"max_removals": "50%"}, True),
        (1, 1000, {"max_removals": "0.1%"}, False),
        (2, 1000, {"max_removals": "0.1%"}, True),
        (1, 0, {"max_removals": "99%"}, True),
    ],
)
def test_too_many(planned: int, there: int, limits: dict[str, Any], *, refused: bool) -> None:
    limit = PushOptions(remove_vanished=True, **limits).max_removals
    reason = None if limit is None else limit.exceeded_by(planned, there)
    assert (reason is not None) is refused
    assert reason is None or str(planned) in reason


@pytest.mark.parametrize(
    ("error", "gone"),
    [
        (StatusError("DELETE", 400, "ENOENT: No such file or directory"), True),
        (StatusError("DELETE", 400, "something else"), False),
        (StatusError("DELETE", 500, "ENOENT"), False),
        (DeniedError("DELETE", 403, "missing"), False),
        (PbsPushError("ENOENT"), False),
    ],
)
def test_what_says_that_a_thing_is_gone(error: PbsPushError, *, gone: bool) -> None:
    assert is_gone(error) is gone
