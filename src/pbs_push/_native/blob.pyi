from typing import Any

from numpy.typing import NDArray
from typing_extensions import Buffer

def crc32(data: Buffer | NDArray[Any], value: int = 0) -> int: ...
def crc32_backend() -> str: ...
