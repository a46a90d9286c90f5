"""What the command's process does so that nobody else on this host sees a secret of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Final

PR_SET_DUMPABLE: Final = 4
"""Of Linux's ``linux/prctl.h``."""
SECRET_VARIABLES: Final = ("PBS_PASSWORD", "PBS_ENCRYPTION_PASSWORD")
"""Of the environment: those whose text is the secret itself."""


def keep_private() -> None:
    """Let the process's memory be written to no file, and be read by no other process of the user.

    What files it makes are the user's alone. Where the system refuses that, it goes on without.
    """
    import ctypes  # noqa: PLC0415  (not before the standard streams are open: cli/app.py)

    os.umask(0o077)
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    # The limit does not hold where a program takes the dumps, as systemd-coredump does.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for another program."""
    return {name: text for name, text in environment.items() if name not in SECRET_VARIABLES}
