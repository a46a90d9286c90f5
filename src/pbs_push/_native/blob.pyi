from typing import Any

from numpy.typing import NDArray
from typing_extensions import Buffer

def crc32(data: Buffer | NDArray[Any], value: int = 0) -> int:
    """CRC-32 (IEEE, as ``zlib.crc32``) of contiguous ``data``; ``value`` is that of what precedes.

    ``data`` must not change during the call: the GIL is released. Raises TypeError for an object
    that lends no bytes, ValueError or BufferError for bytes that are not contiguous, OverflowError
    for a ``value`` outside 32 bits.
    """

def crc32_backend() -> str:
    """How ``crc32`` works on this CPU: ``portable``, ``pclmul`` or ``vpclmul``."""
