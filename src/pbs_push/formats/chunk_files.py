"""The files of a chunk store, named by digest (protocol/datastore.md, "Layout")."""

from pbs_push._native.chunk_errors import chunk_path
from pbs_push._native.chunks import read_chunk

__all__ = ["chunk_path", "read_chunk"]
