"""How many removals are too many (protocol/push.md, "Held back"): then nothing is removed."""

from __future__ import annotations

from dataclasses import dataclass

from pbs_push.access.values import parse_number
from pbs_push.errors import ConfigError
from pbs_push.units import counted

_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class MaxRemovals:
    """A limit of removals: ``count`` snapshots, or ``percent`` of those at the target.

    Raises ConfigError for a limit out of range.
    """

    count: int | None = None
    percent: float | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise ConfigError(f"max-removals {self.count}: must be at least 0")
        if self.percent is not None and not 0 <= self.percent <= _HUNDRED:
            raise ConfigError(f"max-removals {self.percent:g}%: must be between 0% and 100%")

    @classmethod
    def parse(cls, text: str) -> MaxRemovals:
        """Read ``N`` or ``P%``. Raises ConfigError."""
        if not text.endswith("%"):
            return cls(count=parse_number(text))
        digits = text.removesuffix("%").strip()
        if not digits.replace(".", "", 1).isdecimal() or float(digits) > _HUNDRED:
            raise ConfigError(f"'{text}' is not a percentage between 0% and 100%")
        return cls(percent=float(digits))

    def exceeded_by(self, planned: int, at_target: int) -> str | None:
        """Why so many removals, of so many snapshots at the target, are too many; else None."""
        if self.count is not None and planned > self.count:
            gone = counted(planned, "snapshot")
            return f"{gone} would be removed, more than max-removals {self.count}"
        if self.percent is not None and planned * _HUNDRED > at_target * self.percent:
            return (
                f"{planned} of {at_target} snapshots at the target would be removed, "
                f"more than max-removals {self.percent:g} %"
            )
        return None
