"""The files of a chunk store, named by digest (protocol/datastore.md, "Layout")."""

from pbs_push._native.chunk_errors import chunk_path
from pbs_push._native.chunks import CHUNK_FILE_MAX, read_chunk, read_chunk_into

__all__ = ["CHUNK_FILE_MAX", "chunk_path", "read_chunk", "read_chunk_into"]
