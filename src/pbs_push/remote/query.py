"""Parameters of a request as the query of its path."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

if TYPE_CHECKING:
    from collections.abc import Mapping


def query_text(params: Mapping[str, str]) -> str:
    """``name=value&…``, values escaped; names are ours, and need none.

    Most values are numbers and hex digits: what escaping does for others would be half of the work
    of a small request.
    """
    return "&".join(
        f"{name}={value if value.isalnum() and value.isascii() else quote_plus(value)}"
        for name, value in params.items()
    )
