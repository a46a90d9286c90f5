"""What a verification keeps in a file, so that the next one goes on where it ended.

A line of JSON says of which datastore it is, then come records of the chunks that were checked, and
the SHA-256 of all of it. The file is written anew each time, and takes the old one's place whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pbs_push.errors import ConfigError, os_reason
from pbs_push.verify.seen import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pbs_push.source.datastore import Datastore

_FORMAT: Final = "pbs-push-verify-state"
_VERSION: Final = 1
_MAX_HEAD: Final = 64 << 10
_CSUM_SIZE: Final = 32
RECORD: Final = np.dtype([("digest", "V32"), ("size", "<u4"), ("mode", "u1")])
"""A chunk that was checked, as ``Seen.rows`` takes it."""


class StateDamaged(ConfigError):
    """A state file cannot be used: it is damaged, or of another datastore, or not to be trusted."""


class StateFile:
    """The file at ``path`` for the verification of ``source``."""

    def __init__(self, path: Path, source: Datastore) -> None:
        self.path: Final = path
        self._head: Final = {"format": _FORMAT, "version": _VERSION, "source": _identity(source)}

    def load(self) -> NDArray[np.void]:
        """The records; none where there is no file.

        Raises StateDamaged for one that cannot be used, ConfigError for one that cannot be read.
        """
        try:
            content = self._read()
        except FileNotFoundError:
            return np.empty(0, dtype=RECORD)
        except OSError as error:
            raise ConfigError(f"state file {self.path}: {os_reason(error)}") from error
        body, csum = content[:-_CSUM_SIZE], content[-_CSUM_SIZE:]
        if hashlib.sha256(body).digest() != csum:
            raise self._unusable("it is damaged")
        head, newline, records = body.partition(b"\n")
        if _parsed(head) != self._head or not newline or len(records) % RECORD.itemsize:
            raise self._unusable("it is of another datastore, or of another version of pbs-push")
        found = np.frombuffer(records, dtype=RECORD)
        if len(found) and int(found["mode"].max()) > max(Mode):
            raise self._unusable("it is damaged")
        return found

    def save(self, parts: Iterable[NDArray[np.void]]) -> None:
        """Write it anew. Raises ConfigError where that cannot be done."""
        try:
            self._write(parts)
        except OSError as error:
            raise ConfigError(
                f"state file {self.path} cannot be written: {os_reason(error)}"
            ) from error

    def remove(self) -> None:
        """The verification came to its end: the next one begins anew."""
        with suppress(OSError):
            self.path.unlink()

    def _read(self) -> bytes:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:  # noqa: PTH123  (a descriptor has no path)
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise self._unusable("it is not a regular file")
            # Who could write it could have a damaged chunk taken for one that was checked.
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
                raise self._unusable("others than its user may have written it")
            return file.read()

    def _write(self, parts: Iterable[NDArray[np.void]]) -> None:
        folder = self.path.absolute().parent
        # Made with mode 0600; O_EXCL, so that no link that lies there leads elsewhere.
        fd, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        try:
            with open(fd, "wb") as file:  # noqa: PTH123
                hasher = hashlib.sha256()
                head = json.dumps(self._head).encode() + b"\n"
                for piece in (head, *(part.tobytes() for part in parts)):
                    hasher.update(piece)
                    file.write(piece)
                file.write(hasher.digest())
                file.flush()
                os.fsync(fd)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _unusable(self, why: str) -> StateDamaged:
        return StateDamaged(f"state file {self.path}: {why}")


def _identity(source: Datastore) -> dict[str, Any]:
    """Which datastore it is. Numbers of devices may be others after a boot."""
    base, chunks = source.identity()
    return {
        "path": os.fsencode(source.path.resolve()).hex(),
        "inodes": [None if one is None else one[1] for one in (base, chunks)],
    }


def _parsed(head: bytes) -> Any:
    try:
        return json.loads(head[:_MAX_HEAD])
    except (ValueError, RecursionError):
        return None


def records_of(
    digests: NDArray[np.uint8], sizes: NDArray[np.uint64], mode: Mode
) -> NDArray[np.void]:
    """Records of chunks that were checked."""
    made = np.empty(len(digests), dtype=RECORD)
    made["digest"] = np.ascontiguousarray(digests).view("V32").reshape(-1)
    made["size"] = sizes
    made["mode"] = mode
    return made
