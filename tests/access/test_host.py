"""The configuration of a host as a whole, and the rights of its users."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbs_push.access import host as host_module
from pbs_push.access.acl import Acl
from pbs_push.access.host import HostConfig
from pbs_push.access.jobs import JobKind
from pbs_push.access.rights import Access
from pbs_push.errors import AccessError, ConfigError
from pbs_push.names import ROOT, AuthId, Group, Namespace

ANN = AuthId("ann@pbs")
NS = Namespace.parse("a/b")


@pytest.fixture
def real(fixtures_dir: Path) -> HostConfig:
    return HostConfig.load(fixtures_dir / "config")


# samples of a real PBS


def test_real_datastores(real: HostConfig) -> None:
    assert real.datastore("fixsrc").require_readable() == Path("/srv/pbs/fixsrc")
    assert real.datastore("fixmaint").require_readable() == Path("/srv/pbs/fixmaint")
    assert real.datastore("fixmaint").comment == 'Ümlaut, "quoted" comment'
    with pytest.raises(ConfigError, match="'offline': gone fishing"):
        real.datastore("fixoff").require_readable()
    with pytest.raises(ConfigError, match="there: fixdst, fixmaint, fixoff, fixsrc"):
        real.datastore("none")


def test_real_remotes(real: HostConfig) -> None:
    remote = real.remote("fixremote")
    assert (remote.host, remote.port, str(remote.auth_id)) == (
        "pbs.example.org", 8443, "sync@pbs!push",
    )  # fmt: skip
    assert remote.fingerprint == bytes.fromhex("0123456789abcdef" * 4)
    assert remote.password.get_secret_value() == "fake-remote-secret"
    other = real.remote("otherremote")
    assert (other.host, other.port, other.fingerprint) == ("2001:db8::7", 8007, None)
    assert other.password.get_secret_value() == "fake p:ss\\wörd#1"


def test_real_jobs(real: HostConfig) -> None:
    jobs = {name: real.job(name) for name in real.job_names()}
    assert {name: job.kind for name, job in jobs.items()} == {
        "fixpush-1": JobKind.PUSH,
        "fixpush-2": JobKind.PUSH,
        "fixpull-1": JobKind.PULL,
        "fixpull-local": JobKind.LOCAL_PULL,
    }
    assert all(job.unknown == () for job in jobs.values())
    first = real.job("fixpush-1")
    assert first == jobs["fixpush-1"]
    assert first.require_push() == "fixremote"
    assert first.model_dump(exclude={"name", "unknown", "sync_direction", "group_filter"}) == {
        "store": "fixsrc",
        "ns": "a",
        "remote": "fixremote",
        "remote_store": "offsite",
        "remote_ns": "mirror/site1",
        "owner": "root@pam",
        "remove_vanished": True,
        "max_depth": 3,
        "transfer_last": 5,
        "encrypted_only": False,
        "verified_only": True,
        "worker_threads": 4,
        "rate_out": 1_500_000,
        "burst_out": 3_000_000,
        "active_encryption_key": "fixsynckey",
        "associated_key": ("fixoldkey", "fixsynckey"),
        "rate_in": 20 << 20,
        "burst_in": 40 << 20,
        "schedule": "sat 18:15",
        "comment": "Fixture push job, many options",
        "run_on_mount": False,
        "unmount_on_done": False,
        "resync_corrupt": False,
    }
    accepted = {name: first.filters.accepts(Group.parse(name)) for name in _GROUPS}
    assert accepted == _GROUPS
    second = real.job("fixpush-2")
    assert (second.max_depth, second.encrypted_only, second.run_on_mount) == (0, True, True)
    assert second.unmount_on_done
    assert second.require_push() == second.remote
    pull = real.job("fixpull-1")
    assert (pull.owner, pull.resync_corrupt) == (AuthId("push@pbs", "tok1"), True)
    with pytest.raises(ConfigError, match="it is a pull job"):
        pull.require_push()


_GROUPS = {"vm/100": True, "host/alpha": True, "host/enc": False, "ct/200": False, "ct/9": False}


def test_real_keys(real: HostConfig) -> None:
    key = real.encryption_key("fixsynckey")
    assert key.require_usable() == Path("/etc/proxmox-backup/encryption-keys/fixsynckey.enc")
    assert key.fingerprint is not None
    assert key.fingerprint.hex().startswith("6bd11f06ad8e")
    with pytest.raises(ConfigError, match="archived"):
        real.encryption_key("fixoldkey").require_usable()


@pytest.mark.parametrize(
    ("who", "problem"),
    [
        ("root@pam", None),
        ("push@pbs!tok1", None),
        ("fixpower@pbs!sub", None),
        ("fixdisabled@pbs", "disabled"),
        ("fixdisabled@pbs!tok", "user 'fixdisabled@pbs' is disabled"),
        ("fixexpired@pbs", "expired"),
        ("fixaudit@pbs!off", "token 'fixaudit@pbs!off' is disabled"),
        ("fixaudit@pbs!exp", "expired"),
        ("nosuch@pbs", "unknown"),
        ("push@pbs!nosuch", "unknown"),
    ],
)
def test_real_users(real: HostConfig, who: str, problem: str | None) -> None:
    if problem is None:
        assert real.access(AuthId.parse(who)).user == AuthId.parse(who)
    else:
        with pytest.raises(ConfigError, match=problem):
            real.access(AuthId.parse(who))


def test_real_rights_on_the_target(real: HostConfig) -> None:
    access = real.access(AuthId("fixremote@pbs"))
    access.require_push("fixremote", "fixdst", Namespace())
    access.require_prune("fixremote", "fixdst", NS)
    with pytest.raises(AccessError) as caught:
        access.require_prune("fixremote", "fixdst", Namespace.parse("a"))
    assert str(caught.value) == (
        "missing permissions 'Remote.DatastorePrune' on '/remote/fixremote/fixdst/a'"
    )
    access.require_push("fixremote", "fixdst", Namespace.parse("secret/open"))
    with pytest.raises(AccessError):
        access.require_push("fixremote", "fixdst", Namespace.parse("secret"))


# presence and absence


def test_no_configuration_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "DEFAULT_CONFIG_DIR", tmp_path / "none")
    host = HostConfig.load()
    assert not host.is_present
    assert host.access() == Access(None, ROOT)
    assert host.job_names() == []
    with pytest.raises(ConfigError, match="user 'ann@pbs' is unknown"):
        host.access(ANN)
    with pytest.raises(ConfigError, match=r"no remote 'x' in .*remote\.cfg"):
        host.remote("x")


def test_a_directory_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        HostConfig.load(tmp_path / "none")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match="not a directory"):
        HostConfig.load(file)
    with pytest.raises(ConfigError, match="Not a directory"):
        HostConfig.load(file / "below")


def test_an_empty_directory_grants_nothing_but_to_root(tmp_path: Path) -> None:
    host = HostConfig.load(tmp_path)
    assert host.access().may_see_namespace("store", NS)
    with pytest.raises(ConfigError, match="unknown"):
        host.access(ANN)
    (tmp_path / "user.cfg").write_text("user: ann@pbs\n\texpire 2000\n")
    host = HostConfig.load(tmp_path)
    assert not host.access(ANN, now=1999).may_see_namespace("store", NS)
    with pytest.raises(ConfigError, match="expired"):
        host.access(ANN, now=2000)


def test_a_malformed_section_does_not_spoil_the_others(tmp_path: Path) -> None:
    (tmp_path / "remote.cfg").write_text(
        "remote: bad\n\thost h\n\nremote: good\n\thost h\n\tauth-id a@b\n\tpassword eA==\n"
    )
    host = HostConfig.load(tmp_path)
    assert host.remote("good").host == "h"
    with pytest.raises(ConfigError, match=r"remote\.cfg:1: remote 'bad'"):
        host.remote("bad")


# rights


def _access(*entries: str, user: AuthId = ANN) -> Access:
    return Access(Acl.parse("\n".join(f"acl:1:{entry}" for entry in entries), "acl.cfg"), user)


@pytest.mark.parametrize(
    ("role", "sees", "reads_own", "reads_others"),
    [
        ("DatastoreReader", True, True, True),
        ("DatastoreAdmin", True, True, True),
        ("DatastoreBackup", True, True, False),
        ("DatastorePowerUser", True, True, False),
        ("DatastoreAudit", False, False, False),
        ("NoAccess", False, False, False),
    ],
)
def test_rights_on_the_source(role: str, sees: bool, reads_own: bool, reads_others: bool) -> None:
    access = _access(f"/datastore/store/a:ann@pbs:{role}")
    assert access.may_see_namespace("store", NS) is sees
    assert access.may_read_group("store", NS, ANN) is reads_own
    assert access.may_read_group("store", NS, AuthId("ann@pbs", "token")) is reads_own
    assert access.may_read_group("store", NS, AuthId("bob@pbs")) is reads_others
    assert not access.may_see_namespace("store", Namespace())
    assert not access.may_read_group("store", Namespace(), ANN)
    assert not access.may_see_namespace("other", NS)


def test_a_token_does_not_own_what_its_user_owns() -> None:
    token = AuthId("ann@pbs", "t")
    access = _access("/datastore:ann@pbs,ann@pbs!t:DatastoreBackup", user=token)
    assert access.may_read_group("store", NS, token)
    assert not access.may_read_group("store", NS, ANN)
    assert not access.may_read_group("store", NS, AuthId("ann@pbs", "u"))


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("RemoteSyncPushOperator", {"push"}),
        ("RemoteDatastorePowerUser", {"push", "prune"}),
        ("RemoteDatastoreAdmin", {"push", "prune", "modify"}),
        ("RemoteAdmin", set()),
        ("RemoteSyncOperator", set()),
        ("Admin", {"push", "prune", "modify"}),
    ],
)
def test_rights_on_the_target(role: str, allowed: set[str]) -> None:
    access = _access(f"/remote/offsite/target/a:ann@pbs:{role}")
    steps = {
        "push": (access.require_push, "Remote.DatastoreBackup"),
        "prune": (access.require_prune, "Remote.DatastorePrune"),
        "modify": (access.require_modify, "Remote.DatastoreModify"),
    }
    for step, (require, privilege) in steps.items():
        if step in allowed:
            require("offsite", "target", NS)
        else:
            with pytest.raises(AccessError) as caught:
                require("offsite", "target", NS)
            assert caught.value.privileges == (privilege,)
            assert caught.value.path == "/remote/offsite/target/a/b"
        with pytest.raises(AccessError):
            require("offsite", "target", Namespace.parse("b"))


def test_the_right_to_use_an_encryption_key() -> None:
    _access("/system:ann@pbs:Admin").require_encryption_key("k1")
    Access(None).require_encryption_key("k1")
    with pytest.raises(AccessError, match=r"'Sys.Modify' on '/system/encryption-keys/k1'"):
        _access("/system:ann@pbs:Audit").require_encryption_key("k1")


@pytest.mark.parametrize("access", [Access(), Access(Acl()), Access(None, ANN)])
def test_who_may_use_what_has_no_name(access: Access) -> None:
    access.require_source(None)
    access.require_remote(None)
    access.require_push(None, "target", NS)
    access.require_prune(None, "target", NS)
    access.require_modify(None, "target", NS)
    assert access.may_see_namespace(None, NS)
    assert access.may_read_group(None, NS, AuthId("bob@pbs"))


def test_others_may_not_while_a_list_is_in_force() -> None:
    access = _access("/:ann@pbs:Admin")
    for require in (access.require_push, access.require_prune, access.require_modify):
        with pytest.raises(ConfigError, match=r"remote given on .*only root@pam .*not ann@pbs"):
            require(None, "target", NS)
    with pytest.raises(ConfigError, match=r"directory has no name .*datastore\.cfg"):
        access.require_source(None)
    assert not access.may_see_namespace(None, NS)
    assert not access.may_read_group(None, NS, ANN)
    access.require_source("store")
    access.require_remote("offsite")
