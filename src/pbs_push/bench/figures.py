"""What is measured, as values. Rates are in bytes a second unless they say otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MachineFigures:
    """What one core of this machine does; ``cores`` are those that this process may use.

    ``tls`` encrypts as a push does (``tls_cipher``), ``crc32`` checks chunks (``crc32_backend``).
    ``sha256``, ``zstd_compress``, ``zstd_decompress`` (level 1, plain bytes) and ``aes_gcm`` are
    the work of making and encrypting chunks. ``index_csum`` is of index entries. The last two are
    digests a second, of a set of ``digests`` digests.
    """

    cores: int
    cpu: str
    tls_cipher: str
    tls: float
    crc32_backend: str
    crc32: float
    sha256: float
    zstd_compress: float
    zstd_decompress: float
    aes_gcm: float
    index_csum: float
    digests: int
    digests_inserted_per_s: float
    digests_looked_up_per_s: float


@dataclass(frozen=True, slots=True)
class ReadRate:
    """Chunks read with ``readers`` reads at once; encoded bytes, as they lie on disk."""

    readers: int
    bytes_per_s: float
    chunks_per_s: float


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """How fast a sample of a datastore's chunks is read.

    ``cold``: after the kernel was asked to forget each file, which it may not do. ``warm``: from
    memory, of as much of the sample as was kept there (``warm_bytes``).
    """

    path: str
    sampled_chunks: int
    sampled_bytes: int
    warm_bytes: int
    cold: tuple[ReadRate, ...]
    warm: tuple[ReadRate, ...]


@dataclass(frozen=True, slots=True)
class UploadRate:
    """What ``connections`` connections carried together, counted as the target answered."""

    connections: int
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class LinkFigures:
    """The way to a target, and what the target takes.

    ``connect_s``: TCP and TLS. ``begin_s``: from there to a backup session that may be written to.
    ``round_trip_s``: median of ``round_trips`` small requests on that connection.
    ``most_in_flight``: bytes that this system lets one connection have on the way, None if unknown.
    ``congestion_control``: the one that TCP uses here unless told otherwise, "" if unknown.
    """

    repository: str
    version: str
    connect_s: float
    begin_s: float
    round_trip_s: float
    round_trips: int
    most_in_flight: int | None
    congestion_control: str
    uploads: tuple[UploadRate, ...]
