"""Lines of keys, beside what Python's own parser finds."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.cli.toml_lines import key_lines, line_of

TEXT = """# a comment = with [all] "it takes
[defaults]
a = 1 # = [x]
"b = c".d = 'e = [f'   # dotted

[push.one]
list = [
  "x = 1",  # y = 2
  [3, { z = 4 }],
]
long = \"\"\"
[no.table]
k = "v"
quoted\"\"\"\"
other = '''
it's = "x"''''
last = { in = 1, "line" = 2 }
[push."t.w.o"]
empty = ""
back = "a\\"b = c"
[[many]]
x = 1
[[many]]
x = 2
"""


def test_where_keys_stand() -> None:
    tomllib.loads(TEXT)
    assert key_lines(TEXT) == {
        ("defaults",): 2,
        ("defaults", "a"): 3,
        ("defaults", "b = c", "d"): 4,
        ("push", "one"): 6,
        ("push", "one", "list"): 7,
        ("push", "one", "long"): 11,
        ("push", "one", "other"): 15,
        ("push", "one", "last"): 17,
        ("push", "t.w.o"): 18,
        ("push", "t.w.o", "empty"): 19,
        ("push", "t.w.o", "back"): 20,
        ("many",): 21,
        ("many", "x"): 22,
    }


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("push", "one", "last", "in"), 17),
        (("push", "one"), 6),
        (("push", "three"), 1),
        (("nothing",), 1),
        ((), 1),
    ],
)
def test_the_line_of_what_a_key_stands_in(path: tuple[str, ...], line: int) -> None:
    assert line_of(key_lines(TEXT), path) == line


KEY = st.from_regex(r"[a-z]{1,3}", fullmatch=True) | st.sampled_from(
    ['"q k"', "'s = ['", '"\\u00e9#"']
)
VALUE = st.sampled_from(
    [
        "1",
        "true",
        '"x = [ # "',
        "'a'",
        '""',
        "[1, [2]]",
        "[\n  1, # c ]\n]",
        "{ inline = 1 }",
        '"""\nx = "y" [t]\n"""',
        "'''\n[t]\n'''",
        '"""a""""',
        "1979-05-27T07:32:00Z",
        "-1.5",
    ]
)
STATEMENT = st.tuples(KEY, VALUE).map(lambda one: f"{one[0]} = {one[1]}") | KEY.map("[{}]".format)
LINE = STATEMENT | st.sampled_from(["", "  # [c] = 1", "\t"])


def leaves(table: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Each table and each key."""
    found = set()
    for key, value in table.items():
        found.add((*path, key))
        if isinstance(value, dict) and "inline" not in value:  # which is no name of KEY
            found |= leaves(value, (*path, key))
    return found


@given(st.lists(LINE, max_size=12))
def test_the_same_keys_as_the_parser(lines: list[str]) -> None:
    text = "\n".join(lines)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = key_lines(text)
    assert set(found) == leaves(content)
    rows = text.split("\n")
    for path, line in found.items():
        assert repr(path[-1])[1:2] in rows[line - 1] or "\\u" in rows[line - 1]
