"""What can be wrong: one clear line, a status, and nothing half-done there."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from pbs_push.formats.index import open_index
from pbs_push.target import Faults, TargetOptions, TargetServer
from pbs_push.target.certificate import server_context
from pbs_push.tls_socket import TlsSocket

from .conftest import SECRET, Cli, Place, identities

GROUP = "vm/100"
FIRST = "vm/100/2026-05-28T20:30:03Z"
IMAGE = "drive-scsi0.img.fidx"
ONE_GROUP = ("--max-depth", 0, "--group-filter", f"group:{GROUP}")


def first_chunk(source: Path) -> Path:
    with open_index(source / FIRST / IMAGE) as index:
        digest = bytes(index.digests[0]).hex()
    return source / ".chunks" / digest[:4] / digest


def settled(place: Place, count: int = 0) -> bool:
    """Whether there are so many snapshots, once the target has noticed that the line is cut.

    Until then it shows half-done ones, with all that was uploaded, the manifest too.
    """
    deadline = time.monotonic() + 20
    while len(place.snapshots()) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(place.snapshots()) == count


# -- the source --


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "unreadable manifest": (lambda s: flip(s / FIRST / "index.json.blob"), [FIRST, "manifest"]),
    "other manifest": (
        lambda s: (s / FIRST / "index.json.blob").write_bytes(
            (s / "vm/100/2026-05-29T20:30:03Z/index.json.blob").read_bytes()
        ),
        [FIRST, "2026-05-29"],
    ),
    "missing archive": (lambda s: (s / FIRST / IMAGE).unlink(), [FIRST, IMAGE, "missing"]),
    "missing blob": (
        lambda s: (s / FIRST / "fw.conf.blob").unlink(),
        [FIRST, "fw.conf.blob", "missing"],
    ),
    "corrupt blob": (lambda s: flip(s / FIRST / "fw.conf.blob"), [FIRST, "fw.conf.blob"]),
    "index csum differs": (lambda s: flip(s / FIRST / IMAGE), [FIRST, IMAGE, "csum"]),
    "truncated index": (lambda s: cut(s / FIRST / IMAGE), [FIRST, IMAGE]),
    "missing chunk": (lambda s: first_chunk(s).unlink(), [FIRST, "chunk", "no such file"]),
    "chunk set aside": (
        lambda s: first_chunk(s).rename(f"{first_chunk(s)}.0.bad"),
        [FIRST, "chunk", "missing: a verification found it corrupt and renamed it to .bad"],
    ),
    "flipped chunk": (lambda s: flip(first_chunk(s)), [FIRST, "chunk", "CRC"]),
    "truncated chunk": (lambda s: cut(first_chunk(s)), [FIRST, "chunk", "CRC"]),
    "empty chunk": (lambda s: first_chunk(s).write_bytes(b""), [FIRST, "chunk", "empty"]),
    "wrong magic": (lambda s: flip(first_chunk(s), 0), [FIRST, "chunk", "magic"]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_at_the_source(cli: Cli, place: Place, source: Path, name: str) -> None:
    damage, words = DAMAGE[name]
    damage(source)
    done = cli("push", source, place.repository, *ONE_GROUP)
    whole = {FIRST} if "manifest" in name else set()
    # An unreadable manifest leaves the group go on, so that just that one is missing.
    done.failed(3 if whole else 1, *words)
    if "chunk" in name:
        assert first_chunk(source).name in done.errors[0]
    assert settled(place, 2 if whole else 0)
    assert "failed          1 snapshot" in done.out


def test_other_groups_go_on(cli: Cli, place: Place, source: Path) -> None:
    flip(source / FIRST / IMAGE)
    done = cli("push", source, place.repository, "--max-depth", 0).failed(3, FIRST)
    assert "pushed          13 snapshots" in done.out
    assert settled(place, 13)


def test_source_missing(cli: Cli, place: Place, tmp_path: Path) -> None:
    cli("push", tmp_path / "none", place.repository).failed(1, str(tmp_path / "none"))
    assert place.snapshots() == set()


def test_source_is_no_datastore(cli: Cli, place: Place, tmp_path: Path) -> None:
    cli("push", tmp_path, place.repository).failed(1, str(tmp_path), "not a datastore")
    (tmp_path / "file").touch()
    cli("push", tmp_path / "file", place.repository).failed(1, str(tmp_path / "file"))


# -- who we are, and what we may do there --


@pytest.mark.parametrize("user", ["token", "user"])
def test_wrong_secret(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", "wrong")
    repository = place.repository if user == "token" else place.user_repository
    done = cli("push", small_source, repository).failed(4, "refuses the credentials")
    assert "wrong" not in done.err
    assert done.out == ""


def test_wrong_fingerprint(cli: Cli, place: Place, small_source: Path) -> None:
    wrong = "ab:" * 31 + "ab"
    done = cli("push", small_source, place.repository, "--fingerprint", wrong)
    done.failed(4, wrong, place.fingerprint, "no credentials were sent")
    assert place.server.counters.snapshot().total_requests == 0


def test_missing_datastore(cli: Cli, place: Place, small_source: Path) -> None:
    repository = place.repository.replace(":offsite", ":elsewhere")
    cli("push", small_source, repository).failed(1, "no such datastore 'elsewhere'")


@contextmanager
def another_target(
    place: Place, monkeypatch: pytest.MonkeyPatch, **attributes: object
) -> Iterator[Place]:
    """A second server on the same datastore."""
    attributes.setdefault("identities", identities())
    options = TargetOptions(bad_login_delay_s=0)
    with TargetServer({"offsite": place.path}, options=options, **attributes) as server:  # type: ignore[arg-type]
        monkeypatch.setenv("PBS_FINGERPRINT", server.fingerprint.hex(":"))
        yield Place(server, place.path)


@pytest.mark.parametrize("privileges", [(), ("Datastore.Audit",)])
def test_no_rights(
    cli: Cli,
    place: Place,
    small_source: Path,
    monkeypatch: pytest.MonkeyPatch,
    privileges: tuple[str, ...],
) -> None:
    who = identities(privileges=lambda _who, _path: frozenset(privileges))
    with another_target(place, monkeypatch, identities=who) as denied:
        done = cli("push", small_source, denied.repository, *ONE_GROUP)
    done.failed(4, "permission", "/datastore/offsite")
    assert place.snapshots() == set()


# -- the target --


@contextmanager
def other_backup(place: Place, group: str) -> Iterator[None]:
    """Someone else's backup of this group, under way as long as this lasts."""
    backup_type, backup_id = group.split("/")
    context = ssl.create_default_context()
    context.sslsocket_class = TlsSocket
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    query = f"store=offsite&backup-type={backup_type}&backup-id={backup_id}&backup-time=1000"
    with (
        socket.create_connection(place.server.address) as raw,
        context.wrap_socket(raw) as line,
    ):
        line.sendall(
            f"GET /api2/json/backup?{query} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: PBSAPIToken=root@pam!push:{SECRET}\r\n"
            "Connection: Upgrade\r\nUpgrade: proxmox-backup-protocol-v1\r\n\r\n".encode()
        )
        assert line.recv(1000).startswith(b"HTTP/1.1 101")
        yield


def test_group_locked(cli: Cli, place: Place, small_source: Path) -> None:
    with other_backup(place, GROUP):
        done = cli("push", small_source, place.repository, *ONE_GROUP, "--lock-wait", "0")
        done.failed(1, FIRST, "lock")
    assert settled(place)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(close_after_chunks=3),
        Faults(goaway_after_requests=5),
        Faults(reset_streams={"POST fixed_chunk": 2}),
        Faults(reset_streams={"POST finish": 1}),
    ],
    ids=["line cut", "goaway", "chunk reset", "finish reset"],
)
def test_target_gone(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    with another_target(place, monkeypatch, faults=faults) as broken:
        once = ("push", small_source, broken.repository, *ONE_GROUP, "--retries", "0")
        cli(*once).failed(1, FIRST)
        assert settled(place)
    # And the next push converges.
    monkeypatch.setenv("PBS_FINGERPRINT", place.fingerprint)
    cli("push", small_source, place.repository, *ONE_GROUP).succeeded()


def test_disk_full(
    cli: Cli, place: Place, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_digest: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with another_target(place, monkeypatch, faults=Faults(chunk_error=full)) as server:
        done = cli("push", small_source, server.repository, *ONE_GROUP)
        done.failed(1, FIRST, "No space left on device")
        assert settled(place)


# -- a server that is not a Proxmox Backup Server --


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does ``serve`` with each connection, side by side. Gives the port."""
    threads: list[threading.Thread] = []

    def talk(connection: socket.socket) -> None:
        connection.settimeout(20)
        with connection, suppress(OSError):
            serve(connection)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _address = listening.accept()
                    threads.append(threading.Thread(target=talk, args=(connection,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def tls(talk: Callable[[ssl.SSLSocket], None]) -> tuple[Callable[[socket.socket], None], str]:
    context, fingerprint = server_context(None)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as line:
            talk(line)

    return serve, fingerprint.hex(":")


def echo(line: socket.socket) -> None:
    while data := line.recv(4096):
        line.sendall(data)


def web_page(line: socket.socket) -> None:
    line.recv(4096)
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html>hi</html"[:-1])


def not_found(line: socket.socket) -> None:
    line.recv(4096)
    line.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found")


def banner(line: socket.socket) -> None:
    line.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
    line.recv(4096)


def hang_up(line: socket.socket) -> None:
    line.recv(4096)


STRANGERS: dict[str, tuple[int, Callable[[socket.socket], None]]] = {
    "TLS echo": (1, echo),
    "TLS web server": (1, web_page),
    "TLS web server without such pages": (1, not_found),
    "TLS that hangs up": (1, hang_up),
    "plain echo": (4, echo),
    "plain web server": (4, web_page),
    "plain banner": (4, banner),
    "plain that hangs up": (1, hang_up),
}
"""What they do, and the status: 4 where there can be no trust."""


@pytest.mark.parametrize("user", ["root@pam!push", "root@pam"])
@pytest.mark.parametrize("name", STRANGERS)
def test_no_backup_server(
    cli: Cli, small_source: Path, monkeypatch: pytest.MonkeyPatch, name: str, user: str
) -> None:
    status, talk = STRANGERS[name]
    serve, fingerprint = tls(talk) if name.startswith("TLS") else (talk, "ab:" * 31 + "ab")
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    monkeypatch.setenv("PBS_FINGERPRINT", fingerprint)
    with listener(serve) as port:
        done = cli("push", small_source, f"{user}@127.0.0.1:{port}:offsite")
        done.failed(status, f"127.0.0.1:{port}")


def test_nobody_there(cli: Cli, small_source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    done = cli("push", small_source, f"root@pam!push@127.0.0.1:{port}:offsite")
    done.failed(1, f"127.0.0.1:{port}", "refused")


def test_address_that_does_not_exist(
    cli: Cli, small_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PBS_PASSWORD", SECRET)
    done = cli("push", small_source, "root@pam!push@no-such-host.invalid:offsite")
    done.failed(1, "no-such-host.invalid")


def test_nothing_can_be_pushed(cli: Cli, place: Place, source: Path) -> None:
    cli("push", source, place.repository, *ONE_GROUP).succeeded()
    (place.path / GROUP / "owner").write_text("ann@pbs\n")
    done = cli("push", source, place.repository, *ONE_GROUP)
    done.failed(5, "owned by someone else")
    assert "owned by ann@pbs, not by the remote user root@pam!push" in done.err
    cli("push", source, place.repository, *ONE_GROUP, "--dry-run").failed(5, "owned")
