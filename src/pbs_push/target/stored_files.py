"""The files of a snapshot as sessions give them out: as they lie on disk, refusals included.

See protocol/backup.md, "GET previous", and protocol/reader.md, "Requests".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pbs_push.errors import PbsPushError, SourceError
from pbs_push.formats.index import Index, open_index
from pbs_push.names import INDEX_SUFFIXES
from pbs_push.target.answers import bad_request, not_found


def read_stored_file(path: Path) -> bytes:
    """A blob, or an index that ``open_stored_index`` took. Raises Refusal for another name."""
    if path.name.endswith(INDEX_SUFFIXES):
        return path.read_bytes()
    if not path.name.endswith(".blob"):
        raise bad_request(f'unknown archive type: "{path.name}"')
    try:
        return path.read_bytes()
    except OSError:
        raise not_found(f'open file "{path}" failed - not found') from None


def open_stored_index(path: Path) -> Index:
    """An index of a snapshot. Raises Refusal for one that is not there or damaged."""
    kind = "fixed" if path.suffix == ".fidx" else "dynamic"
    try:
        return open_index(path)
    except SourceError:
        reason = "No such file or directory (os error 2)"
    except PbsPushError as error:
        reason = str(error)
    raise bad_request(f'Unable to open {kind} index "{path}" - {reason}')


def index_chunks(index: Index) -> Iterator[tuple[bytes, int]]:
    """Digest and length in bytes of each entry."""
    digests = index.digests.tobytes()
    start = 0
    for position, end in enumerate(index.end_offsets.tolist()):
        yield digests[position * 32 : position * 32 + 32], end - start
        start = end
