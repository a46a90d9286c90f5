"""What this machine's cores do: the calculations of a push, one at a time, on one core."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import zstandard

from pbs_push._native.blob import crc32, crc32_backend
from pbs_push._native.digests import DigestSet
from pbs_push._native.index import open_index
from pbs_push.bench.figures import MachineFigures
from pbs_push.bench.timing import rate_of
from pbs_push.bench.tls_pair import TlsSender
from pbs_push.demo.pieces import SampleBytes
from pbs_push.formats.index import FIXED_CHUNK_SIZE
from pbs_push.formats.index_writer import write_fixed_index
from pbs_push.formats.keys import CryptKey

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from numpy.typing import NDArray

CHUNK_BYTES: Final = FIXED_CHUNK_SIZE
DIGESTS: Final = 1 << 18
"""As many as a 1 TiB image has chunks."""
_DIGEST_BYTES: Final = 32
_ZSTD_LEVEL: Final = 1


class MachineBench:
    """Measures one thing after the other, each for ``seconds``.

    ``notify`` is told what comes next. Raises Cancelled soon after ``cancelled`` is set.
    """

    def __init__(
        self, seconds: float, notify: Callable[[str], None], cancelled: threading.Event
    ) -> None:
        self._seconds = seconds
        self._notify = notify
        self._cancelled = cancelled

    def measure(self) -> MachineFigures:
        """All figures. Takes about ten times ``seconds``."""
        content = sample_content()
        tls = TlsSender()
        compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        decompressor = zstandard.ZstdDecompressor()
        frame = compressor.compress(content)
        key = CryptKey(os.urandom(_DIGEST_BYTES))
        digests = np.frombuffer(os.urandom(DIGESTS * _DIGEST_BYTES), np.uint8)
        rows = digests.reshape(DIGESTS, _DIGEST_BYTES)
        return MachineFigures(
            cores=len(os.sched_getaffinity(0)),
            cpu=cpu_name(),
            tls_cipher=tls.cipher,
            tls=self._bytes("TLS", lambda: tls.send(content)),
            crc32_backend=crc32_backend(),
            crc32=self._bytes("CRC-32", lambda: crc32(content)),
            sha256=self._bytes("SHA-256", lambda: hashlib.sha256(content).digest()),
            zstd_compress=self._bytes("zstd", lambda: compressor.compress(content)),
            zstd_decompress=self._bytes("zstd", lambda: decompressor.decompress(frame)),
            aes_gcm=self._bytes("AES-256-GCM", lambda: key.encrypt(content)),
            index_csum=self._index_csum(rows),
            digests=DIGESTS,
            digests_inserted_per_s=self._rate("digest sets", lambda: _set_of(rows), DIGESTS),
            digests_looked_up_per_s=self._looked_up(rows),
        )

    def _bytes(self, what: str, work: Callable[[], object]) -> float:
        return self._rate(what, work, CHUNK_BYTES)

    def _rate(self, what: str, work: Callable[[], object], amount: int) -> float:
        self._notify(f"this machine: {what}")
        return rate_of(work, amount, self._seconds, self._cancelled)

    def _index_csum(self, rows: NDArray[np.uint8]) -> float:
        with tempfile.TemporaryDirectory(prefix="pbs-push-bench-") as directory:
            path = Path(directory) / "bench.fidx"
            write_fixed_index(path, rows, DIGESTS * FIXED_CHUNK_SIZE)
            with open_index(path) as index:
                return self._rate("index csum", index.csum, DIGESTS * _DIGEST_BYTES)

    def _looked_up(self, rows: NDArray[np.uint8]) -> float:
        known = _set_of(rows)
        return self._rate("digest sets", lambda: known.contains(rows), DIGESTS)


def sample_content() -> bytes:
    """A chunk's content that zstd makes about half as long: noise, digits of noise, repetition."""
    source = SampleBytes(0)
    part = CHUNK_BYTES // 4
    noise = source.noise("noise", part)
    digits = source.noise("digits", part).hex().encode()
    lines = source.noise("lines", part // 64)
    return noise + digits + lines * 64


def _set_of(rows: NDArray[np.uint8]) -> DigestSet:
    made = DigestSet(len(rows))
    made.insert(rows)
    return made


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()
