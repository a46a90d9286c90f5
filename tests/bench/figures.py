"""Made-up figures."""

from __future__ import annotations

from pbs_push.bench.figures import (
    LinkFigures,
    MachineFigures,
    ReadRate,
    StoreFigures,
    UploadRate,
)

MIB = 1 << 20


def machine(*, cores: int = 4, tls: float = 2000, crc32: float = 20_000) -> MachineFigures:
    """Rates in MiB/s."""
    return MachineFigures(
        cores=cores,
        cpu="Made Up <9000> & more",
        tls_cipher="TLSv1.3 TLS_AES_256_GCM_SHA384",
        tls=tls * MIB,
        crc32_backend="pclmul",
        crc32=crc32 * MIB,
        sha256=600.0 * MIB,
        zstd_compress=500.0 * MIB,
        zstd_decompress=2000.0 * MIB,
        aes_gcm=2500.0 * MIB,
        index_csum=600.0 * MIB,
        digests=262_144,
        digests_inserted_per_s=25e6,
        digests_looked_up_per_s=30e6,
    )


def store(cold: dict[int, float], *, warm: float = 5000) -> StoreFigures:
    """``cold``: MiB/s by reads at once."""
    return StoreFigures(
        path="/mnt/<datastore>",
        sampled_chunks=1000,
        sampled_bytes=2_000 * MIB,
        warm_bytes=500 * MIB,
        cold=tuple(ReadRate(n, rate * MIB, rate / 2) for n, rate in cold.items()),
        warm=tuple(ReadRate(n, warm * MIB, warm / 2) for n in cold),
    )


def link(
    round_trip_ms: float,
    uploads: dict[int, float],
    *,
    begin_ms: float = 20,
    most_in_flight: int | None = 64 << 20,
    congestion_control: str = "bbr",
) -> LinkFigures:
    """``uploads``: MiB/s by connections."""
    return LinkFigures(
        repository="root@pam!push@backup.example.org:8007:offsite",
        version="4.2.3",
        connect_s=0.01,
        begin_s=begin_ms / 1000,
        round_trip_s=round_trip_ms / 1000,
        round_trips=50,
        most_in_flight=most_in_flight,
        congestion_control=congestion_control,
        uploads=tuple(UploadRate(n, rate * MIB) for n, rate in uploads.items()),
    )


SSD = {1: 800.0, 2: 1500.0, 4: 2600.0, 8: 3000.0, 16: 3100.0}
SPINNING = {1: 160.0, 2: 150.0, 4: 120.0, 8: 90.0, 16: 70.0}
DEEP_QUEUE = {1: 50.0, 2: 100.0, 4: 200.0, 8: 400.0, 16: 800.0}
