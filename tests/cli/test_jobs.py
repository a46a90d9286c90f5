"""``pbs-push job``: jobs of sync.cfg as pushes."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pbs_push.access.acl import Acl
from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.jobs import SyncJob
from pbs_push.access.rights import Access
from pbs_push.cli.job_push import options_of
from pbs_push.demo.sample import sample_enc_key
from pbs_push.errors import ConfigError
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest, Protection
from pbs_push.names import MANIFEST_NAME, AuthId, Namespace
from pbs_push.push.options import PushOptions

from .conftest import SECRET, Cli, Place

BASIC = {
    "name": "j",
    "sync_direction": "push",
    "store": "here",
    "remote": "there",
    "remote_store": "offsite",
}


def test_a_job_of_few_words() -> None:
    access = Access()
    assert options_of(SyncJob(**BASIC), access, None, {}) == PushOptions(
        access=access, source_name="here", remote_name="there"
    )


def test_a_rate_without_a_burst() -> None:
    options = options_of(SyncJob(**BASIC, rate_out="10 MiB"), Access(), None, {})
    assert (options.rate_out, options.burst_out) == (10 << 20, None)


def test_every_setting_is_kept() -> None:
    job = SyncJob(
        **BASIC, ns="a", remote_ns="b/c", owner="ann@pbs", remove_vanished="yes", max_depth="2",
        group_filter=("type:vm", "exclude:group:vm/9"), transfer_last="3", encrypted_only="1",
        verified_only="true", worker_threads="5", rate_out="10 MiB", burst_out="20MB",
        schedule="daily", comment="c",
    )  # fmt: skip
    access = Access(Acl(), AuthId("ann@pbs"))
    assert options_of(job, access, None, {}) == PushOptions(
        source_namespace=Namespace.parse("a"),
        target_namespace=Namespace.parse("b/c"),
        max_depth=2,
        group_filters=GroupFilters(
            (GroupFilter("type", "vm"), GroupFilter("group", "vm/9", exclude=True))
        ),
        transfer_last=3,
        encrypted_only=True,
        verified_only=True,
        parallel=5,
        remove_vanished=True,
        rate_out=10 << 20,
        burst_out=20_000_000,
        access=access,
        source_name="here",
        remote_name="there",
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sync_direction": "pull"}, "it is a pull job"),
        ({"remote": None}, "no 'remote'"),
        ({"unknown": (("encrypt-thing", "1"),)}, "encrypt-thing"),
        ({"burst_out": "1M"}, "sync job 'j' .*'burst-out' has no effect"),
    ],
)
def test_what_cannot_be_honoured_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        options_of(SyncJob(**{**BASIC, **settings}), Access(), None, {})


@pytest.fixture
def real_config(fixtures_dir: Path, tmp_path: Path) -> Path:
    """A real PBS's configuration, moved away from where it leads to on such a host."""
    folder = Path(shutil.copytree(fixtures_dir / "config", tmp_path / "etc"))
    for name in ("encryption-keys.cfg", "datastore.cfg"):
        text = (folder / name).read_text()
        assert "path /" in text
        (folder / name).write_text(text.replace("path /", f"path {folder}/"))
    return folder


def test_a_list_that_cannot_be_read_is_a_document_too(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sync.cfg").write_text("nonsense\n")
    ran = cli("job", "list", "--json", "--config-dir", tmp_path).failed(2, "sync.cfg:1")
    document = json.loads(ran.out)
    assert (document["error"]["kind"], document["exit-status"]) == ("ConfigError", 2)
    assert document["jobs"] == []
    assert cli("job", "list", "--config-dir", tmp_path).failed(2, "sync.cfg:1").out == ""


def test_list_of_the_real_ones(cli: Cli, real_config: Path) -> None:
    config = ["--config-dir", real_config]
    lines = cli("job", "list", *config).succeeded().out.splitlines()
    assert "fixpush-1  push: fixsrc/a -> fixremote:offsite/mirror/site1  (sat 18:15)" in lines
    document = json.loads(cli("job", "list", "--json", *config).out)
    assert (document["format"], document["format-version"]) == ("pbs-push-job-list", 1)
    assert document["ended"] >= document["began"] > 1e9
    assert (document["exit-status"], document["error"]) == (0, None)
    jobs = {job["id"]: job for job in document["jobs"]}
    assert jobs["fixpush-1"]["rate-out"] == 1_500_000
    assert jobs["fixpush-1"]["active-encryption-key"] == "fixsynckey"
    assert "encryption key file" in jobs["fixpush-1"]["problem"]
    assert jobs["fixpush-2"]["unmount-on-done"] is True
    assert jobs["fixpull-1"]["kind"] == "pull"
    assert "sync-direction push" in jobs["fixpull-1"]["problem"]


def test_run_of_a_real_one_that_cannot_be(cli: Cli, real_config: Path) -> None:
    config = ["--config-dir", real_config]
    cli("job", "run", "fixpush-1", *config).failed(2, "encryption key file", "No such file")
    cli("job", "run", "fixpull-1", *config).failed(2, "fixpull-1", "pull job")
    cli("job", "run", "nope", *config).failed(2, "'nope'", "sync.cfg")
    done = cli("job", "run", "nope", *config, "--json").failed(2, "'nope'")
    assert json.loads(done.out)["error"]["kind"] == "ConfigError"


@pytest.fixture
def config_dir(tmp_path: Path, place: Place, small_source: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "datastore.cfg").write_text(f"datastore: here\n\tpath {small_source}\n")
    host, port = place.server.address
    secret = base64.b64encode(SECRET.encode()).decode()
    (folder / "remote.cfg").write_text(
        f"remote: there\n\thost {host}\n\tport {port}\n\tauth-id root@pam!push\n"
        f"\tpassword {secret}\n\tfingerprint {place.fingerprint}\n\tuse-node-proxy on\n"
    )
    base = "\tsync-direction push\n\tstore here\n\tremote there\n\tremote-store offsite\n"
    (folder / "sync.cfg").write_text(
        f"sync: flat\n{base}\tns prod\n\tremote-ns x\n\tmax-depth 0\n\n"
        f"sync: anns\n{base}\towner ann@pbs\n"
    )
    (folder / "user.cfg").write_text("user: ann@pbs\n")
    return folder


PROBLEMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "proxy": ("node.cfg", "http-proxy: socks5://p\n", ("node.cfg:1: ", "'socks5' is not")),
    "maintenance": (
        "datastore.cfg",
        "\tmaintenance-mode offline\n",
        ("datastore 'here'", "maintenance mode 'offline'"),
    ),
    "job of a disabled user": ("user.cfg", "\tenable 0\n", ("ann@pbs", "disabled")),
    "key": ("sync.cfg", "\tactive-encryption-key k\n", ("Sys.Modify", "/system/encryption-keys/k")),
    "depths": ("sync.cfg", "\tns a/b\n\tmax-depth 6\n", ("max-depth 6", "namespace a/b")),
    "threads": (
        "sync.cfg",
        "\tworker-threads 100\n",
        ("sync.cfg:16: sync 'anns'", "worker-threads"),
    ),
    "rate": ("sync.cfg", "\trate-out 0\n", ("sync.cfg:16: sync 'anns'", "rate-out")),
    "malformed": ("sync.cfg", "\tsync-direction both\n", ("sync.cfg:16: sync 'anns'",)),
}


def jobs_of(cli: Cli, config: list[object]) -> list[dict[str, Any]]:
    done = cli("job", "list", "--json", *config).succeeded()
    jobs: list[dict[str, Any]] = json.loads(done.out)["jobs"]
    return jobs


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_list_tells_what_a_run_would_refuse(cli: Cli, config_dir: Path, problem: str) -> None:
    name, line, words = PROBLEMS[problem]
    config: list[object] = ["--config-dir", config_dir]
    for job in jobs_of(cli, config):
        assert job["problem"] is None
    with (config_dir / name).open("a") as file:
        file.write(line)
    jobs = {job["id"]: job for job in jobs_of(cli, config)}
    told = jobs["anns"]["problem"]
    assert all(word in told for word in words), told
    if name in ("sync.cfg", "user.cfg"):
        assert jobs["flat"]["problem"] is None, "another's fault"
    assert f"    not to be run here: {told}" in cli("job", "list", *config).succeeded().out
    cli("job", "run", "anns", *config).failed(4 if problem == "key" else 2, told)


def test_run(cli: Cli, place: Place, config_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PBS_PASSWORD")
    monkeypatch.delenv("PBS_FINGERPRINT")
    config = ["--config-dir", config_dir]
    plan = cli("job", "run", "flat", "--dry-run", *config).succeeded().out
    assert "create   target namespace x" in plan
    assert place.snapshots() == set()
    words = ("job", "run", "flat", "--json", "--processes", 2, *config)
    document = json.loads(cli(*words).succeeded().out)
    assert document["snapshots"]["pushed"] == 4
    assert document["target"] == {"repository": place.repository, "ns": "x"}
    assert {Path(name).parent.name for name in place.snapshots()} == {"100", "web-1"}


def test_a_setting_without_effect_is_named_with_file_line_and_job(
    cli: Cli, config_dir: Path
) -> None:
    path = config_dir / "sync.cfg"
    path.write_text(path.read_text().rstrip("\n") + "\n\tburst-out 10MiB\n")
    line = len(path.read_text().splitlines())
    done = cli("job", "run", "anns", "--config-dir", config_dir)
    done.failed(2, f"{path}:{line}: sync job 'anns'", "'burst-out' has no effect")
    assert f"{path}:{line}" in cli("job", "list", "--config-dir", config_dir).succeeded().out


def test_the_owner_of_a_job_needs_rights(cli: Cli, place: Place, config_dir: Path) -> None:
    done = cli("job", "run", "anns", "--config-dir", config_dir)
    assert done.status != 0
    assert place.snapshots() == set()


KEY = bytes(range(50, 82))


@pytest.fixture
def with_key(config_dir: Path) -> Path:
    """A configuration whose jobs encrypt."""
    key_file = config_dir / "k1.enc"
    key_file.write_text(json.dumps({"kdf": None, "data": base64.b64encode(KEY).decode()}))
    (config_dir / "encryption-keys.cfg").write_text(
        f"sync-key: k1\n\tpath {key_file}\n"
        f"\tfingerprint {CryptKey(KEY).fingerprint.hex(':')}\n\tkdf none\n\n"
        f"sync-key: old\n\tpath {key_file}\n\tarchived-at 1795375947\n\n"
        f"sync-key: wrong\n\tpath {key_file}\n\tfingerprint {bytes(32).hex(':')}\n"
    )
    path = config_dir / "sync.cfg"
    jobs = [section.rstrip() for section in path.read_text().split("\n\n")]
    path.write_text("\n\n".join(f"{job}\n\tactive-encryption-key k1" for job in jobs) + "\n")
    return config_dir


def test_a_job_encrypts(cli: Cli, place: Place, with_key: Path) -> None:
    config = ["--config-dir", with_key]
    words = ("job", "run", "flat", "--json", "--processes", 2, *config)
    document = json.loads(cli(*words).succeeded().out)
    assert document["snapshots"]["pushed"] == 4
    for name in place.snapshots():
        manifest = Manifest.decode((place.path / name / MANIFEST_NAME).read_bytes())
        assert Protection.of(manifest) is Protection.FULL
        assert manifest.key_fingerprint in (CryptKey(KEY).fingerprint, sample_key().fingerprint)


def sample_key() -> CryptKey:
    return CryptKey(sample_enc_key())


@pytest.mark.parametrize(
    ("key", "words"),
    [("old", ["archived"]), ("wrong", ["k1.enc", "encryption-keys.cfg"]), ("nope", ["'nope'"])],
)
def test_keys_that_cannot_be_used(cli: Cli, with_key: Path, key: str, words: list[str]) -> None:
    path = with_key / "sync.cfg"
    path.write_text(
        path.read_text().replace("active-encryption-key k1", f"active-encryption-key {key}")
    )
    cli("job", "run", "flat", "--config-dir", with_key).failed(2, *words)


def test_a_key_needs_its_right(cli: Cli, place: Place, with_key: Path) -> None:
    acl = with_key / "acl.cfg"
    rights = (
        "acl:1:/datastore:ann@pbs:DatastoreReader\nacl:1:/remote:ann@pbs:RemoteDatastoreAdmin\n"
    )
    acl.write_text(rights)
    done = cli("job", "run", "anns", "--config-dir", with_key)
    done.failed(done.status, "Sys.Modify", "/system/encryption-keys/k1")
    assert place.snapshots() == set()
    acl.write_text(rights + "acl:1:/system:ann@pbs:Admin\n")
    cli("job", "run", "anns", "--config-dir", with_key).succeeded()
