"""``pbs-push push`` against the embedded target."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from pbs_push.demo.sample import add_snapshot, sample_enc_key
from pbs_push.demo.verify import verify_target
from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import Manifest

from .conftest import SECRET, USER_PASSWORD, Cli, Place


def test_all_of_it_and_then_nothing(cli: Cli, place: Place, small_source: Path) -> None:
    first = cli("push", small_source, place.repository).succeeded()
    assert "pushed          26 snapshots" in first.out
    assert "created         5 namespaces" in first.out
    assert verify_target(small_source, place.path, enc_key=sample_enc_key()).ok
    lines = first.err.splitlines()
    assert "26 snapshots to push; 13 groups looked at" in lines
    assert sum(line.startswith("pushing ") for line in lines) == 26
    assert sum(line.startswith("pushed ") for line in lines) == 26

    place.server.counters.reset()
    again = cli("push", small_source, place.repository).succeeded()
    assert "already there   13 snapshots" in again.out
    assert "skipped         13 snapshots: there already, or older than" in again.out
    assert "chunks          0 sent" in again.out
    assert "0 snapshots to push" in again.err
    assert "skipped " not in again.err
    assert place.server.counters.snapshot().chunks == 0


def test_repository_of_the_environment(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_REPOSITORY", place.repository)
    monkeypatch.delenv("PBS_FINGERPRINT")
    cli("push", small_source, "--group-filter", "group:ct/1001").failed(4, "fingerprint")
    done = cli(
        "push", small_source, "--group-filter", "group:ct/1001",
        "--fingerprint", place.fingerprint, "--max-depth", 0,
    ).succeeded()  # fmt: skip
    assert "pushed          2 snapshots" in done.out


def test_password_and_ticket(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", USER_PASSWORD + "\nnot this")
    cli("push", small_source, place.user_repository, "--ns", "lab").succeeded()
    assert place.snapshots()


def test_options_reach_the_push(cli: Cli, place: Place, small_source: Path) -> None:
    arguments = [
        "--ns", "prod", "--remote-ns", "x/y", "--max-depth", 0, "--transfer-last", 1,
        "--group-filter", "type:vm", "--group-filter", "exclude:group:vm/9",
        "--rate-out", "50 MiB", "--burst-out", "60MB", "--parallel", 1, "--read-ahead", 2,
        "--verbose",
    ]  # fmt: skip
    done = cli("push", small_source, place.repository, *arguments).succeeded()
    assert "skipped prod → x/y: vm/100/2026-05-28" in done.err
    assert "transfer-last" in done.err
    assert {Path(name).parent for name in place.snapshots()} == {Path("ns/x/ns/y/vm/100")}


def test_only_verified_or_encrypted(cli: Cli, place: Place, small_source: Path) -> None:
    cli(
        "push", small_source, place.repository, "--encrypted-only", "--remote-ns", "enc"
    ).succeeded()
    groups = {Path(name).parent.name for name in place.snapshots()}
    assert groups == {"secret"}
    cli("push", small_source, place.repository, "--verified-only", "--remote-ns", "ok").succeeded()
    verified = {Path(name).parent.name for name in place.snapshots() if "ns/ok" in name}
    assert verified == {"100", "db.eu"}


def test_json_is_one_document(cli: Cli, place: Place, small_source: Path) -> None:
    arguments = ["push", small_source, place.repository, "--json", "--max-depth", 0]
    document = json.loads(cli(*arguments).succeeded().out)
    assert document["format"] == "pbs-push-report"
    assert document["exit-status"] == 0
    assert document["error"] is None
    assert document["target"] == {"repository": place.repository, "ns": ""}
    assert document["source"] == {"datastore": str(small_source), "ns": ""}
    assert document["snapshots"] == {"pushed": 16, "already-there": 0, "skipped": 0, "failed": 0}
    assert len(document["outcomes"]) == 16
    sent = sum(outcome["sums"]["sent-chunks"] for outcome in document["outcomes"])
    assert sent == document["sums"]["sent-chunks"] > 0
    again = json.loads(cli(*arguments).succeeded().out)
    assert again["snapshots"]["already-there"] == 7
    assert again["skipped"] == {"not-newer": 9}
    assert {outcome["skip"] for outcome in again["outcomes"]} == {"not-newer"}


def test_json_of_an_error(
    cli: Cli, place: Place, small_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = cli("push", tmp_path / "none", place.repository, "--json").failed(1, "none")
    document = json.loads(done.out)
    assert document["error"]["kind"] == "SourceError"
    assert document["exit-status"] == 1
    monkeypatch.setenv("PBS_PASSWORD", "wrong")
    for extra, kind in ((), "report"), (("--dry-run",), "plan"):
        done = cli("push", small_source, place.repository, "--json", *extra).failed(4, "refuses")
        document = json.loads(done.out)
        assert document["format"] == f"pbs-push-{kind}"
        assert document["error"]["kind"] == "AuthError"
        assert document["exit-status"] == 4


def test_dry_run_changes_nothing(cli: Cli, place: Place, small_source: Path) -> None:
    before = sorted(place.path.rglob("*"))
    done = cli("push", small_source, place.repository, "--dry-run").succeeded()
    assert sorted(place.path.rglob("*")) == before
    requests = place.server.counters.snapshot().requests
    assert all(kind.startswith("GET ") for kind in requests), requests
    lines = done.out.splitlines()
    assert any(line.startswith("push     prod: vm/100/2026-05-28T20:30:03Z: ") for line in lines)
    assert "create   target namespace prod/eu" in lines
    assert lines[-1] == (
        "dry run: 26 snapshots of 13 groups would be pushed, 5 namespaces created; "
        "nothing was changed"
    )
    assert sum(line.startswith("push ") for line in lines) == 26


def test_dry_run_says_what_is_there(cli: Cli, place: Place, source: Path) -> None:
    cli("push", source, place.repository, "--max-depth", 0).succeeded()
    add_snapshot(source)
    arguments = ["push", source, place.repository, "--max-depth", 0, "--dry-run"]
    lines = cli(*arguments).succeeded().out.splitlines()
    assert sum(line.startswith("push ") for line in lines) == 2
    assert "there    host/secret/2026-05-28T20:42:19Z" in lines
    assert any(line.startswith("skip     vm/100: 2 snapshots, ") for line in lines)
    document = json.loads(cli(*arguments, "--json").succeeded().out)
    assert document["format"] == "pbs-push-plan"
    assert document["to-push"] == 2
    assert document["snapshots"]["already-there"] == 7
    (namespace,) = document["namespaces"]
    by_group = {group["group"]: group for group in namespace["groups"]}
    assert len(by_group["vm/100"]["push"]) == 1
    assert "vm/101" not in by_group
    assert "vm/101" in {outcome["group"] for outcome in namespace["settled"]}


def test_remove_vanished(cli: Cli, place: Place, source: Path) -> None:
    import shutil

    cli("push", source, place.repository).succeeded()
    shutil.rmtree(source / "vm" / "101")
    shutil.rmtree(source / "ns" / "lab")
    shutil.rmtree(source / "ct" / "200" / "2026-05-28T20:49:53Z")
    before = place.snapshots()
    arguments = ["push", source, place.repository, "--remove-vanished"]
    plan = cli(*arguments, "--dry-run").succeeded().out
    assert "remove   target ct/200/2026-05-28T20:49:53Z" in plan
    assert "remove   target vm/101, with 2 snapshots" in plan
    assert "remove   target namespace lab/a/b, with 2 groups, 2 snapshots" in plan
    assert "5 snapshots removed" in plan
    assert place.snapshots() == before
    refused = cli(*arguments, "--max-removals", 4)
    assert refused.failed(3, "max-removals 4").out.count("\nremoved") == 0
    assert place.snapshots() == before
    dry = cli(*arguments, "--max-removals", "10%", "--dry-run")
    dry.failed(3, "removals held back", "5 of ")
    assert "(remove) target ct/200/2026-05-28T20:49:53Z" in dry.out
    assert "refused  nothing would be removed" in dry.out
    assert ", 0 snapshots removed; nothing was changed" in dry.out.splitlines()[-1]
    document = json.loads(cli(*arguments, "--json").succeeded().out)
    assert document["removed"]["namespaces"] == 3
    assert document["removed"]["snapshots"] == 5
    assert len(before - place.snapshots()) == 5


def test_groups_of_someone_else_are_never_a_silent_success(
    cli: Cli, place: Place, source: Path
) -> None:
    arguments = ["push", source, place.repository, "--max-depth", 0]
    cli(*arguments).succeeded()
    (place.path / "vm/100/owner").write_text("stranger@pbs\n")
    (source / "vm/101/owner").unlink()
    words = (
        "not all can be pushed: ",
        "snapshots: its group has no readable owner at the source",
        "snapshots: its group at the target is owned by someone else",
    )
    for extra in ((), ("--dry-run",), ("-q",), ("--json",)):
        done = cli(*arguments, *extra).failed(3, *words)
        assert "--json" not in extra or json.loads(done.out)["exit-status"] == 3
    filters = ["--group-filter", "exclude:group:vm/100", "--group-filter", "exclude:group:vm/101"]
    cli(*arguments, *filters).succeeded()


def test_quiet(cli: Cli, place: Place, small_source: Path) -> None:
    done = cli("push", small_source, place.repository, "-q", "--max-depth", 0).succeeded()
    assert (done.out, done.err) == ("", "")


@pytest.fixture
def config_dir(tmp_path: Path, place: Place, small_source: Path) -> Path:
    """A host's configuration that knows the source and the target."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "datastore.cfg").write_text(
        f"datastore: here\n\tpath {small_source}\n\n"
        f"datastore: away\n\tpath {tmp_path}/away\n\tmaintenance-mode type=offline,message=gone\n"
    )
    host, port = place.server.address
    secret = base64.b64encode(SECRET.encode()).decode()
    head = f"\thost {host}\n\tport {port}\n\tauth-id root@pam!push\n\tpassword {secret}\n"
    pin = f"\tfingerprint {place.fingerprint}\n"
    (folder / "remote.cfg").write_text(
        f"remote: there\n{head}{pin}\nremote: proxied\n{head}{pin}\tuse-node-proxy 1\n"
    )
    (folder / "user.cfg").write_text(
        "user: ann@pbs\n\nuser: bob@pbs\n\tenable 0\n\nuser: old@pbs\n\texpire 1\n"
    )
    (folder / "acl.cfg").write_text(
        "acl:1:/datastore/here:ann@pbs:DatastoreReader\n"
        "acl:0:/remote/there/offsite:ann@pbs:RemoteSyncPushOperator\n"
    )
    return folder


def test_a_name_that_is_a_directory_too(
    cli: Cli, config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / ".chunks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    remote = ["--config-dir", config_dir, "--remote", "there", "--remote-store", "offsite"]
    cli("push", "here", *remote).failed(2, "directory here and a datastore", "'./here'")


def test_names_of_the_configuration(cli: Cli, place: Place, config_dir: Path) -> None:
    remote = ["--config-dir", config_dir, "--remote", "there", "--remote-store", "offsite"]
    cli("push", "here", *remote, "--ns", "prod", "--max-depth", 0).succeeded()
    assert place.snapshots()
    cli("push", "away", *remote).failed(2, "away", "gone")
    cli("push", "nowhere", *remote).failed(1, "nowhere", "datastore.cfg")
    remote[3] = "proxied"
    cli("push", "here", *remote, "--ns", "prod", "--max-depth", 0).succeeded()  # it has no proxy
    remote[3] = "nobody"
    cli("push", "here", *remote).failed(2, "nobody", "there: proxied, there")


def test_a_directory_that_the_configuration_knows_is_that_datastore(
    cli: Cli, config_dir: Path, tmp_path: Path, place: Place
) -> None:
    (tmp_path / "away").mkdir()
    cli(
        "push", tmp_path / "away", place.repository, "--config-dir", config_dir
    ).failed(2, "away", "gone")  # fmt: skip


def test_rights_of_the_local_user(
    cli: Cli, place: Place, config_dir: Path, small_source: Path
) -> None:
    remote = ["--config-dir", config_dir, "--remote", "there", "--remote-store", "offsite"]
    user = ["--local-user", "ann@pbs"]
    flat = ["--max-depth", 0, "--group-filter", "type:vm"]
    cli("push", "here", *remote, *user, *flat).succeeded()
    # Below the root, she may neither create nor push.
    done = cli("push", "here", *remote, *user, *flat[2:])
    assert done.status == 3
    assert "missing permissions 'Remote.DatastoreBackup' on '/remote/there/offsite/lab'" in done.err
    config = ["--config-dir", config_dir]
    cli("push", "here", place.repository, *config, *user).failed(2, "ann@pbs", "remote.cfg")
    cli("push", "here", *remote, "--local-user", "bob@pbs").failed(2, "bob@pbs", "disabled")
    cli("push", "here", *remote, "--local-user", "old@pbs").failed(2, "old@pbs", "expired")
    cli("push", "here", *remote, "--local-user", "eve@pbs").failed(2, "eve@pbs", "unknown")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["Missing argument 'SOURCE'"]),
        (("s",), ["no target", "PBS_REPOSITORY"]),
        (("s", "host:x"), ["REPOSITORY", "'x' is not a datastore name"]),
        (("s", "host:store", "--ns", "a//b"), ["--ns", "a//b"]),
        (("s", "host:store", "--max-depth", 8), ["--max-depth", "8"]),
        (("s", "host:store", "--group-filter", "nonsense"), ["--group-filter", "nonsense"]),
        (("s", "host:store", "--group-filter", "regex:("), ["--group-filter", "missing )"]),
        (("s", "host:store", "--transfer-last", 0), ["--transfer-last"]),
        (("s", "host:store", "--rate-out", "fast"), ["--rate-out", "fast"]),
        (("s", "host:store", "--parallel", "many"), ["--parallel", "many"]),
        (("s", "host:store", "--fingerprint", "ab:cd"), ["--fingerprint", "32 bytes"]),
        (("s", "host:store", "--max-removals", "101%"), ["--max-removals", "101%"]),
        (("s", "host:store", "--max-removals", 5), ["--max-removals", "no effect"]),
        (("s", "host:store", "--allow-empty-source"), ["--allow-empty-source", "no effect"]),
        (("s", "host:store", "--remote", "r", "--remote-store", "q"), ["either", "--remote"]),
        (("s", "--remote", "r"), ["--remote-store"]),
        (("s", "host:store", "--remote-store", "q"), ["--remote-store", "no effect"]),
        (
            ("s", "--remote", "r", "--remote-store", "q", "--fingerprint", "ab" * 32),
            ["--fingerprint", "no effect"],
        ),
        (("s", "host:store", "--quiet", "--verbose"), ["--quiet", "--verbose"]),
        (("s", "host:store", "--config-dir", "/no/such/place"), ["/no/such/place"]),
        (("s", "host:store", "--local-user", "me"), ["--local-user", "'me'"]),
        (("s", "host:store", "more"), ["more"]),
        (("s", "host:store", "--passwrd", "x"), ["--passwrd"]),
    ],
)
def test_usage_errors(cli: Cli, arguments: tuple[object, ...], words: list[str]) -> None:
    done = cli("push", *arguments).failed(2, *words)
    assert done.out == ""
    assert len(done.err.splitlines()) == 1


def test_no_secret(cli: Cli, small_source: Path) -> None:
    cli("push", small_source, "host:store").failed(2, "no password of root@pam", "PBS_PASSWORD")


def test_options_out_of_range(cli: Cli, place: Place, small_source: Path) -> None:
    cli("push", small_source, place.repository, "--burst-out", "1M").failed(2, "burst-out")
    cli("push", small_source, place.repository, "--parallel", 1000).failed(2, "parallel 1000")
    cli("push", small_source, place.repository, "--ns", "none").failed(2, "none")


def test_a_key_file_with_a_password(
    cli: Cli, place: Place, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = CryptKey(bytes(range(32)))
    salt = bytes(16)
    derived = hashlib.pbkdf2_hmac("sha256", b"pass word", salt, 10, 32)
    iv, tag, sealed = CryptKey(derived).encrypt(bytes(range(32)))
    path = tmp_path / "site.key"
    kdf = {"PBKDF2": {"iter": 10, "salt": base64.b64encode(salt).decode()}}
    data = base64.b64encode(iv + tag + sealed).decode()
    path.write_text(json.dumps({"kdf": kdf, "data": data}))
    push = ("push", source, place.repository, "--ns", "prod", "--keyfile", path)

    cli(*push).failed(2, str(path), "PBS_ENCRYPTION_PASSWORD")
    monkeypatch.setenv("PBS_ENCRYPTION_PASSWORD", "no")
    cli(*push).failed(2, str(path), "wrong")
    assert place.snapshots() == set()
    monkeypatch.setenv("PBS_ENCRYPTION_PASSWORD", "pass word")
    cli(*push).succeeded()
    manifests = [place.path / name / "index.json.blob" for name in place.snapshots()]
    fingerprints = {Manifest.decode(path.read_bytes()).key_fingerprint for path in manifests}
    assert key.fingerprint in fingerprints
    cli(*push, "--encryption-key", "k").failed(2, "not both")
