"""Section config: the syntax, its errors, and that no value shows where it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.sections import SectionConfig
from pbs_push.errors import ConfigError

SAMPLE = (
    "remote: offsite\n"
    "\thost pbs.example.org\n"
    "\tcomment two  blanks, # no comment: kept  \n"
    "\tgroup-filter type:vm\n"
    "\tgroup-filter exclude:regex:^ct/9\n"
    "\n"
    "\n"
    "other: x y\n"
    "    empty\n"
    " \tkey\t \tvalue\r\n"
)


def test_sections_entries_and_lines() -> None:
    config = SectionConfig.parse(SAMPLE, "sample.cfg")
    first, second = config.sections
    assert (first.type, first.id, first.line) == ("remote", "offsite", 1)
    assert [(e.key, e.value, e.line) for e in first.entries] == [
        ("host", "pbs.example.org", 2),
        ("comment", "two  blanks, # no comment: kept", 3),
        ("group-filter", "type:vm", 4),
        ("group-filter", "exclude:regex:^ct/9", 5),
    ]
    assert (second.type, second.id, second.line) == ("other", "x y", 8)
    assert [(e.key, e.value) for e in second.entries] == [("empty", ""), ("key", "value")]


def test_lookups() -> None:
    config = SectionConfig.parse(SAMPLE, "sample.cfg")
    section = config.require("remote", "offsite")
    assert section.values("group-filter") == ["type:vm", "exclude:regex:^ct/9"]
    assert section.values("none") == []
    assert section.single("host") == "pbs.example.org"
    assert section.single("none") is None
    assert (section.line_of("group-filter"), section.line_of("none")) == (4, 1)
    assert config.find("remote", "x y") is None
    assert config.of_type("remote") == [section]


def test_a_key_that_is_no_list_stands_once() -> None:
    section = SectionConfig.parse(SAMPLE, "sample.cfg").require("remote", "offsite")
    with pytest.raises(
        ConfigError, match=r"^sample\.cfg:5: remote 'offsite': key 'group-filter' .*line 4"
    ):
        section.single("group-filter")


def test_a_missing_section_names_those_there_are() -> None:
    config = SectionConfig.parse("a: one\n\na: two\n\nb: three\n", "sample.cfg")
    with pytest.raises(ConfigError, match=r"no a 'x' in sample\.cfg \(there: one, two\)"):
        config.require("a", "x")
    with pytest.raises(ConfigError, match="there: none"):
        config.require("c", "x")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\tkey value\n", 1),
        ("a: b\n\n\tkey value\n", 3),
        ("a: b\n\tk v\n \t\n\tkey value\n", 4),
        ("a: b\nkey value\n", 2),
        ("a: b\n\tk v\n# comment\n", 3),
        ("# remote: x\n", 1),
        ("a:\n", 1),
        (": b\n", 1),
        ("a: b\n\nx: y\n\na: b\n", 5),
    ],
)
def test_errors_name_file_and_line(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"^sample\.cfg:{line}: "):
        SectionConfig.parse(text, "sample.cfg")


def test_a_line_of_blanks_ends_a_section() -> None:
    config = SectionConfig.parse("a: 1\n\tk v\n \t\nb: 2\n", "sample.cfg")
    assert [(one.id, len(one.entries)) for one in config.sections] == [("1", 1), ("2", 0)]


def test_a_header_ends_the_section_before_it() -> None:
    config = SectionConfig.parse("a: 1\n\tk v\na: 2\n\tk w\n", "sample.cfg")
    assert [section.single("k") for section in config.sections] == ["v", "w"]


def test_only_newlines_end_lines() -> None:
    text = "a: 1\n\tcomment x\u2028y\x0bz\x85\n"
    assert SectionConfig.parse(text, "f").sections[0].single("comment") == "x\u2028y\x0bz\x85"


def test_a_missing_file_has_no_entries(tmp_path: Path) -> None:
    assert SectionConfig.load(tmp_path / "none.cfg").sections == ()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"reading .*Is a directory"):
        SectionConfig.load(tmp_path)


def test_bytes_that_are_no_utf8_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "remote.cfg"
    path.write_bytes(b"remote: x\n\tpassword s3cret\xff\n")
    with pytest.raises(ConfigError, match=r"remote\.cfg:2: not UTF-8") as caught:
        SectionConfig.load(path)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_no_value_in_reprs_and_errors() -> None:
    config = SectionConfig.parse("remote: x\n\tpassword s3cret\n", "f")
    assert "s3cret" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        SectionConfig.parse("remote: x\npassword s3cret\n", "f")
    assert "s3cret" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_a_config_error(text: str) -> None:
    try:
        SectionConfig.parse(text, "f")
    except ConfigError as error:
        problem = str(error)
    else:
        return
    assert problem.startswith("f:")


_WORD = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
_VALUE = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"])).map(
    lambda text: text.strip(" \t")
)
_SECTIONS = st.dictionaries(
    st.tuples(_WORD, _VALUE.filter(bool)), st.lists(st.tuples(_WORD, _VALUE)), max_size=4
)


@given(_SECTIONS, st.sampled_from(["\t", "  "]), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(
    sections: dict[tuple[str, str], list[tuple[str, str]]], indent: str, end: str
) -> None:
    text = end.join(
        f"{kind}: {name}{end}" + "".join(f"{indent}{key} {value}{end}" for key, value in entries)
        for (kind, name), entries in sections.items()
    )
    config = SectionConfig.parse(text, "f")
    assert {
        (s.type, s.id): [(e.key, e.value) for e in s.entries] for s in config.sections
    } == sections
