"""Index files, the chunk lists of archives (protocol/datastore.md, "Index files").

Reading maps the file and gives views into it; that part is native. Making them is for copies
encrypted on the way, samples, tests and the embedded target.
"""

from pbs_push._native.index import Index, open_index, open_index_again, parse_index
from pbs_push.formats.index_writer import (
    DYNAMIC_MAGIC,
    FIXED_CHUNK_SIZE,
    FIXED_MAGIC,
    HEADER_SIZE,
    dynamic_index_bytes,
    fixed_index_bytes,
    write_dynamic_index,
    write_fixed_index,
)

__all__ = [
    "DYNAMIC_MAGIC",
    "FIXED_CHUNK_SIZE",
    "FIXED_MAGIC",
    "HEADER_SIZE",
    "Index",
    "dynamic_index_bytes",
    "fixed_index_bytes",
    "open_index",
    "open_index_again",
    "parse_index",
    "write_dynamic_index",
    "write_fixed_index",
]
