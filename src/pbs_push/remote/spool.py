"""An index, downloaded or made, that is too large for memory, in a file without a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pbs_push.errors import PbsPushError, os_reason
from pbs_push.formats.index import open_index_again

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pbs_push.formats.index import Index

_LASTING: Final = Path("/var/tmp")  # noqa: S108 (the file is made by tempfile)
"""On disk where the other folder for temporary files is in memory, as on Debian 13."""


class Spool:
    """What has come of a body; in ``TMPDIR``, or else in /var/tmp.

    The file has no name, so that nothing is left of it however this process ends.
    Where it cannot be kept, that is an error: going on without the index would be to send again
    all that it lists.
    """

    def __init__(self) -> None:
        """Make the file. Raises PbsPushError, as ``write`` does."""
        self._folder = "a folder for temporary files"
        try:
            self._folder = _folder()
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 (``index`` closes it)
                dir=self._folder, buffering=0
            )
        except OSError as error:
            raise self._error(error) from error

    def write(self, part: Buffer) -> None:
        """Add a part of the body. Raises PbsPushError, for a disk that is full, say."""
        left = memoryview(part)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._error(error) from error

    def index(self, name: str) -> Index:
        """The body, now whole, as an index that messages call ``name``; the file goes with it.

        Raises IndexFormatError, SourceError.
        """
        with self._file:
            return open_index_again(self._file.fileno(), name)

    def close(self) -> None:
        """Give up the file; an ``index`` of it stays."""
        self._file.close()

    def _error(self, error: OSError) -> PbsPushError:
        return PbsPushError(
            f"cannot keep an index for the time of the push in {self._folder}: "
            f"{os_reason(error)}; TMPDIR may name another folder"
        )


def _folder() -> str:
    if "TMPDIR" not in os.environ and os.access(_LASTING, os.W_OK):
        return str(_LASTING)
    return tempfile.gettempdir()
