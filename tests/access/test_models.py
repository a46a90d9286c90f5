"""Remotes, datastores, users, keys and jobs: what their sections mean."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pbs_push.access.datastores import DatastoreConfig
from pbs_push.access.jobs import JobKind, SyncJob
from pbs_push.access.keys_config import SyncKey
from pbs_push.access.model import ConfigModel
from pbs_push.access.remotes import Remote
from pbs_push.access.sections import SectionConfig
from pbs_push.access.users import Users
from pbs_push.errors import ConfigError
from pbs_push.names import ROOT, AuthId, Group, Namespace

_Model = TypeVar("_Model", bound=ConfigModel)


def _read(model: type[_Model], header: str, *lines: str) -> _Model:
    text = "".join([f"{header}\n", *(f"\t{line}\n" for line in lines)])
    return model.from_section(SectionConfig.parse(text, "x.cfg").sections[0])


def _remote(*lines: str) -> Remote:
    base = {"host": "pbs.example.org", "auth-id": "sync@pbs", "password": "czNjcmV0"}
    given_keys = {line.partition(" ")[0] for line in lines}
    rest = [f"{key} {value}" for key, value in base.items() if key not in given_keys]
    return _read(Remote, "remote: offsite", *lines, *rest)


def _job(*lines: str) -> SyncJob:
    return _read(SyncJob, "sync: j1", "store source", "remote-store target", *lines)


def _store(*lines: str) -> DatastoreConfig:
    return _read(DatastoreConfig, "datastore: main", *lines)


# what all models share


def test_unknown_keys_are_kept_even_if_they_repeat() -> None:
    remote = _remote("new-list a", "new-list b", "name c", "unknown d")
    assert remote.name == "offsite"
    assert remote.unknown == (
        ("new-list", "a"), ("new-list", "b"), ("name", "c"), ("unknown", "d"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["port 0"], r"^x\.cfg:2: remote 'offsite': key 'port': .*greater than or equal to 1"),
        (["comment c", "port many"], r"^x\.cfg:3: .*key 'port': 'many' is not a whole number"),
        (["port 65536"], "key 'port'"),
        (["auth-id sync"], "key 'auth-id': 'sync' is not a user"),
        (["fingerprint ab:cd"], "key 'fingerprint': a fingerprint is 32 bytes"),
        (["host [::1]"], "key 'host': .*IPv6 without brackets"),
        (["host a b"], "key 'host'"),
        (["comment a", "comment b"], r"^x\.cfg:3: .*key 'comment' stands here again"),
    ],
)
def test_errors_name_file_line_and_key(lines: list[str], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        _remote(*lines)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^x\.cfg:1: remote 'r': key 'auth-id' is missing"):
        _read(Remote, "remote: r", "host h")


# remotes


def test_remote() -> None:
    secret = "fake p:ss\\wörd#1"
    remote = _remote(
        f"password {base64.b64encode(secret.encode()).decode()}",
        "auth-id sync@pbs!push",
        "host 2001:db8::7",
        "port 8443",
        "fingerprint " + ":".join(["AB"] * 32),
        "comment off site",
    )
    assert remote.password.get_secret_value() == secret
    assert remote.auth_id == AuthId("sync@pbs", "push")
    assert remote.fingerprint == b"\xab" * 32
    assert str(remote.repository("store")) == "sync@pbs!push@[2001:db8::7]:8443:store"
    assert pickle.loads(pickle.dumps(remote)) == remote  # noqa: S301


def test_remote_defaults() -> None:
    remote = _remote()
    assert (remote.port, remote.fingerprint, remote.comment) == (8007, None, None)


def test_no_form_of_a_remote_shows_its_secret() -> None:
    remote = _remote("other s3cret")
    shown = f"{remote} {remote!r} {remote.password}"
    assert "s3cret" not in shown
    assert "czNjcmV0" not in shown


@pytest.mark.parametrize("value", ["plain-s3cret", "c3cret=", "/w==", "czNjcmV0 ", "ümlaut"])
def test_a_bad_password_is_not_shown(value: str) -> None:
    value = value if value != "czNjcmV0 " else "czNj cmV0"
    with pytest.raises(ConfigError, match="key 'password': the value is not base64") as caught:
        _remote(f"password {value}")
    assert value not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_remote_made_in_code_does_not_show_its_secret_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Remote(name="r", host="h", auth_id=ROOT, password="plain-s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


# datastores


def test_readable_datastores() -> None:
    assert _store("path /srv/main").require_readable() == Path("/srv/main")
    for line in (
        "maintenance-mode read-only",
        "maintenance-mode type=read-only,message=disk check",
        "backend type=filesystem",
        "tuning chunk-order=none",
    ):
        assert _store("path /srv/main", line).require_readable() == Path("/srv/main")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["maintenance-mode offline"], "'offline' forbids"),
        (["maintenance-mode offline,message=gone%20fishing%21"], "'offline': gone fishing! forb"),
        (['maintenance-mode type=offline,message="a, b"'], "'offline': a, b forbids"),
        (["maintenance-mode delete"], "'delete' forbids"),
        (["maintenance-mode unmount"], "'unmount' forbids"),
        (["maintenance-mode s3-refresh"], "'s3-refresh' forbids"),
        (["maintenance-mode nap,message=x"], "'nap': x is unknown to this version"),
        (["backend type=s3,client=c,bucket=b"], "S3"),
        (["backend type=tape"], "'tape' is unknown"),
    ],
)
def test_unreadable_datastores(lines: list[str], reason: str) -> None:
    store = _store("path /srv/main", *lines)
    with pytest.raises(ConfigError, match=f"datastore 'main' cannot be read: .*{reason}"):
        store.require_readable()


def test_a_path_must_be_absolute() -> None:
    with pytest.raises(ConfigError, match="not absolute"):
        _store("path srv/main").require_readable()


@pytest.mark.parametrize("path", ["data/pbs", "/data/pbs"])
def test_removable_datastores(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(f"path {path}", "backing-device 1234-abcd")
    with pytest.raises(ConfigError, match=r"1234-abcd is not mounted at .*main"):
        store.require_readable(mount_root=tmp_path)
    monkeypatch.setattr("os.path.ismount", lambda place: place == tmp_path / "main")
    assert store.require_readable(mount_root=tmp_path) == tmp_path / "main/data/pbs"


def test_a_removable_datastore_stays_on_its_device() -> None:
    with pytest.raises(ConfigError, match="leaves the device"):
        _store("path data/../../x", "backing-device d").require_readable()


def test_a_malformed_mode_is_an_error_of_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^x\.cfg:3: .*key 'maintenance-mode'"):
        _store("path /srv", "maintenance-mode message=x")


# users

USERS = (
    "user: ann@pbs\n\tcomment x\n\temail a@example.org\n\n"
    "token: ann@pbs!on\n\n"
    "token: ann@pbs!off\n\tenable 0\n\n"
    "token: ann@pbs!old\n\texpire 1000\n\n"
    "user: off@pbs\n\tenable no\n\n"
    "token: off@pbs!on\n\n"
    "user: old@pbs\n\texpire 1000\n\n"
    "token: old@pbs!on\n\texpire 0\n\n"
    "token: gone@pbs!on\n\n"
    "user: bad@pbs\n\tenable maybe\n"
)


@pytest.mark.parametrize(
    ("who", "now", "problem"),
    [
        ("root@pam", 2000, None),
        ("ann@pbs", 2000, None),
        ("ann@pbs!on", 2000, None),
        ("old@pbs", 999, None),
        ("old@pbs!on", 999, None),
        ("ann@pbs!old", 999.5, None),
        ("old@pbs", 1000, "user 'old@pbs' has expired"),
        ("ann@pbs!old", 1000, "token 'ann@pbs!old' has expired"),
        ("old@pbs!on", 2000, "user 'old@pbs' has expired"),
        ("off@pbs", 2000, "user 'off@pbs' is disabled"),
        ("off@pbs!on", 2000, "user 'off@pbs' is disabled"),
        ("ann@pbs!off", 2000, "token 'ann@pbs!off' is disabled"),
        ("bob@pbs", 2000, "user 'bob@pbs' is unknown"),
        ("ann@pbs!none", 2000, "token 'ann@pbs!none' is unknown"),
        ("gone@pbs!on", 2000, "user 'gone@pbs' is unknown"),
        ("root@pam!t", 2000, "token 'root@pam!t' is unknown"),
        ("bad@pbs", 2000, r"user\.cfg:\d+: .*'enable': 'maybe'"),
    ],
)
def test_who_may_act(who: str, now: float, problem: str | None) -> None:
    users = Users.parse(USERS, "user.cfg")
    if problem is None:
        users.require_active(AuthId.parse(who), now)
        return
    with pytest.raises(ConfigError, match=problem):
        users.require_active(AuthId.parse(who), now)


def test_root_can_be_disabled_by_an_entry() -> None:
    users = Users.parse("user: root@pam\n\tenable false\n", "user.cfg")
    with pytest.raises(ConfigError, match="disabled"):
        users.require_active(ROOT, 0)


# encryption keys


def test_keys() -> None:
    key = _read(SyncKey, "sync-key: k1", "path /etc/k1.enc", "fingerprint " + "00" * 32, "kdf none")
    assert key.require_usable() == Path("/etc/k1.enc")
    assert key.fingerprint == bytes(32)
    for when in ("1795375947", "0"):
        archived = _read(SyncKey, "sync-key: k2", "path /etc/k2.enc", f"archived-at {when}")
        with pytest.raises(ConfigError, match="encryption key 'k2' is archived"):
            archived.require_usable()


# jobs


def test_job_defaults() -> None:
    job = _job()
    assert job.kind is JobKind.LOCAL_PULL
    assert (job.ns, job.remote_ns, job.owner) == (Namespace(), Namespace(), ROOT)
    assert (job.max_depth, job.transfer_last, job.worker_threads) == (None, None, None)
    assert (job.rate_out, job.burst_out, job.active_encryption_key) == (None, None, None)
    assert (job.remove_vanished, job.encrypted_only, job.verified_only) == (False, False, False)
    assert job.filters.accepts(Group("vm", "1"))


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["sync-direction push", "remote r"], JobKind.PUSH),
        (["sync-direction pull", "remote r"], JobKind.PULL),
        (["remote r"], JobKind.PULL),
        (["sync-direction pull"], JobKind.LOCAL_PULL),
    ],
)
def test_kinds(lines: list[str], kind: JobKind) -> None:
    assert _job(*lines).kind is kind


PUSH = ("sync-direction push", "remote offsite")


def test_a_push_job_with_all_that_can_be_honoured() -> None:
    job = _job(
        *PUSH, "ns a", "remote-ns b/c", "owner ann@pbs!t", "remove-vanished 1", "max-depth 7",
        "group-filter exclude:type:vm", "group-filter group:ct/1", "transfer-last 1",
        "encrypted-only yes", "verified-only on", "worker-threads 4", "rate-out 1.5 MB",
        "burst-out 3 MB", "active-encryption-key k1", "associated-key k1", "associated-key k2",
        "rate-in 1", "burst-in 2", "schedule daily", "comment c", "run-on-mount 1",
        "unmount-on-done 1", "resync-corrupt false",
    )  # fmt: skip
    assert job.require_push() == "offsite"
    assert job.unknown == ()
    assert (job.rate_out, job.burst_out) == (1_500_000, 3_000_000)
    assert job.associated_key == ("k1", "k2")
    assert job.owner == AuthId("ann@pbs", "t")
    assert [str(filter_) for filter_ in job.group_filter] == ["exclude:type:vm", "group:ct/1"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["remote r"], "it is a pull job"),
        ([], "it is a local pull job"),
        (["sync-direction push"], "no 'remote'"),
        ([*PUSH, "burst-out 1M"], "'burst-out' has no effect without 'rate-out'"),
        ([*PUSH, "prune-odd 1", "prune-odd 2", "new x", "crypt-2 x"], "have: prune-odd, crypt-2;"),
        ([*PUSH, "Remove-Orphans 1"], "does not have: Remove-Orphans;"),
    ],
)
def test_jobs_that_cannot_be_run(lines: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x\.cfg:\d: sync job 'j1' cannot be run: .*{reason}"):
        _job(*lines).require_push()


def test_settings_that_cannot_change_what_is_removed_or_encrypted_are_ignored_aloud() -> None:
    job = _job(*PUSH, "new-thing 1", "new-thing 2", "resync-corrupt 1")
    assert job.require_push() == "offsite"
    lines = [line.partition(": sync job 'j1': ")[2] for line in job.ignored]
    assert [line.partition(":")[0] for line in lines] == [
        "'new-thing' is ignored",
        "'resync-corrupt' is ignored",
    ]
    assert job.ignored[0].startswith("x.cfg:6: ")
    assert _job(*PUSH).ignored == []


def test_a_refused_setting_is_named_with_its_line() -> None:
    job = _job(*PUSH, "comment c", "burst-out 1M")
    assert str(job.place("burst-out")) == "x.cfg:7: "
    with pytest.raises(ConfigError, match=r"^x\.cfg:7: "):
        job.require_push()
    assert SyncJob(name="j", store="s", remote_store="r").place() == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sync-direction both", "'push' or 'pull'"),
        ("max-depth 8", "less than or equal to 7"),
        ("max-depth -1", "not a whole number"),
        ("transfer-last 0", "greater than or equal to 1"),
        ("ns /a", "namespace"),
        ("group-filter type:x", "vm, ct and host"),
        ("rate-out fast", "not a size"),
        ("remove-vanished maybe", "neither true"),
        ("owner ann", "not a user"),
        ("remote a/b", "not a valid name"),
    ],
)
def test_errors_in_jobs(line: str, reason: str) -> None:
    key = line.split(" ", maxsplit=1)[0]
    with pytest.raises(ConfigError, match=rf"^x\.cfg:4: sync 'j1': key '{key}': .*{reason}"):
        _job(line)


_BASES: dict[type[ConfigModel], list[str]] = {
    SyncJob: ["store source", "remote-store target"],
    Remote: ["host h", "auth-id a@b", "password eA=="],
    DatastoreConfig: ["path /srv"],
    SyncKey: ["path /etc/k.enc"],
}


@st.composite
def _sections(draw: st.DrawFn) -> tuple[type[ConfigModel], list[str]]:
    model = draw(st.sampled_from(list(_BASES)))
    keys = st.sampled_from([field.replace("_", "-") for field in model.model_fields])
    values = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
    return model, _BASES[model] + draw(st.lists(st.tuples(keys, values).map(" ".join)))


@given(_sections())
def test_any_lines_are_a_model_or_a_config_error(
    section: tuple[type[ConfigModel], list[str]],
) -> None:
    model, lines = section
    try:
        _read(model, "x: y", *lines)
    except ConfigError as error:
        problem = str(error)
    else:
        return
    assert problem.startswith("x.cfg:")
