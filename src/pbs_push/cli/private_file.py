"""Files that nobody else is to read: what was backed up, from where to where."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pbs_push.errors import ConfigError, os_reason


def write_private(path: Path, text: str, what: str) -> None:
    """Write a file with mode 0600 that takes the place of one that is there whole.

    Raises ConfigError, which names it as ``what``.
    """
    try:
        # Made with mode 0600; O_EXCL, so that no link that lies there leads elsewhere.
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
        try:
            with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(text)
                file.flush()
                os.fsync(fd)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"{what} {path}: {os_reason(error)}") from None
