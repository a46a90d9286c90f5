"""Which snapshots of the target bad chunks spoil; asked for only where there are some."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

import numpy as np

from pbs_push._native.digests import DigestSet
from pbs_push.errors import Cancelled, PbsPushError
from pbs_push.names import INDEX_SUFFIXES
from pbs_push.verify.copy_check import begin_reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pbs_push.formats.index import Index
    from pbs_push.push.run import Run
    from pbs_push.verify.copies import Copy
    from pbs_push.verify.target_report import BadChunk

_MAX_INDEX: Final = 4 << 30


def find_spoiled(run: Run, chunks: Sequence[BadChunk], copies: Iterable[tuple[Copy, bool]]) -> None:
    """Fill in ``spoils`` of these bad chunks.

    ``copies`` are snapshots whose indexes are the source's, each with whether it was encrypted on
    the way: only then is the target's index read again, since the source's has other digests.
    """
    if not chunks:
        return
    wanted = DigestSet(len(chunks))
    wanted.insert(np.frombuffer(b"".join(one.digest for one in chunks), np.uint8).reshape(-1, 32))
    by_digest = {one.digest: one for one in chunks}
    for copy, keyed in copies:
        try:
            for name, index in _indexes(run, copy, keyed=keyed):
                found = wanted.contains(index.digests)
                for row in np.unique(index.digests[found], axis=0):
                    by_digest[row.tobytes()].spoils.append((copy.place, name))
        except Cancelled:
            raise
        except PbsPushError as error:
            run.note("warning", f"{copy.place.label}: what damage spoils it is not known: {error}")


def _indexes(run: Run, copy: Copy, *, keyed: bool) -> Iterator[tuple[str, Index]]:
    with ExitStack() as stack:
        snapshot = stack.enter_context(run.source.open_snapshot(copy.item))
        names = [
            file.filename
            for file in snapshot.manifest.files
            if file.filename.endswith(INDEX_SUFFIXES)
        ]
        if not keyed:
            for name in names:
                with snapshot.open_index(name) as index:
                    yield name, index
            return
        session = stack.enter_context(closing(begin_reading(run, copy.place)))
        for name in names:
            call = session.index(name, _MAX_INDEX)
            session.wait([call])
            with call.index(name) as index:
                yield name, index
