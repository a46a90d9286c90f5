"""The contents of sample archives: reproducible pieces, one for each chunk.

A piece is known by its label; its bytes follow from the seed and the label alone, so two archives
that use the same piece share a chunk. A piece begins with noise, which does not compress, and goes
on with text, which does: the noise decides how much of the disk it takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

FIXED_PIECE_SIZE: Final = 4 << 20
"""Plain bytes of a chunk of an image (protocol/datastore.md, "Sizes")."""
_MIN_DYNAMIC_SIZE: Final = 64 << 10
_MAX_MEAN_DYNAMIC_SIZE: Final = 4 << 20
_MEAN_NOISE: Final = 5 << 19
"""Bytes of noise in a piece, on average, where the budget is large enough: 2.5 MiB of 4."""
_ROUGH: Final = 1.6
_SMOOTH: Final = 0.4
"""Noise of every other piece, and of those between, as parts of the mean."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The content of one chunk: ``size`` bytes of which the first ``noise`` do not compress."""

    label: str
    size: int
    noise: int


class SampleBytes:
    """Reproducible bytes and numbers, from a seed and labels."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def noise(self, label: str, size: int) -> bytes:
        """``size`` bytes that do not compress: the key stream of AES-CTR, at 1 GB/s."""
        cipher = Cipher(AES(self._hash(label)), CTR(bytes(16))).encryptor()
        return cipher.update(bytes(size))

    def number(self, label: str, low: int, high: int) -> int:
        """A number from ``low`` to ``high``, both possible."""
        return low + int.from_bytes(self._hash(label)[:8], "big") % (high - low + 1)

    def content(self, piece: Piece) -> bytes:
        """The bytes of a piece."""
        line = f"{piece.label}: nothing to see on this line of a sample archive\n".encode()
        smooth = piece.size - piece.noise
        text = line * (smooth // len(line) + 1)
        return self.noise(piece.label, piece.noise) + text[:smooth]

    def _hash(self, label: str) -> bytes:
        return hashlib.sha256(f"{self.seed}/{label}".encode()).digest()


ZEROS: Final = Piece("zeros", FIXED_PIECE_SIZE, 0)
"""A stretch of an image that was never written: like any text piece, it all but vanishes."""


def image_pieces(label: str, budget: int) -> list[Piece]:
    """Pieces of an image that take about ``budget`` bytes on disk."""
    return [
        Piece(f"{label}#{number}", FIXED_PIECE_SIZE, min(noise, FIXED_PIECE_SIZE))
        for number, noise in enumerate(_noise(budget))
    ]


def stream_pieces(source: SampleBytes, label: str, budget: int) -> list[Piece]:
    """Pieces of differing sizes, as of a file archive, that take about ``budget`` bytes."""
    noise = list(_noise(budget))
    mean = min(max(2 * budget // len(noise), 2 * _MIN_DYNAMIC_SIZE), _MAX_MEAN_DYNAMIC_SIZE)
    pieces = []
    for number, wanted in enumerate(noise):
        piece_label = f"{label}#{number}"
        size = source.number(piece_label, mean // 2, mean * 3 // 2)
        pieces.append(Piece(piece_label, size, min(wanted, size)))
    return pieces


def changed(pieces: list[Piece], when: str, every: int = 16) -> list[Piece]:
    """The same archive some time later: one of ``every`` pieces is another, see below."""
    later = list(pieces)
    for position in changed_positions(len(pieces), every):
        later[position] = replace(pieces[position], label=f"{pieces[position].label}@{when}")
    return later


def changed_positions(count: int, every: int = 16) -> range:
    """Where an archive of ``count`` chunks changes: at least once, but one of a single chunk never.

    The last chunk, often a short one, stays as it is.
    """
    return range(count // 3, count - 1, every)


def _noise(budget: int) -> Iterator[int]:
    """Bytes of noise for each of the pieces that ``budget`` is spread over; at least six."""
    count = max(6, round(budget / _MEAN_NOISE))
    for number in range(count):
        yield int(budget / count * (_SMOOTH if number % 2 else _ROUGH))
