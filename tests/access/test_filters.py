"""Group filters (protocol/access.md, "Group filters")."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.errors import ConfigError
from pbs_push.names import Group


def _matches(text: str, group: str) -> bool:
    return GroupFilter.parse(text).matches(Group.parse(group))


@pytest.mark.parametrize(
    ("text", "group", "matches"),
    [
        ("type:vm", "vm/100", True),
        ("type:vm", "ct/100", False),
        ("type:host", "host/vm", True),
        ("group:vm/100", "vm/100", True),
        ("group:vm/100", "vm/1000", False),
        ("group:vm/10", "vm/100", False),
        ("regex:^vm/1", "vm/100", True),
        ("regex:00", "vm/100", True),
        ("regex:m/1", "vm/100", True),
        ("regex:^00", "vm/100", False),
        (r"regex:^vm/1\d\d$", "vm/100", True),
        (r"regex:^vm/1\d\d$", "vm/1000", False),
        ("regex:VM", "vm/100", False),
        ("regex:(?i)VM", "vm/100", True),
        ("regex:", "vm/100", True),
        ("regex:^(?:ct|vm)/[[:digit:]]{3}$", "vm/100", True),
        (r"regex:^host/[\w.-]+\.example$", "host/a.b-c.example", True),
        ("regex:[^]]", "vm/100", True),
        ("regex:[]0]", "vm/100", True),
        (r"regex:[\[0]", "vm/100", True),
        (r"regex:\x{76}\p{Ll}", "vm/100", True),
        ("include:type:vm", "vm/100", True),
        ("include:regex:^ct", "vm/100", False),
        ("exclude:type:vm", "vm/100", True),
        ("exclude:regex:^ct/9", "ct/99", True),
    ],
)
def test_what_a_filter_matches(text: str, group: str, matches: bool) -> None:
    assert _matches(text, group) is matches


def test_everything_after_regex_is_the_expression() -> None:
    filter_ = GroupFilter.parse("exclude:regex:include:(?:a:b)")
    assert (filter_.kind, filter_.value, filter_.exclude) == ("regex", "include:(?:a:b)", True)


@pytest.mark.parametrize("text", ["type:vm", "exclude:group:ct/1", "regex:a:b"])
def test_written_as_read(text: str) -> None:
    assert str(GroupFilter.parse(text)) == text


def test_written_without_include() -> None:
    assert str(GroupFilter.parse("include:type:vm")) == "type:vm"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected type:"),
        ("vm", "expected type:"),
        ("vm/100", "expected type:"),
        ("Type:vm", "expected type:"),
        ("exclude:exclude:type:vm", "expected type:"),
        ("include:vm/100", "expected type:"),
        ("type:qemu", "vm, ct and host"),
        ("type:", "vm, ct and host"),
        ("group:vm", "TYPE/ID"),
        ("group:vm/a b", "backup id"),
        ("regex:(", "missing"),
        ("regex:a**", "repetition"),
        ("regex:\ud800", "UTF-8"),
    ],
)
def test_no_filter(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        GroupFilter.parse(text)


@pytest.mark.parametrize("expression", ["(?=vm)", "(?!vm)", "(?<=vm)0", "(?<!vm)0"])
def test_no_look_around(expression: str) -> None:
    with pytest.raises(ConfigError, match="no look-around"):
        GroupFilter.parse(f"regex:{expression}")


@pytest.mark.parametrize("expression", [r"(0)\1", r"(?P<a>0)(?P=a)", r"(?P<a>0)\k<a>"])
def test_no_back_references(expression: str) -> None:
    with pytest.raises(ConfigError, match="back references"):
        GroupFilter.parse(f"regex:{expression}")


@pytest.mark.parametrize(
    "expression",
    [
        r"[\w--\d]",
        "[a-z&&[^m]]",
        "[a-g~~b-h]",
        "[a&&b]",
        "[a[b]]",
        r"\b{start}vm",
        r"\<vm\>",
        "0{,2}",
        "vm{",
        r"\Qvm/1.0\E",
        r"\C",
        r"\0",
        r"\060",
    ],
)
def test_what_both_engines_read_differently_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"not supported|starts no repetition"):
        GroupFilter.parse(f"regex:{expression}")


@pytest.mark.parametrize("expression", ["a&&b", "a--b", "[{]", r"[&~-]", r"\{", r"[a\-\-b]", "}"])
def test_what_only_looks_like_that_is_taken(expression: str) -> None:
    GroupFilter.parse(f"regex:{expression}")


def test_matching_takes_linear_time() -> None:
    # Python's own engine would take 2^60 steps here, that is, for ever.
    assert not _matches("regex:^host/(?:a+)+$", "host/" + "a" * 60 + "-")


@pytest.mark.parametrize(
    ("filters", "accepted"),
    [
        ([], ["ct/1", "host/a", "vm/1", "vm/2"]),
        (["type:vm"], ["vm/1", "vm/2"]),
        (["type:vm", "group:ct/1"], ["ct/1", "vm/1", "vm/2"]),
        (["exclude:type:vm"], ["ct/1", "host/a"]),
        (["type:vm", "exclude:group:vm/2"], ["vm/1"]),
        (["exclude:group:vm/2", "type:vm"], ["vm/1"]),
        (["group:vm/2", "exclude:regex:."], []),
        (["type:host", "exclude:type:vm"], ["host/a"]),
    ],
)
def test_includes_then_excludes(filters: list[str], accepted: list[str]) -> None:
    groups = ["ct/1", "host/a", "vm/1", "vm/2"]
    chosen = GroupFilters(tuple(GroupFilter.parse(text) for text in filters))
    assert [group for group in groups if chosen.accepts(Group.parse(group))] == accepted


def test_filters_are_values_that_can_be_sent_to_another_process() -> None:
    filters = GroupFilters((GroupFilter.parse("exclude:regex:^ct/9"),))
    assert pickle.loads(pickle.dumps(filters)) == filters  # noqa: S301


@given(st.text() | st.text().map("regex:".__add__) | st.from_regex(r"(include:|exclude:)?\w+:.*"))
def test_any_text_is_a_filter_or_a_config_error(text: str) -> None:
    try:
        filter_ = GroupFilter.parse(text)
    except ConfigError:
        return
    assert GroupFilter.parse(str(filter_)) == filter_
    filter_.matches(Group("vm", "100"))


_GROUPS = st.builds(
    Group, st.sampled_from(["vm", "ct", "host"]), st.from_regex(r"[a-c0-2_]{1,3}", fullmatch=True)
)
_FILTERS = st.one_of(
    _GROUPS.map(lambda group: f"type:{group.backup_type}"),
    _GROUPS.map(lambda group: f"group:{group}"),
    _GROUPS.map(lambda group: f"regex:{group.backup_id}"),
)


@given(st.lists(_FILTERS, max_size=3), st.lists(_FILTERS, max_size=3), _GROUPS)
def test_accepts_is_its_definition(includes: list[str], excludes: list[str], group: Group) -> None:
    filters = GroupFilters(
        tuple(GroupFilter.parse(text) for text in includes)
        + tuple(GroupFilter.parse(f"exclude:{text}") for text in excludes)
    )
    included = not includes or any(_matches(text, str(group)) for text in includes)
    excluded = any(_matches(text, str(group)) for text in excludes)
    assert filters.accepts(group) is (included and not excluded)
