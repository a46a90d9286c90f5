"""Index files, the chunk lists of archives (protocol/datastore.md, "Index files").

Reading maps the file and gives views into it; that part is native. ``index_writer`` makes them.
"""

from typing import Final

from pbs_push._native.index import Index, open_index, open_index_again, parse_index

__all__ = [
    "FIXED_CHUNK_SIZE",
    "HEADER_SIZE",
    "Index",
    "open_index",
    "open_index_again",
    "parse_index",
]

HEADER_SIZE: Final = 4096
FIXED_CHUNK_SIZE: Final = 4 << 20
"""Plain bytes of each chunk of an image but the last, and the only size that the protocol can write
(protocol/datastore.md, "Sizes")."""
