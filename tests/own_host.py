"""A host without PBS, whatever runs on the one that the tests run on.

``COMMAND`` is ``pbs-push`` in a process of its own on such a host: this module, run as a script.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from pbs_push.access import host
from pbs_push.cli import main
from pbs_push.source import datastore

COMMAND: Final = [sys.executable, __file__]
PLACES_OF_PBS: Final = (str(host.DEFAULT_CONFIG_DIR), str(datastore.RUN_FOLDER))

_LOOKS: Final = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.chown"}


def be_without_pbs() -> None:
    """From now on no PBS is found in this process; where the real one's files lie is no place."""
    nowhere = Path(__file__).with_name("no-pbs")
    assert not nowhere.exists()
    host.DEFAULT_CONFIG_DIR = nowhere  # type: ignore[misc]
    datastore.RUN_FOLDER = nowhere  # type: ignore[misc]
    # Where lines are counted, each thread that begins tells the hook of it: another one that begins
    # while that runs cannot be traced then (CPython before 3.12), and dies.
    if sys.gettrace() is None:
        sys.addaudithook(_refuse_places_of_pbs)


def _refuse_places_of_pbs(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _LOOKS or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path = os.fsdecode(arguments[0])
    if path.startswith(PLACES_OF_PBS):
        raise AssertionError(f"a test looks at the host's {path}: {event}")


if __name__ == "__main__":
    be_without_pbs()
    main()
