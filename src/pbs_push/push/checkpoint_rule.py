"""When a long snapshot is committed in parts (protocol/push.md, "Checkpoints")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pbs_push.access.values import parse_duration, parse_size
from pbs_push.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CheckpointRule:
    """How much of a snapshot is sent from one checkpoint to the next.

    ``size`` plain bytes, or as much as is sent in ``seconds``; neither: as it pays, for what is
    long and where checkpoints can be removed again. ``off``: there are none. Raises ConfigError for
    values out of range.
    """

    size: int | None = None
    seconds: float | None = None
    off: bool = False

    def __post_init__(self) -> None:
        if (self.size is not None) + (self.seconds is not None) + self.off > 1:
            raise ConfigError("checkpoint: it is either a size, or a time, or off")
        if self.size is not None and self.size < 1:
            raise ConfigError("checkpoint: the size must be at least 1 byte")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError("checkpoint: the time must be more than 0 seconds")

    @classmethod
    def parse(cls, text: str) -> CheckpointRule:
        """Read ``auto``, ``off``, a size (``4GiB``) or a time (``15m``). Raises ConfigError.

        A number needs its unit, since both may be meant: bytes and seconds.
        """
        if text in ("auto", "off"):
            return cls(off=text == "off")
        if text.strip(" \t")[-1:] in ("s", "m", "h", "d"):
            return cls(seconds=parse_duration(text))
        if not text.strip(" \t")[-1:].isalpha():
            raise ConfigError(
                f"'{text}' is not a checkpoint: write auto, off, a size such as 4GiB, or a time "
                "such as 15m"
            )
        return cls(size=parse_size(text))

    @property
    def by_name(self) -> bool:
        """Whether somebody asked for checkpoints, and wants to be told where there are none."""
        return self.size is not None or self.seconds is not None


AUTO: Final = CheckpointRule()
