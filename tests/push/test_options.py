"""Options of the library: wrong ones are refused at once, plain texts are taken."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from pbs_push import GroupFilter, GroupFilters, Namespace, PushOptions
from pbs_push.errors import ConfigError
from pbs_push.push.options import OPTIONS
from pbs_push.push.removal_limit import MaxRemovals

WRONG: dict[str, list[object]] = {
    "source_namespace": [None, 7, "a//b", ("a",)],
    "target_namespace": [b"a", "a/" * 9],
    "max_depth": ["1", 8, -1, True, 1.0],
    "group_filters": [7, "vm", ["type:xx"], [7], None],
    "transfer_last": [0, "3", 2.5],
    "encrypted_only": [1, "yes", None],
    "verified_only": ["no"],
    "parallel": [0, 65, "auto", True],
    "remove_vanished": ["false", 0],
    "allow_empty_source": [None],
    "max_removals": [-1, "ten", "101%", "-1%", "%", True, 1.5, b"1"],
    "sync_metadata": [1],
    "sync_protected": [[]],
    "protect_source": [1, "on"],
    "skip_damaged": ["x"],
    "verify_source": [1, "yes"],
    "rate_out": [0, "10MiB", 1e6],
    "burst_out": [0],
    "bwlimit": [0, -1, True, 1.5, "", "10 chunks", "25:00-26:00 1MiB", "else"],
    "rate_file": [7, "", b"x"],
    "read_ahead": [0, 257, None],
    "buffer_bytes": [0, "1"],
    "chunk_order": ["disk", None, 1],
    "lock_wait_s": [-1, "1m", None],
    "retries": [-1, 1.5, "many"],
    "retry_for_s": [-1, "30m", None],
    "max_duration_s": [-1, "6h"],
    "keep_last": [0, "1"],
    "keep_hourly": [0],
    "keep_daily": [-1],
    "keep_weekly": [1.5],
    "keep_monthly": [True],
    "keep_yearly": ["x"],
    "since": [-1, "2026-11-01"],
    "newer_than_s": [-1, "30d"],
    "estimate": [1],
    "checkpoint": [None, 16, "90", "4 chunks"],
    "congestion_control": [1, "nosuch", "x" * 40],
    "encryption_key": [b"x" * 32, "key"],
    "access": [None, "root@pam"],
    "source_name": [7],
    "remote_name": [b"x"],
}


def test_every_option_has_a_check_and_a_test() -> None:
    names = {field.name for field in fields(PushOptions)}
    assert names == set(OPTIONS) == set(WRONG)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_wrong_values_are_refused_at_once(name: str, value: object) -> None:
    needed = OPTIONS[name].needs
    more: dict[str, Any] = {needed: True if needed == "remove_vanished" else 1} if needed else {}
    with pytest.raises(ConfigError):
        PushOptions(**{name: value, **more})


def test_a_value_in_a_wrong_place_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        PushOptions(parallel="s3cr3t-of-the-token")  # type: ignore[arg-type]
    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value) == "parallel: must be a whole number, and not of type str"


def test_texts_are_taken_where_they_are_plain() -> None:
    made = PushOptions(
        source_namespace="a/b", group_filters=["type:vm", GroupFilter.parse("type:ct")]
    )  # type: ignore[arg-type]
    assert made.source_namespace == Namespace.parse("a/b")
    assert [str(one) for one in made.group_filters.filters] == ["type:vm", "type:ct"]
    assert PushOptions(group_filters="type:vm").group_filters == GroupFilters(  # type: ignore[arg-type]
        (GroupFilter.parse("type:vm"),)
    )
    assert PushOptions(max_removals="10%", remove_vanished=True).max_removals == MaxRemovals(
        percent=10
    )  # type: ignore[arg-type]
    assert PushOptions(lock_wait_s=0) is not None
    limited = PushOptions(bwlimit="10MiB", rate_file="/run/rate")  # type: ignore[arg-type]
    assert limited.bwlimit is not None
    assert (limited.bwlimit.otherwise, str(limited.rate_file)) == (10 << 20, "/run/rate")
    assert PushOptions(bwlimit=4096).bwlimit == PushOptions(bwlimit="4096").bwlimit  # type: ignore[arg-type]
