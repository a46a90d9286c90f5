"""Importing a command's modules when it is called: those it needs, and without collections."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager


class _Process:
    """Whether this process is the command's own, where nobody else can miss what is left out."""

    is_ours = False


def begin() -> None:
    """The process is the command's own. Until ``loading`` ends, all that is made stays."""
    _Process.is_ours = True
    gc.disable()


@contextmanager
def loading(*, rest: bool = False) -> Iterator[None]:
    """Within, the modules of a command are imported; behind it, its work begins.

    ``rest``: it makes REST requests.
    """
    if not _Process.is_ours:
        yield
        return
    if rest:
        from pbs_push.remote.httpx_alone import import_httpx_alone  # noqa: PLC0415

        import_httpx_alone()
    yield
    gc.freeze()
    gc.enable()


def spare_threads() -> None:
    """Should numpy be imported from now on: let it start none for linear algebra, one a core.

    Not before other programs were run, which would inherit that.
    """
    if _Process.is_ours:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
