"""What is found in a datastore, and what is passed over."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from pbs_push.errors import ConfigError, SnapshotVanished, SourceError
from pbs_push.names import AuthId, Group, Namespace
from pbs_push.source import Datastore, SnapshotList

from .small_store import ROOT, SECOND, SmallStore


def test_what_is_no_datastore(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a directory: is the datastore mounted"):
        Datastore(tmp_path / "missing")
    with pytest.raises(SourceError, match="not a datastore"):
        Datastore(tmp_path)
    (tmp_path / ".chunks").touch()
    with pytest.raises(SourceError, match="not a datastore"):
        Datastore(tmp_path)


def test_a_link_instead_of_the_chunks_is_no_datastore(store: SmallStore, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".chunks").symlink_to(store.path / ".chunks")
    with pytest.raises(SourceError, match="not a datastore"):
        Datastore(tmp_path / "other")


def test_the_base_itself_may_be_a_link(store: SmallStore, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store.path)
    datastore = Datastore(tmp_path / "link")
    assert datastore.name == "store1"
    assert len(datastore.groups(ROOT)) == 1


def test_paths_and_name(store: SmallStore) -> None:
    datastore = Datastore(store.path)
    assert (datastore.path, datastore.chunk_path) == (store.path, store.path / ".chunks")
    assert datastore.name == "store1"
    assert Datastore(store.path, name="other").name == "other"
    assert pickle.loads(pickle.dumps(datastore)).groups(ROOT)  # noqa: S301


def test_namespaces_come_parents_first_in_order(store: SmallStore) -> None:
    for name in ("b/c", "a/x", "a/B", "a/b2", "z"):
        (store.path / Namespace.parse(name).disk_path).mkdir(parents=True)
    datastore = store.open()
    assert [str(found) for found in datastore.namespaces()] == [
        "", "a", "a/B", "a/b2", "a/x", "b", "b/c", "z",
    ]  # fmt: skip
    anchor = Namespace.parse("a")
    assert [str(found) for found in datastore.namespaces(anchor)] == ["a", "a/B", "a/b2", "a/x"]
    assert datastore.namespaces(anchor, 0) == [anchor]
    assert [str(found) for found in datastore.namespaces(ROOT, 1)] == ["", "a", "b", "z"]


def test_a_missing_anchor_is_an_error(store: SmallStore) -> None:
    anchor = Namespace.parse("no/where")
    for max_depth in (None, 0):
        with pytest.raises(ConfigError, match=r"has no namespace no/where.*pbs-push list"):
            store.open().namespaces(anchor, max_depth)
    with pytest.raises(SourceError, match=r"no/where.*: No such file"):
        store.open().groups(anchor)
    with pytest.raises(SourceError, match=r"no/where.*: No such file"):
        list(store.open().contents(anchor))


def test_folders_that_are_no_namespaces(store: SmallStore, tmp_path: Path) -> None:
    base = store.path / "ns"
    for name in (".hidden", "-dash", "sp ace", "good", "ü"):
        (base / name).mkdir(parents=True)
    os.mkdir(os.fsencode(base) + b"/\xff\xfe")  # noqa: PTH102 - no text is such a name
    (base / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (base / "link").symlink_to(tmp_path / "elsewhere")
    assert [str(found) for found in store.open().namespaces()] == ["", "good"]


def test_namespaces_below_the_deepest_level_are_passed_over(store: SmallStore) -> None:
    deep = store.path / "/".join(f"ns/{name}" for name in "abcdefgh")
    deep.mkdir(parents=True)
    assert str(store.open().namespaces()[-1]) == "a/b/c/d/e/f/g"


def test_a_link_instead_of_all_namespaces(store: SmallStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    (store.path / "ns").symlink_to(tmp_path / "elsewhere")
    assert store.open().namespaces() == [ROOT]
    with pytest.raises(SourceError):
        store.open().groups(Namespace.parse("a"))


def test_groups_in_natural_order(store: SmallStore) -> None:
    for name in ("vm/99", "vm/9", "vm/x", "ct/20", "host/10", "host/9", "host/a.b-c_d"):
        store.write("", name)
    assert [str(found.group) for found in store.open().groups(ROOT)] == [
        "ct/20", "host/9", "host/10", "host/a.b-c_d", "vm/9", "vm/99", "vm/100", "vm/x",
    ]  # fmt: skip


def test_folders_that_are_no_groups(store: SmallStore, tmp_path: Path) -> None:
    for name in ("vm/.hidden", "vm/sp ace", "ct/-x", "qemu/100", "lost+found", "vm/ü"):
        (store.path / name).mkdir(parents=True)
    (store.path / "host").touch()
    (store.path / "vm" / "7").touch()
    (store.path / "vm" / "8").symlink_to(store.path / "vm" / "100")
    assert [str(found.group) for found in store.open().groups(ROOT)] == ["vm/100"]


@pytest.mark.parametrize(
    ("content", "owner"),
    [
        (b"root@pam\n", "root@pam"),
        (b"push@pbs!tok", "push@pbs!tok"),
        (b"a@pbs\nb@pbs\n", "a@pbs"),
        (b"", None),
        (b"\nroot@pam\n", None),
        (b"nobody\n", None),
        (b"\xff@pam\n", None),
        (b"x" * 100_000, None),
        (None, None),
    ],
)
def test_owners(store: SmallStore, content: bytes | None, owner: str | None) -> None:
    path = store.path / "vm" / "100" / "owner"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    wanted = AuthId.parse(owner) if owner else None
    assert store.group().owner == wanted
    assert store.open().owner(ROOT, Group("vm", "100")) == wanted


def test_an_owner_file_that_is_none(store: SmallStore) -> None:
    path = store.path / "vm" / "100" / "owner"
    path.rename(path.with_name("other"))
    path.symlink_to("other")
    assert store.group().owner is None
    path.unlink()
    os.mkfifo(path)
    assert store.group().owner is None
    assert store.open().owner(ROOT, Group("vm", "7")) is None


def test_group_notes(store: SmallStore) -> None:
    group = store.group()
    assert store.open().group_notes(group) == "notes ä\nmore"
    notes = store.path / "vm" / "100" / "notes"
    notes.write_bytes(b"\xff")
    with pytest.raises(SourceError, match="notes of source group vm/100 are not UTF-8"):
        store.open().group_notes(group)
    assert store.open().group_notes(group, errors="replace") == "\ufffd"
    notes.unlink()
    assert store.open().group_notes(group) is None


def test_snapshots(store: SmallStore) -> None:
    found = store.open().snapshots(store.group())
    assert not found.odd
    first, second = found.snapshots
    assert first.snapshot.backup_time < second.snapshot.backup_time == SECOND.backup_time
    assert (first.protected, second.protected) == (True, False)
    assert first.finished
    assert first.label == "vm/100/2026-05-28T20:00:00Z"
    (store.folder / "index.json.blob").unlink()
    assert not store.open().snapshots(store.group()).snapshots[0].finished


def test_folders_that_are_no_snapshots(store: SmallStore) -> None:
    group = store.path / "vm" / "100"
    for name in ("2026-05-28T20:00:00", "2026-05-28T20:00:00.5Z", "2026-05-28 20:00:00Z", "tmp"):
        (group / name).mkdir()
    (group / "2026-05-27T20:00:00Z").touch()
    (group / "2026-05-26T20:00:00Z").symlink_to(group / SECOND.time_text)
    assert len(store.open().snapshots(store.group()).snapshots) == 2


def test_times_that_are_no_dates(store: SmallStore) -> None:
    group = store.path / "vm" / "100"
    for name in ("2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z"):
        (group / name).mkdir()
    found = store.open().snapshots(store.group())
    assert len(found.snapshots) == 2
    assert [name for name, _ in found.odd] == [
        "0000-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
    ]
    assert all("is not a date" in reason for _, reason in found.odd)


def test_an_empty_group(store: SmallStore) -> None:
    empty = store.path / "ct" / "5"
    empty.mkdir(parents=True)
    group = store.open().groups(ROOT)[0]
    assert store.open().snapshots(group).snapshots == ()


def test_a_group_gone_since_it_was_listed(store: SmallStore) -> None:
    group = store.group()
    (store.path / "vm" / "100").rename(store.path / "elsewhere")
    for call in (store.open().snapshots, store.open().group_notes):
        with pytest.raises(SnapshotVanished, match="source group vm/100 is gone"):
            call(group)


def test_a_group_that_became_a_link(store: SmallStore) -> None:
    group = store.group()
    (store.path / "vm" / "100").rename(store.path / "elsewhere")
    (store.path / "vm" / "100").symlink_to(store.path / "elsewhere")
    with pytest.raises(SnapshotVanished):
        store.open().snapshots(group)


def test_contents_are_groups_and_their_snapshots(store: SmallStore) -> None:
    for name in ("vm/99", "ct/20", "host/a"):
        store.write("", name)
    (store.path / "host/a/owner").unlink()
    (store.path / "vm/99/2026-13-01T00:00:00Z").mkdir()
    (store.folder / ".protected").touch()
    (store.folder / "index.json.blob").unlink()
    opened = store.open()
    expected = [(group, opened.snapshots(group)) for group in opened.groups(ROOT)]
    assert list(opened.contents(ROOT)) == expected
    assert len(expected) == 4


@pytest.mark.parametrize("becomes", ["nothing", "a link", "a file"])
def test_a_group_that_goes_while_the_contents_are_read(store: SmallStore, becomes: str) -> None:
    store.write("", "vm/200")
    contents = store.open().contents(ROOT)
    assert str(next(contents)[0].group) == "vm/100"
    path = store.path / "vm/200"
    moved = path.rename(store.path / "elsewhere")
    if becomes == "a link":
        path.symlink_to(moved)
    elif becomes == "a file":
        path.touch()
    group, found = next(contents)
    assert (str(group.group), group.owner) == ("vm/200", None)
    assert isinstance(found, SnapshotVanished)
    assert list(contents) == []


def test_links_are_found_where_data_should_be(store: SmallStore, tmp_path: Path) -> None:
    opened = store.open()
    store.write("a", "ct/1")

    def links_in(namespace: Namespace) -> list[str]:
        links: list[str] = []
        for group, found in opened.contents(namespace, links):
            assert isinstance(found, SnapshotList)
            links += [f"{group.group}/{name}" for name in found.links]
        return links

    assert links_in(ROOT) == links_in(Namespace.parse("a")) == []
    group = store.path / "vm/100"
    (group / "2026-05-30T20:00:00Z").symlink_to(tmp_path)
    (group / "other").symlink_to(tmp_path)
    (store.path / "vm/200").symlink_to(tmp_path)
    (store.path / "host").symlink_to(tmp_path)
    (store.path / "elsewhere").symlink_to(tmp_path)
    (store.path / "ns/b").symlink_to(tmp_path)
    (store.path / "ct").touch()
    assert set(links_in(ROOT)) == {
        "vm/100/2026-05-30T20:00:00Z", "vm/200", "host", "ns/b", "ct",
    }  # fmt: skip
    assert links_in(Namespace.parse("a")) == []


def test_whether_a_snapshot_has_a_file(store: SmallStore) -> None:
    opened, first = store.open(), store.first()
    assert opened.has_file(first, "some.conf.blob")
    assert not opened.has_file(first, "client.log.blob")
    (store.folder / "client.log.blob").symlink_to("some.conf.blob")
    assert not opened.has_file(first, "client.log.blob")


def test_archive_names(store: SmallStore) -> None:
    for name in ("disk.tmp_fidx", "x.fidx.bak", ".hidden.blob", "sub.blob"):
        (store.folder / name).touch()
    (store.folder / "sub.blob").unlink()
    (store.folder / "sub.blob").mkdir()
    assert store.open().archive_names(store.first()) == [
        "disk.img.fidx",
        "index.json.blob",
        "root.pxar.didx",
        "some.conf.blob",
    ]


def test_a_namespace_in_messages(store: SmallStore) -> None:
    store.write("a/b", "ct/1")
    (group,) = store.open().groups(Namespace.parse("a/b"))
    assert group.label == "ct/1 in namespace a/b"
    assert group.disk_path == "ns/a/ns/b/ct/1"
    (snapshot,) = store.open().snapshots(group).snapshots
    assert snapshot.disk_path == "ns/a/ns/b/ct/1/2026-05-28T20:00:00Z"
    assert snapshot.label == "ct/1/2026-05-28T20:00:00Z in namespace a/b"
