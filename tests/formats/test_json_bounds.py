"""JSON that would fill the memory is refused before it is parsed."""

from __future__ import annotations

import tracemalloc

import pytest

from pbs_push.errors import ManifestError, ProtocolError
from pbs_push.formats.blob import encode_blob
from pbs_push.formats.json_bounds import check_bounds
from pbs_push.formats.manifest import MAX_MANIFEST_SIZE, Manifest
from pbs_push.remote.answers import parse_data


def test_what_is_counted() -> None:
    check_bounds(b'{"a":[1,2,3]}', values=4, containers=2)
    with pytest.raises(ValueError, match="more than 1 objects and lists"):
        check_bounds(b'{"a":[1,2,3]}', values=4, containers=1)
    with pytest.raises(ValueError, match="more than 3 values"):
        check_bounds(b'{"a":[1,2,3]}', values=3, containers=2)


@pytest.mark.parametrize("item", [b"{}", b"[]", b"0", b'""', b"1.5"])
def test_a_manifest_that_swells(item: bytes) -> None:
    """1.6 KB on disk took 600 MiB."""
    count = (MAX_MANIFEST_SIZE - 100) // (len(item) + 1)
    blob = encode_blob(b'{"files":[' + b",".join([item] * count) + b"]}")
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError, match="more than"):
            Manifest.decode(blob)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_MANIFEST_SIZE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("item", [b"{}", b"[]", b"0"])
def test_an_answer_that_swells(item: bytes) -> None:
    body = b'{"data":[' + b",".join([item] * 17_000_000) + b"]}"
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            parse_data("GET x", body)
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()
