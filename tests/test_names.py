"""Names: what is one, what is none, how they are written, and how they sort."""

from __future__ import annotations

import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pbs_push.errors import ConfigError, InvalidName
from pbs_push.names import (
    ROOT,
    AuthId,
    Group,
    Namespace,
    Repository,
    Snapshot,
    format_backup_time,
    format_fingerprint,
    is_host,
    is_safe_id,
    parse_backup_time,
    parse_fingerprint,
)

SAFE_IDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,11}", fullmatch=True)
NAMESPACES = st.lists(SAFE_IDS, max_size=7).map(lambda parts: Namespace(tuple(parts)))
GROUPS = st.builds(Group, st.sampled_from(["vm", "ct", "host"]), SAFE_IDS)
TIMES = st.integers(-62135596800, 253402300799)
AUTH_IDS = st.builds(
    lambda name, realm, token: AuthId(f"{name}@{realm}", token),
    st.from_regex(r"[a-z!.@äß+-]{1,8}", fullmatch=True).filter(
        lambda name: "@@" not in name and name[0] != "@" != name[-1]
    ),
    SAFE_IDS,
    st.none() | SAFE_IDS,
)

# safe ids


@pytest.mark.parametrize("text", ["a", "0", "_", "A.b-c_9", "a..b", "x" * 300])
def test_safe_ids(text: str) -> None:
    assert is_safe_id(text)


@pytest.mark.parametrize("text", ["", ".", "..", ".a", "-a", "a/b", "a b", "a\n", "ä", "a\0", "٣"])
def test_no_safe_ids(text: str) -> None:
    assert not is_safe_id(text)


# namespaces


def test_the_root_namespace() -> None:
    root = Namespace.parse("")
    assert root == Namespace()
    assert root.is_root
    assert (root.depth, str(root), root.disk_path, root.label) == (0, "", "", "root namespace")
    assert root.parent == root


def test_a_namespace() -> None:
    namespace = Namespace.parse("a/b")
    assert not namespace.is_root
    assert (namespace.depth, namespace.disk_path) == (2, "ns/a/ns/b")
    assert namespace.label == "namespace a/b"
    assert namespace.parent == Namespace.parse("a")
    assert namespace.child("c") == Namespace.parse("a/b/c")


@pytest.mark.parametrize(
    "text", ["/", "/a", "a/", "a//b", "a/../b", ".", "a b", "ä", "a\n", "1/2/3/4/5/6/7/8"]
)
def test_no_namespaces(text: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(f"namespace '{text}'")):
        Namespace.parse(text)


def test_the_length_of_a_namespace() -> None:
    assert len(str(Namespace.parse("/".join(["x" * 127, "y" * 128])))) == 256
    with pytest.raises(InvalidName, match="longer than 256"):
        Namespace.parse("/".join(["x" * 128, "y" * 128]))
    with pytest.raises(InvalidName):
        Namespace.parse("1/2/3/4/5/6/7").child("8")


def test_what_contains_what() -> None:
    root, a, ab, other = (Namespace.parse(text) for text in ("", "a", "a/b", "ab"))
    assert root.contains(root)
    assert root.contains(ab)
    assert a.contains(a)
    assert a.contains(ab)
    assert not ab.contains(a)
    assert not a.contains(other)


@pytest.mark.parametrize(
    ("namespace", "source", "target", "mapped"),
    [
        ("a/b/c", "a/b", "x", "x/c"),
        ("a/b", "a/b", "x", "x"),
        ("a/b", "a/b", "", ""),
        ("a/b", "", "x/y", "x/y/a/b"),
        ("", "", "", ""),
        ("a/a", "a", "a/a", "a/a/a"),
    ],
)
def test_mapping(namespace: str, source: str, target: str, mapped: str) -> None:
    anchors = Namespace.parse(source), Namespace.parse(target)
    assert str(Namespace.parse(namespace).mapped(*anchors)) == mapped


def test_what_cannot_be_mapped() -> None:
    with pytest.raises(InvalidName, match="'ab' is not below 'a'"):
        Namespace.parse("ab").mapped(Namespace.parse("a"), Namespace())
    with pytest.raises(InvalidName, match="8 levels, at most 7"):
        Namespace.parse("1/2/3/4/5/6/7").mapped(Namespace(), Namespace.parse("x"))


@given(NAMESPACES, NAMESPACES)
def test_mapping_there_and_back(namespace: Namespace, other: Namespace) -> None:
    anchor = namespace.parent
    try:
        there = namespace.mapped(anchor, other)
    except InvalidName:
        assert namespace.depth - anchor.depth + other.depth > 7
        return
    assert other.contains(there)
    assert there.mapped(other, anchor) == namespace


@given(NAMESPACES, NAMESPACES)
def test_namespaces_round_trip_and_parents_come_first(one: Namespace, two: Namespace) -> None:
    assert Namespace.parse(str(one)) == one
    if one.contains(two):
        assert one <= two
    assert (one < two) == (
        [c.encode() for c in one.components] < [*map(str.encode, two.components)]
    )


# groups


def test_groups() -> None:
    group = Group.parse("vm/100")
    assert (group.backup_type, group.backup_id, str(group)) == ("vm", "100", "vm/100")


@pytest.mark.parametrize(
    "text", ["", "vm", "vm/", "/100", "qemu/1", "VM/1", "vm/a/b", "vm/.a", "vm/a\n"]
)
def test_no_groups(text: str) -> None:
    with pytest.raises(InvalidName):
        Group.parse(text)


def test_natural_order() -> None:
    ordered = [
        "ct/200",
        "host/0",
        "host/9",
        "host/10",
        f"host/{2**64 - 1}",
        f"host/0000{2**64 - 1}x",
        f"host/{2**64}",
        "host/A",
        "host/_",
        "host/a",
        "host/a-b",
        "host/a.b",
        "vm/007",
        "vm/7",
        "vm/08",
        "vm/99",
        "vm/100",
        "vm/" + "0" * 6000 + "101",
        "vm/" + "1" * 6000,
        "vm/1a",
    ]
    groups = [Group.parse(text) for text in reversed(ordered)]
    assert [str(group) for group in sorted(groups)] == ordered


@given(GROUPS, GROUPS)
def test_groups_round_trip_and_their_order_is_total(one: Group, two: Group) -> None:
    assert Group.parse(str(one)) == one
    assert [one < two, one == two, one > two].count(True) == 1
    assert (one <= two) == (not two < one)


def test_a_group_compares_with_groups_only() -> None:
    with pytest.raises(TypeError):
        sorted([Group("vm", "1"), "vm/2"])  # type: ignore[type-var]


# times and snapshots


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T18:49:14Z", 1795373354),
        ("2024-02-29T23:59:59Z", 1709251199),
        ("1969-12-31T23:59:59Z", -1),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_times(text: str, epoch: int) -> None:
    assert parse_backup_time(text) == epoch
    assert format_backup_time(epoch) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.5Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01 00:00:00Z",
        "2026-1-1T00:00:00Z",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(f"'{text}'")):
        parse_backup_time(text)


@pytest.mark.parametrize("epoch", [-62135596801, 253402300800, 10**30, -(10**30)])
def test_times_out_of_range(epoch: int) -> None:
    with pytest.raises(InvalidName, match="not a backup time"):
        format_backup_time(epoch)
    with pytest.raises(InvalidName, match="not a backup time"):
        Snapshot(Group("vm", "1"), epoch)


@given(GROUPS, TIMES)
def test_snapshots_round_trip(group: Group, epoch: int) -> None:
    snapshot = Snapshot(group, epoch)
    assert Snapshot.parse(str(snapshot)) == snapshot
    assert str(snapshot) == f"{group}/{snapshot.time_text}"
    assert len(snapshot.time_text) == 20


@pytest.mark.parametrize(
    "text", ["", "vm/100", "vm/100/", "vm/2026-01-01T00:00:00Z", "vm/1/2/2026-01-01T00:00:00Z"]
)
def test_no_snapshots(text: str) -> None:
    with pytest.raises(InvalidName):
        Snapshot.parse(text)


def test_snapshots_sort_by_group_then_time() -> None:
    first = Snapshot(Group("vm", "99"), 5)
    second, third = (Snapshot(Group("vm", "100"), epoch) for epoch in (1, 2))
    assert sorted([third, second, first]) == [first, second, third]


# auth-ids


@pytest.mark.parametrize(
    ("text", "user", "token"),
    [
        ("root@pam", "root@pam", None),
        ("ann@pbs!sync", "ann@pbs", "sync"),
        ("ann@example.org@ldap", "ann@example.org@ldap", None),
        ("ann@example.org@ldap!t-1", "ann@example.org@ldap", "t-1"),
        ("a!b@pbs!c", "a!b@pbs", "c"),
        ("ümlaut@pbs", "ümlaut@pbs", None),
    ],
)
def test_auth_ids(text: str, user: str, token: str | None) -> None:
    auth_id = AuthId.parse(text)
    assert (auth_id.user, auth_id.token, auth_id.is_token) == (user, token, token is not None)
    assert str(auth_id) == text


@pytest.mark.parametrize(
    "text",
    ["", "root", "@pam", "root@", "root@pam!", "root@pam!a!b", "ro ot@pam", "ro:ot@pam",
     "ro/ot@pam", "root@p/m", "root@pam\n", "root@.pam", "root@pam!-t", "a@@pam", "a\0@pam"],
)  # fmt: skip
def test_no_auth_ids(text: str) -> None:
    with pytest.raises(InvalidName):
        AuthId.parse(text)


@given(AUTH_IDS)
def test_auth_ids_round_trip(auth_id: AuthId) -> None:
    assert AuthId.parse(str(auth_id)) == auth_id


def test_owning() -> None:
    user, token, other = (AuthId.parse(text) for text in ("a@pbs", "a@pbs!t", "a@pbs!u"))
    assert user.owns(user)
    assert user.owns(token)
    assert token.owns(token)
    assert not token.owns(user)
    assert not token.owns(other)
    assert not user.owns(ROOT)
    assert not ROOT.owns(user)


# repositories


@pytest.mark.parametrize(
    ("text", "auth_id", "host", "port", "store"),
    [
        ("store", "root@pam", "localhost", 8007, "store"),
        ("host:store", "root@pam", "host", 8007, "store"),
        ("host:8443:store", "root@pam", "host", 8443, "store"),
        ("ann@pbs@host:store", "ann@pbs", "host", 8007, "store"),
        ("ann@pbs!t@host:1:store", "ann@pbs!t", "host", 1, "store"),
        ("a@b.org@ldap@host:65535:store", "a@b.org@ldap", "host", 65535, "store"),
        ("192.0.2.7:store", "root@pam", "192.0.2.7", 8007, "store"),
        ("[2001:db8::7]:store", "root@pam", "2001:db8::7", 8007, "store"),
        ("ann@pbs@[::1]:8008:st-0.e_r", "ann@pbs", "::1", 8008, "st-0.e_r"),
        ("[pbs.example.org]:store", None, "", 0, ""),
        ("::1:store", None, "", 0, ""),
        ("[::1:store", None, "", 0, ""),
        ("[::1::2]:store", None, "", 0, ""),
        ("host:0:store", None, "", 0, ""),
        ("host:65536:store", None, "", 0, ""),
        ("host:x:store", None, "", 0, ""),
        ("host:٨٠:store", None, "", 0, ""),
        (":store", None, "", 0, ""),
        ("ann@pbs@:store", None, "", 0, ""),
        ("@host:store", None, "", 0, ""),
        ("ann@host:store", None, "", 0, ""),
        ("ho st:store", None, "", 0, ""),
        ("http://host:store", None, "", 0, ""),
        ("host:", None, "", 0, ""),
        ("host:st", None, "", 0, ""),
        ("host:" + "s" * 33, None, "", 0, ""),
        ("host:-store", None, "", 0, ""),
        ("host:a/b", None, "", 0, ""),
        ("", None, "", 0, ""),
    ],
)
def test_repositories(text: str, auth_id: str | None, host: str, port: int, store: str) -> None:
    if auth_id is None:
        with pytest.raises(InvalidName):
            Repository.parse(text)
        return
    repository = Repository.parse(text)
    assert repository == Repository(store, host, port, AuthId.parse(auth_id))
    assert Repository.parse(str(repository)) == repository


def test_the_network_location() -> None:
    assert Repository("store", "::1").netloc == "[::1]:8007"
    assert Repository("store", "pbs.example.org", 8443).netloc == "pbs.example.org:8443"


@pytest.mark.parametrize(
    "host",
    [
        "pbs",
        "pbs.example.org",
        "pbs.example.org.",
        "PBS_1",
        "192.0.2.7",
        "::1",
        "fe80::1",
        "münchen",
        "bücher.example",
        "xn--bcher-kva.example",
        "a" * 63,
        ".".join(["a" * 49] * 5) + ".abc",
    ],
)
def test_hosts(host: str) -> None:
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "[::1]", "a:b", "host:8007", "fe80::1%eth0", "::1\n"),
        *("a b", "a/b", "a@b", "a?b", "a#b", "a\0", "a\n", "a%62", "a*"),
        *(".", "..", "a..b", ".a", "-a", "a-", "a.-b", "a" * 64, "é" * 80, "ü..ü", "\u2028"),
        ".".join(["a" * 49] * 5) + ".abcd",
    ],
)
def test_no_hosts(host: str) -> None:
    assert not is_host(host)


STORES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{2,31}", fullmatch=True)
HOSTS = st.one_of(
    st.lists(
        st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9])?", fullmatch=True),
        min_size=1,
        max_size=4,
    ).map(".".join),
    st.ip_addresses().map(str),
)


@given(st.builds(Repository, STORES, HOSTS, st.integers(1, 65535), AUTH_IDS))
@example(Repository("store", "::ffff:192.0.2.7"))
def test_repositories_round_trip(repository: Repository) -> None:
    assert Repository.parse(str(repository)) == repository
    assert pickle.loads(pickle.dumps(repository)) == repository  # noqa: S301


# fingerprints


LINE = ":".join(["AB"] * 32)


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        "ab" * 32,
        f" {'AB' * 32}\n",
        f"sha256 Fingerprint={LINE}\n",
        f"SHA256 Fingerprint={LINE}",
        f"SHA-256 fingerprint: {LINE.lower()}",
        f"Fingerprint (sha256): {LINE.lower()}",
    ],
)
def test_fingerprints(text: str) -> None:
    assert parse_fingerprint(text) == b"\xab" * 32


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"SHA1 Fingerprint={LINE}",
        f"Fingerprint {LINE}",
        f"x sha256 Fingerprint={LINE}",
        "ab" * 31,
        "ab" * 33,
        ":".join(["ab"] * 31),
        "g" * 64,
        "ab::" + "ab" * 31,
    ],
)
def test_no_fingerprints(text: str) -> None:
    with pytest.raises(InvalidName, match="32 bytes in hex"):
        parse_fingerprint(text)


@given(st.binary(min_size=32, max_size=32))
def test_fingerprints_round_trip(digest: bytes) -> None:
    assert parse_fingerprint(format_fingerprint(digest)) == digest


# all of them


@given(st.text())
def test_any_text_is_a_name_or_an_invalid_name(text: str) -> None:
    for parse in (
        Namespace.parse,
        Group.parse,
        Snapshot.parse,
        AuthId.parse,
        Repository.parse,
        parse_fingerprint,
        parse_backup_time,
    ):
        try:
            parse(text)
        except InvalidName as error:
            assert isinstance(error, ConfigError)  # noqa: PT017


def test_a_secret_behind_a_token_name_is_not_shown() -> None:
    with pytest.raises(InvalidName) as caught:
        AuthId.parse("root@pam!push:hunter2")
    assert "hunter2" not in str(caught.value)
    assert "push" in str(caught.value)
