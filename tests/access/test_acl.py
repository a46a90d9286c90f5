"""The access control list: answers of a real PBS, and the rules of protocol/access.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.acl import ALL_PRIVILEGES, ROLES, Acl
from pbs_push.access.paths import datastore_path, encryption_key_path, remote_path
from pbs_push.errors import AccessError, ConfigError
from pbs_push.names import ROOT, AuthId, Namespace

ANN = AuthId("ann@pbs")
TOKEN = AuthId("ann@pbs", "sync")


@pytest.fixture(scope="module")
def real(fixtures_dir: Path) -> dict[str, Any]:
    """The answers of a real PBS about ``acl.cfg``."""
    table: dict[str, Any] = json.loads((fixtures_dir / "config/permissions.json").read_text())
    return table


@pytest.fixture(scope="module")
def real_acl(fixtures_dir: Path) -> Acl:
    return Acl.load(fixtures_dir / "config/acl.cfg")


def test_roles_are_those_of_a_real_pbs(real: dict[str, Any]) -> None:
    assert {role["roleid"]: frozenset(role["privs"]) for role in real["roles"]} == ROLES


def test_every_answer_for_a_path(real: dict[str, Any], real_acl: Acl) -> None:
    rows = [row for row in real["answers"] if row["status"] == 200 and row["path"] is not None]
    assert len(rows) == 20 * 36
    for row in rows:
        held = real_acl.privileges(AuthId.parse(row["auth-id"]), row["path"])
        expected = row["data"].get(row["path"], {})
        assert held == expected, (row["auth-id"], row["path"])


def test_every_answer_without_a_path(real: dict[str, Any], real_acl: Acl) -> None:
    rows = [row for row in real["answers"] if row["path"] is None]
    listed = {path for row in rows for path in row["data"]}
    assert len(rows) == 20
    for row in rows:
        auth_id = AuthId.parse(row["auth-id"])
        held = {path: real_acl.privileges(auth_id, path) for path in listed}
        assert {path: found for path, found in held.items() if found} == row["data"]


def _may(text: str, path: str, who: AuthId = ANN) -> dict[str, bool]:
    return Acl.parse(text, "acl.cfg").privileges(who, path)


AUDIT, READ = {"Datastore.Audit": True}, {"Remote.Audit": True, "Remote.Read": True}


@pytest.mark.parametrize(
    ("text", "path", "held"),
    [
        # the root is a node, too; what propagates holds below, past the end of the tree as well
        ("acl:1:/:ann@pbs:DatastoreAudit", "/", AUDIT),
        ("acl:1:/:ann@pbs:DatastoreAudit", "/datastore/a/b", AUDIT),
        ("acl:0:/:ann@pbs:DatastoreAudit", "/", {"Datastore.Audit": False}),
        ("acl:0:/:ann@pbs:DatastoreAudit", "/datastore", {}),
        # entries on a node replace what was collected above
        ("acl:1:/:ann@pbs:DatastoreAudit\nacl:1:/a:ann@pbs:RemoteSyncOperator", "/a/b", READ),
        # NoAccess among them leaves nothing, in whatever order
        ("acl:1:/:ann@pbs:DatastoreAudit\nacl:1:/a:ann@pbs:NoAccess", "/a/b", {}),
        ("acl:1:/a:ann@pbs:DatastoreAudit,NoAccess", "/a", {}),
        ("acl:1:/a:ann@pbs:NoAccess\nacl:1:/a:ann@pbs:DatastoreAudit", "/a", {}),
        # and below it a new entry counts again
        ("acl:1:/a:ann@pbs:NoAccess\nacl:1:/a/b:ann@pbs:DatastoreAudit", "/a/b", AUDIT),
        # on the way only propagating entries count; a node without such changes nothing
        ("acl:1:/:ann@pbs:DatastoreAudit\nacl:0:/a:ann@pbs:NoAccess", "/a/b", AUDIT),
        ("acl:1:/:ann@pbs:DatastoreAudit\nacl:0:/a:ann@pbs:NoAccess", "/a", {}),
        ("acl:1:/a:ann@pbs:DatastoreAudit\nacl:0:/a:ann@pbs:NoAccess", "/a/b", AUDIT),
        # on the last node all count, together
        (
            "acl:1:/a:ann@pbs:DatastoreAudit\nacl:0:/a:ann@pbs:DatastoreBackup",
            "/a",
            {"Datastore.Audit": True, "Datastore.Backup": False},
        ),
        # a privilege of two roles propagates if one of them does
        ("acl:1:/a:ann@pbs:RemoteSyncOperator\nacl:0:/a:ann@pbs:RemoteAudit", "/a", READ),
        # same path, identity and role: the last PROPAGATE holds
        ("acl:0:/a:ann@pbs:DatastoreAudit\nacl:1:/a:ann@pbs:DatastoreAudit", "/a/b", AUDIT),
        ("acl:1:/a:ann@pbs:DatastoreAudit\nacl:0:/a:ann@pbs:DatastoreAudit", "/a/b", {}),
        # others' entries, and those of groups, mean nothing
        ("acl:1:/:bob@pbs,@ann,@ann@pbs:Admin", "/", {}),
        ("acl:1:/:ann@pbs!sync:Admin", "/", {}),
        # empty components are dropped, in the file and in the question
        ("acl:1://a//b/:ann@pbs:DatastoreAudit", "/a/b", AUDIT),
        ("acl:1:/a/b:ann@pbs:DatastoreAudit", "//a/b//", AUDIT),
        # a component is compared as a whole
        ("acl:1:/a:ann@pbs:DatastoreAudit", "/ab", {}),
        # blanks around lines and items
        ("\n  acl:1:/a: bob@pbs , ann@pbs : DatastoreAudit , NoAccess \n\n", "/a", {}),
        ("  acl:1:/a: bob@pbs , ann@pbs : DatastoreAudit \r\n", "/a", AUDIT),
        ("acl:1:/:ann@pbs:TapeReader", "/", {"Tape.Audit": True, "Tape.Read": True}),
    ],
)
def test_walk(text: str, path: str, held: Mapping[str, bool]) -> None:
    assert _may(text, path) == held


def test_a_token_has_what_both_it_and_its_user_have() -> None:
    user = "acl:1:/:ann@pbs:DatastoreReader\n"
    own = "acl:0:/a:ann@pbs!sync:DatastoreAdmin\n"
    assert _may(user, "/a", TOKEN) == {}
    assert _may(own, "/a", TOKEN) == {}
    assert _may(user + own, "/a", TOKEN) == {
        "Datastore.Audit": False,
        "Datastore.Read": False,
        "Datastore.Verify": False,
    }
    assert _may(user + own, "/a", AuthId("ann@pbs", "other")) == {}


def test_root_has_all_without_entries_but_its_tokens_need_some() -> None:
    assert _may("acl:1:/:root@pam:NoAccess", "/x", ROOT) == dict.fromkeys(ALL_PRIVILEGES, True)
    assert _may("", "/x", AuthId("root@pam", "t")) == {}
    assert _may("acl:1:/:root@pam!t:DatastoreAudit", "/x", AuthId("root@pam", "t")) == AUDIT
    assert len(ALL_PRIVILEGES) == 23


def test_check_names_what_lacks() -> None:
    acl = Acl.parse("acl:1:/a:ann@pbs:RemoteSyncPushOperator", "acl.cfg")
    push, prune, modify = (f"Remote.Datastore{name}" for name in ("Backup", "Prune", "Modify"))
    acl.check(ANN, (push,), "/a")
    acl.check(ANN, (prune, push), "/a", partial=True)
    with pytest.raises(AccessError) as caught:
        acl.check(ANN, (push, prune, modify), "/a/b")
    assert str(caught.value) == f"missing permissions '{prune}&{modify}' on '/a/b'"
    with pytest.raises(AccessError) as caught:
        acl.check(ANN, (prune, modify), "/a/b", partial=True)
    assert str(caught.value) == f"missing permissions '{prune}|{modify}' on '/a/b'"


@pytest.mark.parametrize(
    "line",
    [
        "acl:1:/:ann@pbs",
        "acl:1:/:ann@pbs:Audit:x",
        "user:1:/:ann@pbs:Audit",
        "acl:2:/:ann@pbs:Audit",
        "acl::/:ann@pbs:Audit",
        "acl:1:/:ann:Audit",
        "acl:1:/::Audit",
        "acl:1:/:ann@pbs:",
        "acl:1:/:ann@pbs:Owner",
        "acl:1:/:@group:Owner",
        "# comment",
    ],
)
def test_errors_name_file_and_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^acl\.cfg:3: "):
        Acl.parse(f"acl:1:/:ann@pbs:Audit\n\n{line}\n", "acl.cfg")


def test_an_unknown_role_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown role 'Owner'"):
        Acl.parse("acl:1:/:ann@pbs:Owner", "acl.cfg")


def test_a_missing_file_has_no_entries(tmp_path: Path) -> None:
    assert Acl.load(tmp_path / "acl.cfg").privileges(ANN, "/") == {}


def test_paths() -> None:
    namespace = Namespace.parse("a/b")
    assert datastore_path("store", Namespace()) == "/datastore/store"
    assert datastore_path("store", namespace) == "/datastore/store/a/b"
    assert remote_path("offsite", "store", Namespace()) == "/remote/offsite/store"
    assert remote_path("offsite", "store", namespace) == "/remote/offsite/store/a/b"
    assert encryption_key_path("key1") == "/system/encryption-keys/key1"


@given(st.text() | st.lists(st.text()).map(":".join).map("acl:".__add__))
def test_any_text_is_read_or_a_config_error(text: str) -> None:
    try:
        Acl.parse(text, "f").privileges(ANN, text)
    except ConfigError as error:
        problem = str(error)
    else:
        return
    assert problem.startswith("f:")


_COMPONENTS = st.lists(st.sampled_from("ab"), max_size=3).map(tuple)
_IDENTITIES = st.sampled_from([ANN, TOKEN, AuthId("bob@pbs")])
_ENTRIES = st.tuples(
    st.booleans(), _COMPONENTS, _IDENTITIES, st.sampled_from(["NoAccess", *sorted(ROLES)])
)
_Entry = tuple[bool, tuple[str, ...], AuthId, str]


def _walked(entries: list[_Entry], who: AuthId, path: tuple[str, ...]) -> set[str]:
    """The rules once more, the slow way: the last node with anything that counts decides."""
    if who.is_token:
        own = _walked_alone(entries, who, path)
        return own & _walked_alone(entries, AuthId(who.user), path)
    return _walked_alone(entries, who, path)


def _walked_alone(entries: list[_Entry], who: AuthId, path: tuple[str, ...]) -> set[str]:
    final = {(node, role): flag for flag, node, identity, role in entries if identity == who}
    for depth in range(len(path), -1, -1):
        roles = {
            role
            for (node, role), flag in final.items()
            if node == path[:depth] and (flag or depth == len(path))
        }
        if roles:
            return set() if "NoAccess" in roles else set().union(*(ROLES[role] for role in roles))
    return set()


@given(st.lists(_ENTRIES, max_size=8), _IDENTITIES, _COMPONENTS)
def test_walk_fits_a_second_reading_of_the_rules(
    entries: list[_Entry], who: AuthId, path: tuple[str, ...]
) -> None:
    text = "\n".join(
        f"acl:{int(flag)}:/{'/'.join(node)}:{identity}:{role}"
        for flag, node, identity, role in entries
    )
    held = Acl.parse(text, "f").privileges(who, "/" + "/".join(path))
    assert held.keys() == _walked(entries, who, path)
