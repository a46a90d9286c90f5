"""What is said of a chunk file that is missing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pbs_push.formats.chunk_files import why_missing


def test_a_chunk_that_a_verification_set_aside(tmp_path: Path) -> None:
    path = tmp_path / ("ab" * 32)
    assert why_missing(str(path)) == "missing: no such file"
    path.with_name(f"{path.name}.0.bad").touch()
    assert "renamed it to .bad" in why_missing(str(path))


def test_a_folder_that_cannot_be_read_is_no_other_error(
    tmp_path: Path, no_free_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    with no_free_descriptor():
        assert why_missing(str(tmp_path / ("ab" * 32))) == "missing: no such file"
