from typing import Final, NamedTuple, Self, final

MOST_MEMBERS: Final[int]

class ReadCounts(NamedTuple):
    read_chunks: int
    read_bytes: int
    taken_chunks: int
    taken_bytes: int
    again_chunks: int
    again_bytes: int

@final
class SharedChunks:
    @property
    def members(self) -> int: ...
    def __new__(cls, room: int, members: int) -> Self: ...
    def leave(self, member: int) -> None: ...
    def counts(self, member: int) -> ReadCounts: ...
    @property
    def held_bytes(self) -> int: ...
    @property
    def most_held_bytes(self) -> int: ...
