"""Answers as values: taken as they are, with pydantic deciding where they are not as expected."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from pbs_push.errors import ProtocolError
from pbs_push.remote.models import (
    DeleteStatistics,
    GroupItem,
    NamespaceItem,
    SnapshotItem,
    StatusAnswer,
    VersionAnswer,
)
from pbs_push.remote.reading import read

KINDS: list[Any] = [
    VersionAnswer,
    list[NamespaceItem],
    list[GroupItem],
    list[SnapshotItem],
    DeleteStatistics,
    StatusAnswer,
]
GROUP = {"backup-type": "vm", "backup-id": "100", "owner": "a@pbs", "files": ["a.fidx"]}
SNAPSHOT = {
    "backup-type": "vm",
    "backup-id": "100",
    "backup-time": 1,
    "files": [{"filename": "a.fidx", "crypt-mode": "none", "size": 5}],
    "size": 5,
    "verification": {"state": "ok", "upid": "U"},
    "comment": None,
}

KEYS = sorted({key for one in (GROUP, SNAPSHOT) for key in one} | {"ns", "version", "last-backup"})
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2**70)
    | st.sampled_from([1.0, 1.5, "1", "true", "vm", "\ud800", "é", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["filename", "size", "state", "crypt_mode", "x"]), inner)
    ),
    max_leaves=4,
)
CHANGES = st.dictionaries(
    st.sampled_from([*KEYS, *(key.replace("-", "_") for key in KEYS), "new"]), VALUES, max_size=3
)


def by_pydantic(kind: Any, data: Any) -> Any:
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError:
        return ProtocolError


def by_us(kind: Any, data: Any) -> Any:
    try:
        return read(kind, data, "asked")
    except ProtocolError:
        return ProtocolError


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(changes=CHANGES, base=st.sampled_from([GROUP, SNAPSHOT, {"ns": "a"}, {}]))
@example(changes={}, base=GROUP)
@example(changes={}, base=SNAPSHOT)
@example(changes={"backup_id": "7"}, base=GROUP)
@example(changes={"backup-id": "\ud800"}, base=GROUP)
@example(changes={"last-backup": True}, base=GROUP)
@example(changes={"protected": 1}, base=SNAPSHOT)
def test_what_is_read_is_what_pydantic_makes_of_it(
    kind: Any, changes: dict[str, Any], base: dict[str, Any]
) -> None:
    item = {**base, **changes}
    for data in (item, [item], [base, item]):
        assert repr(by_us(kind, data)) == repr(by_pydantic(kind, data))


@given(data=VALUES, kind=st.sampled_from(KINDS))
def test_any_json_is_a_value_or_an_error_of_ours(data: Any, kind: Any) -> None:
    assert repr(by_us(kind, data)) == repr(by_pydantic(kind, data))


def test_an_error_says_where() -> None:
    with pytest.raises(ProtocolError) as caught:
        read(list[GroupItem], [GROUP, {**GROUP, "backup-id": 7}], "groups of root")
    assert str(caught.value) == (
        "groups of root: the answer cannot be understood "
        "(1.backup-id: Input should be a valid string)"
    )


@pytest.mark.parametrize(
    ("kind", "data", "needed"),
    [
        ("VersionAnswer", {"version": "4.2", "release": "3", "repoid": "x"}, False),
        ("NamespaceItem", {"ns": "a"}, False),
        ("GroupItem", GROUP, False),
        ("SnapshotItem", SNAPSHOT, False),
        ("GroupItem", {**GROUP, "last-backup": "5"}, True),
    ],
)
def test_pydantic_is_imported_only_for_what_is_odd(
    kind: str, data: dict[str, Any], needed: bool
) -> None:
    program = (
        "import json, sys\n"
        "from pbs_push.remote import models, reading\n"
        "reading.read(getattr(models, sys.argv[1]), json.loads(sys.argv[2]), 'asked')\n"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, kind, json.dumps(data)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{needed}\n"
