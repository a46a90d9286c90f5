def read_chunk(chunks_fd: int, digest: bytes, chunks_path: str) -> bytes:
    """Read the chunk of ``digest`` (32 bytes) from the folder ``.chunks`` open as ``chunks_fd``.

    Returns the blob as it lies on disk, its magic, length and CRC-32 checked; what is in it is not
    looked at. ``chunks_path`` is that folder, for messages. Raises ChunkError where the file is
    missing, corrupt or cannot be read, ValueError for a digest of another length. The GIL is
    released.
    """
