"""The figures as rows of name, value and text: what the text table and the HTML report show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pbs_push.bench.words import millions_text, number_text, time_text
from pbs_push.pages.bars import Row, Table
from pbs_push.units import counted, rate_text, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pbs_push.bench.figures import LinkFigures, MachineFigures, ReadRate, StoreFigures
    from pbs_push.bench.report import BenchReport


def tables(report: BenchReport) -> Iterator[Table]:
    """All that was measured, in the order in which people read it."""
    if report.link is not None:
        yield from _link_tables(report.link)
    if report.store is not None:
        yield from _store_tables(report.store)
    if report.machine is not None:
        yield from _machine_tables(report.machine)


def _machine_tables(machine: MachineFigures) -> Iterator[Table]:
    yield Table(
        "This machine, one core",
        f"{machine.cpu}, {counted(machine.cores, 'core')} to use; {machine.tls_cipher}",
        _rows(
            rate_text,
            ("TLS, encrypting", machine.tls),
            (f"CRC-32 ({machine.crc32_backend})", machine.crc32),
            ("SHA-256", machine.sha256),
            ("zstd level 1, compress", machine.zstd_compress),
            ("zstd, decompress", machine.zstd_decompress),
            ("AES-256-GCM, chunks", machine.aes_gcm),
            ("index csum", machine.index_csum),
        ),
    )
    yield Table(
        "Sets of digests",
        f"{machine.digests:,} digests, as many as a 1 TiB image has chunks; one core",
        _rows(
            millions_text,
            ("insert", machine.digests_inserted_per_s),
            ("look up", machine.digests_looked_up_per_s),
        ),
    )


def _store_tables(store: StoreFigures) -> Iterator[Table]:
    yield Table(
        f"Datastore {store.path}, cold",
        f"{counted(store.sampled_chunks, 'chunk')} of {size_text(store.sampled_bytes)} chosen at "
        "random; the kernel was asked to forget them first, which is best effort",
        _read_rows(store.cold, "plain"),
    )
    yield Table(
        f"Datastore {store.path}, warm",
        f"{size_text(store.warm_bytes)} of the same, from memory",
        _read_rows(store.warm, "warm"),
    )


def _read_rows(rates: Sequence[ReadRate], kind: str) -> tuple[Row, ...]:
    return tuple(
        Row(
            counted(rate.readers, "read") + (" at once" if rate.readers > 1 else ""),
            rate.bytes_per_s,
            f"{rate_text(rate.bytes_per_s)}, {number_text(rate.chunks_per_s)} chunks/s",
            kind,
        )
        for rate in rates
    )


def _link_tables(link: LinkFigures) -> Iterator[Table]:
    yield Table(
        f"Upload to {link.repository}",
        f"version {link.version}; through speedtest, as the target answers",
        tuple(
            Row(
                counted(upload.connections, "connection"),
                upload.bytes_per_s,
                rate_text(upload.bytes_per_s),
            )
            for upload in link.uploads
        ),
    )
    yield Table(
        "Waiting for the target",
        f"the round trip is the median of {link.round_trips} on a warm connection",
        _rows(
            time_text,
            ("round trip", link.round_trip_s),
            ("connect (TCP and TLS)", link.connect_s),
            ("begin a snapshot", link.begin_s),
        ),
    )


def _rows(text: Callable[[float], str], *figures: tuple[str, float]) -> tuple[Row, ...]:
    return tuple(Row(label, value, text(value)) for label, value in figures)
