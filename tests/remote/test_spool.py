"""A downloaded index in a file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pbs_push.errors import IndexFormatError, PbsPushError
from pbs_push.formats.index_writer import fixed_index_bytes
from pbs_push.remote.spool import Spool

INDEX = fixed_index_bytes(os.urandom(32 * 400), 400 << 22)

OpenBelow = Callable[[Path], list[str]]


def spool_of(*parts: bytes) -> Spool:
    spool = Spool()
    for part in parts:
        spool.write(part)
    return spool


def test_its_file_has_no_name_and_goes_with_the_index(
    spools: Path, spooled: Callable[[], list[str]]
) -> None:
    """So nothing is left of it, not even where this process is killed."""
    spool = spool_of(INDEX[:5000], b"", INDEX[5000:])
    assert len(spooled()) == 1
    assert not any(spools.iterdir())
    assert os.fstat(spool._file.fileno()).st_mode & 0o777 == 0o600
    with spool.index("a.fidx of the previous snapshot") as index:
        spool.close()
        assert len(spooled()) == 1
        assert len(index) == 400
        assert bytes(index.digests[399]) == INDEX[-32:]
        assert index.path == "a.fidx of the previous snapshot"
    assert spooled() == []


def test_a_body_that_is_no_index_leaves_no_file(spooled: Callable[[], list[str]]) -> None:
    spool = spool_of(INDEX[:-1])
    with pytest.raises(IndexFormatError, match=r"'a\.fidx of the previous snapshot'"):
        spool.index("a.fidx of the previous snapshot")
    assert spooled() == []


def test_what_is_not_asked_for_leaves_no_file(spooled: Callable[[], list[str]]) -> None:
    spool = spool_of(INDEX)
    assert len(spooled()) == 1
    spool.close()
    assert spooled() == []


def test_a_folder_that_cannot_be_used_is_told(
    spools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool()
    spool.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(spool, "_file", full)
        with pytest.raises(PbsPushError, match=rf"in {spools}: No space left .* TMPDIR may name"):
            spool.write(INDEX)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(PbsPushError, match=r"in /nonexistent: No such file .* TMPDIR may name"):
        Spool()


def test_no_folder_at_all_is_told(spools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(PbsPushError, match=r"in a folder .* TMPDIR may name"):
        Spool()


def test_without_tmpdir_it_is_on_disk(
    monkeypatch: pytest.MonkeyPatch, open_below: OpenBelow
) -> None:
    """/tmp may be in memory, which is what a spool is to save."""
    monkeypatch.delenv("TMPDIR", raising=False)
    spool = Spool()
    assert len(open_below(Path("/var/tmp"))) == 1
    spool.close()
