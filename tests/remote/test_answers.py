"""Which error an answer of the target is, and what a closed or distrusted target says."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from threading import Event

import pytest

from pbs_push import Push, Target
from pbs_push.errors import (
    AuthError,
    BusyError,
    ConfigError,
    DeniedError,
    NoSpaceError,
    NotOwnerError,
    StatusError,
    TlsError,
)
from pbs_push.names import Namespace, Snapshot
from pbs_push.remote.answers import NO_SECRETS, raise_for_status
from pbs_push.remote.tls import vouched_for
from pbs_push.remote.words import Words
from pbs_push.source.datastore import Datastore
from pbs_push.target import Identities, TargetServer, create_datastore

from .servers import Identity, Server, answer, http

KINDS: dict[str, tuple[int, str, type[Exception]]] = {
    "a group's lock": (400, "unable to acquire backup group lock while creating", BusyError),
    "a snapshot's lock": (400, 'unable to acquire shared snapshot lock on "/x"', BusyError),
    "of an old server": (
        400,
        'Unable to acquire lock on backup group directory "/x" - another backup is already running',
        BusyError,
    ),
    "somebody else's": (400, "backup owner check failed (a@pbs != b@pbs)", NotOwnerError),
    "a full disk": (400, "inserting chunk failed: ENOSPC", NoSpaceError),
    "a full disk, as text": (400, "No space left on device (os error 28)", NoSpaceError),
    "something else": (400, "backup timestamp is older than last backup.", StatusError),
    "a text alone decides nothing": (500, "unable to acquire backup group lock", StatusError),
    "a right": (403, "owner check failed", DeniedError),
    "credentials": (401, "unable to acquire lock", AuthError),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_refusals(case: str) -> None:
    status, text, kind = KINDS[case]
    with pytest.raises(kind, match=re.escape(text)) as caught:
        raise_for_status("GET x", status, text.encode())
    assert type(caught.value) is kind


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_says_where_to(status: int) -> None:
    with pytest.raises(StatusError, match=r"redirects to https://other:8007/x, which is not foll"):
        raise_for_status("GET x", status, b"", NO_SECRETS, "https://other:8007/x")


def test_a_redirect_that_holds_a_secret_hides_it() -> None:
    with pytest.raises(StatusError) as caught:
        raise_for_status("GET x", 302, b"", Words("s3cr3t-of"), "//x/?t=s3cr3t-of\x1b")
    assert "s3cr3t" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_redirect_by_a_server_says_where_to(identity: Identity, *, upgrade: bool) -> None:
    def begin() -> object:
        return target.begin_backup(
            target.connect(Event()),
            Namespace(),
            Snapshot.parse("vm/1/2026-05-28T20:26:40Z"),
            chunks_path="/x",
            transport=target.transport(),
        )

    redirect = answer(302, b"", "location: https://other.example:8007/api2/")
    with (
        Server(identity, http(lambda _: redirect, [])) as server,
        Target(server.repository, "secret", identity.fingerprint) as target,
        pytest.raises(StatusError, match=r"redirects to https://other\.example:8007/api2/"),
    ):
        (begin if upgrade else target.api.status)()


# -- a target that is closed --


def test_a_closed_target_says_so(tmp_path: Path) -> None:
    source = create_datastore(tmp_path / "source", all_chunk_folders=False)
    target = Target("a@pbs!t@localhost:store1", "secret", "ab" * 32)
    target.close()
    target.close()
    for use in (Push(Datastore(source), target).run, target.api.status):
        with pytest.raises(ConfigError, match=r"Target a@pbs!t@localhost:8007:store1 is closed"):
            use()


# -- whether a CA would vouch --


def test_whether_a_ca_vouches_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = create_datastore(tmp_path / "store", all_chunk_folders=False)
    with TargetServer({"store1": store}, identities=Identities.simple({"a@pbs!t": "s"})) as server:
        host, port = server.address
        assert "no CA of this system vouches for it" in vouched_for(host, port)
        trusted = tmp_path / "ca.pem"
        trusted.write_text(ssl.get_server_certificate((host, port)))
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        told = "a CA of this system vouches for it: without a fingerprint it would be trusted"
        assert told in vouched_for(host, port)
        target = Target(server.repository("store1", "a@pbs!t"), "s", bytes(32))
        with target, pytest.raises(TlsError) as caught:
            target.api.status()
        assert told in str(caught.value)
        assert "proxmox-backup-manager cert info" in str(caught.value)
    assert vouched_for(host, port) == "", "it is gone"
