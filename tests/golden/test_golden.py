"""The golden set is what its maker makes, and the maker does what the pages say."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest
import zstandard

from .content import SENTENCE, ZSTD_OF_A_LIBRARY, text
from .formats import MAGICS, Key, magic, noise, signature, zstd_frame
from .make import DATA, files


def test_the_set_is_as_it_is_made() -> None:
    made = files()
    found = {str(path.relative_to(DATA)): path for path in DATA.rglob("*") if path.is_file()}
    assert sorted(found) == sorted(made)
    for name, path in found.items():
        assert path.read_bytes() == made[name], f"{name}: made anew it is another one"


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 400_000


def test_it_shares_no_code_with_what_it_is_to_prove() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        if path.name != Path(__file__).name:
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom | ast.Import):
                    names = [getattr(node, "module", None) or "", *(n.name for n in node.names)]
                    assert not any(name.startswith(("pbs_push", "zstandard")) for name in names)


def test_magics() -> None:
    """The bytes of datastore.md, "Data blob" and "Index files"."""
    assert {word: tuple(found) for word, found in MAGICS.items()} == {
        "uncompressed": (66, 171, 56, 7, 190, 131, 112, 161),
        "compressed": (49, 185, 88, 66, 111, 182, 163, 127),
        "encrypted": (123, 103, 133, 190, 34, 45, 76, 240),
        "encrypted+compressed": (230, 89, 27, 191, 11, 191, 216, 11),
    }
    assert tuple(magic("fixed sized chunk index")) == (47, 127, 65, 237, 145, 253, 15, 205)
    assert tuple(magic("dynamic sized chunk index")) == (28, 145, 78, 165, 25, 186, 179, 205)


def test_signature() -> None:
    """The known answer of datastore.md, "Signature"."""
    derived = hashlib.scrypt(b"test", salt=b"", n=65_536, r=8, p=1, maxmem=1 << 27, dklen=32)
    files = [
        {"filename": "test1.img.fidx", "crypt-mode": "encrypt", "size": 200, "csum": "01" * 32},
        {"filename": "abc.blob", "crypt-mode": "none", "size": 200, "csum": "02" * 32},
    ]
    manifest = {"backup-type": "host", "backup-id": "elsa", "backup-time": 1_593_179_765}
    assert signature(manifest | {"files": files, "unprotected": {}}, Key(derived)) == (
        "d7b446fb7db081662081d4b40fedd858a1d6307a5aff4ecff7d5bf4fd35679e9"
    )


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(
    "content",
    [b"", b"a", b"a" * 15, b"a" * 16, noise("x", 300_000), bytes(5 << 20), text("line", 200_000)],
    ids=len,
)
def test_frames_are_what_a_library_reads(content: bytes, sized: bool) -> None:
    frame = zstd_frame(content, sized=sized)
    assert zstandard.ZstdDecompressor().decompressobj().decompress(frame) == content
    if sized:
        assert zstandard.frame_content_size(frame) == len(content)


def test_a_library_s_frame_is_the_sentence() -> None:
    reader = zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(ZSTD_OF_A_LIBRARY) == SENTENCE
