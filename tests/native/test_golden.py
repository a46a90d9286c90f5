"""The native readers on the golden datastore, whose files no code of ours has written."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.references import GOLDEN

from pbs_push._native.blob import crc32
from pbs_push._native.chunks import read_chunk
from pbs_push._native.digests import DigestSet
from pbs_push._native.index import open_index, parse_index

DATASTORE = GOLDEN / "datastore"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))


def indexes() -> Iterator[Any]:
    """Each index's path, and what is expected of it."""
    for namespace in EXPECTED["namespaces"]:
        folder = "/".join(f"ns/{name}" for name in namespace["ns"].split("/") if name)
        for group in namespace["groups"]:
            for snapshot in group["snapshots"]:
                for file in snapshot["files"]:
                    if "index" in file:
                        parts = (folder, group["group"], snapshot["dir"], file["filename"])
                        path = "/".join(part for part in parts if part)
                        yield pytest.param(path, file["index"], id=path)


@pytest.mark.parametrize(("path", "about"), list(indexes()))
def test_index(path: str, about: dict[str, Any]) -> None:
    content = (DATASTORE / path).read_bytes()
    for read in (open_index(DATASTORE / path), parse_index(content, path)):
        with read as index:
            assert (index.kind, index.size, index.ctime, index.uuid.hex()) == (
                about["kind"],
                about["size"],
                about["ctime"],
                about["uuid"],
            )
            assert index.chunk_size == about.get("chunk-size", 0)
            assert index.csum().hex() == index.header_csum.hex() == about["csum"]
            assert len(index) == about["entries"]
            digests = [row.tobytes().hex() for row in index.digests]
            assert (digests[0], digests[-1]) == (about["first-digest"], about["last-digest"])
            ends = index.end_offsets.tolist()
            assert ends[-1] == about["size"]
            assert ends == about.get("end-offsets", ends)
            known = DigestSet()
            assert sum(known.insert(index.digests)) == about["distinct-digests"]
            assert set(digests) <= EXPECTED["chunks"]["list"].keys()


def test_chunks() -> None:
    fd = os.open(DATASTORE / ".chunks", os.O_RDONLY)
    try:
        for digest, about in EXPECTED["chunks"]["list"].items():
            raw = read_chunk(fd, bytes.fromhex(digest), ".chunks")
            assert len(raw) == about["encoded-size"]
            head = 44 if about["type"].startswith("encrypted") else 12
            assert (
                crc32(raw[head:]) == zlib.crc32(raw[head:]) == int.from_bytes(raw[8:12], "little")
            )
    finally:
        os.close(fd)
