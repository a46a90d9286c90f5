"""Depth limits of a push's namespaces (protocol/access.md, "Depth")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.errors import ConfigError, InvalidName
from pbs_push.names import Namespace
from pbs_push.push.mapping import check_depths


def _check(
    source: str, target: str, max_depth: int | None = None, namespaces: tuple[str, ...] = ()
) -> None:
    found = [Namespace.parse(text) for text in namespaces]
    check_depths(Namespace.parse(source), Namespace.parse(target), max_depth, found)


@pytest.mark.parametrize(
    ("source", "target", "max_depth", "namespaces"),
    [
        ("", "", None, ()),
        ("", "", 7, ("", "a/b/c/d/e/f/g")),
        ("", "x", None, ("a/b/c/d/e/f",)),
        ("", "x", 6, ()),
        ("a/b/c", "x/y/z", 4, ("a/b/c/d/e/f/g",)),
        ("a/b/c/d/e/f/g", "1/2/3/4/5/6/7", 0, ("a/b/c/d/e/f/g",)),
        ("a", "1/2/3/4/5/6/7", None, ("a",)),
    ],
)
def test_what_fits(
    source: str, target: str, max_depth: int | None, namespaces: tuple[str, ...]
) -> None:
    _check(source, target, max_depth, namespaces)


@pytest.mark.parametrize(
    ("source", "target", "max_depth", "problem"),
    [
        ("", "", 8, "max-depth 8 is not between 0 and 7"),
        ("", "", -1, "max-depth -1 is not between 0 and 7"),
        ("a", "", 7, "max-depth 7 is too much for the source namespace a, 1 levels deep"),
        ("", "x/y", 6, "max-depth 6 is too much for the target namespace x/y, 2 levels deep"),
        ("a/b/c/d/e/f/g", "", 1, "source namespace a/b/c/d/e/f/g"),
    ],
)
def test_anchors_and_max_depth(source: str, target: str, max_depth: int, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        _check(source, target, max_depth)


@pytest.mark.parametrize("max_depth", [None, 6])
def test_the_deepest_source_namespace_decides(max_depth: int | None) -> None:
    with pytest.raises(
        ConfigError, match=r"source namespace a/b/c/d/e/f/g cannot be pushed: its 7"
    ):
        _check("", "x", max_depth, ("", "a", "a/b/c/d/e/f/g"))


def test_a_mapped_name_that_is_too_long() -> None:
    with pytest.raises(InvalidName, match="longer than 256"):
        _check("", "x" * 200, None, ("a" * 100,))


def test_a_namespace_not_below_the_anchor() -> None:
    with pytest.raises(InvalidName, match="'ab' is not below 'a'"):
        _check("a", "x", None, ("ab",))


_PATHS = st.lists(st.sampled_from("abc"), max_size=7).map(lambda parts: Namespace(tuple(parts)))


@given(_PATHS, _PATHS, st.none() | st.integers(0, 7), st.lists(_PATHS, max_size=4))
def test_what_passes_can_be_mapped(
    source: Namespace, target: Namespace, max_depth: int | None, below: list[Namespace]
) -> None:
    handled = [
        Namespace(source.components + path.components)
        for path in below
        if source.depth + path.depth <= 7 and (max_depth is None or path.depth <= max_depth)
    ]
    deepest = max((namespace.depth - source.depth for namespace in handled), default=0)
    fits = deepest + target.depth <= 7 and (
        max_depth is None or max(source.depth, target.depth) + max_depth <= 7
    )
    try:
        check_depths(source, target, max_depth, handled)
    except ConfigError:
        passed = False
    else:
        passed = True
        for namespace in handled:
            assert namespace.mapped(source, target).depth <= 7
    assert passed is fits
