"""httpx, imported without what it would take along: half of the CPU of its import."""

from __future__ import annotations

import importlib
import sys
from typing import Final

_EXTRAS: Final = (
    "httpx._main",  # its own command line, with rich and pygments
    "anyio",
    "trio",
    "h2",
    "socksio",
    "zstandard",
    "brotli",
    "brotlicffi",
)
"""What httpx and httpcore import where it is installed, and do without where it is not.

Nobody here has a use for it: coroutines, HTTP/2, proxies, compressions that are not asked for.
"""


def import_httpx_alone() -> None:
    """Import it as if the rest were not installed. Only for a process where nobody else needs that.

    What was imported before stays as it is.
    """
    hidden = [name for name in _EXTRAS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    try:
        for module in ("httpx", "httpcore"):  # which httpx imports when a client is made
            importlib.import_module(module)
    finally:
        for name in hidden:
            del sys.modules[name]
