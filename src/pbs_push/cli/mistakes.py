"""Mistakes that are told together, so that whoever made them mends them in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pbs_push.errors import ConfigError


class Mistakes:
    """Texts of what is wrong, in the order in which it was found; each is told once."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Tell this, too."""
        self._texts[text] = None

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """What is wrong within is added, and ends no more than that."""
        try:
            yield
        except ConfigError as error:
            self.add(str(error))

    def tell(self) -> None:
        """Raise ConfigError with all of them, if there are any."""
        if self._texts:
            raise ConfigError("; ".join(self._texts))
