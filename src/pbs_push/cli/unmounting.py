"""``unmount-on-done`` of a job: its removable datastore is unmounted when the push has ended.

By PBS's own command, which tells PBS of it and waits for tasks that use the datastore
(protocol/access.md, "Sync jobs").
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from pbs_push.cli.interrupts import run_interruptibly
from pbs_push.cli.lines import one_line
from pbs_push.cli.privacy import without_secrets
from pbs_push.errors import ConfigError, PbsPushError, os_reason

COMMAND: Final = "proxmox-backup-manager"
LIMIT_S: Final = 600.0
"""How long it may take: PBS waits for its own tasks."""

_ADMIN_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""What a timer's or a user's PATH may lack."""
_MAX_SAID: Final = 500


@dataclass(slots=True)
class Unmounting:
    """Unmounts the datastore ``store`` of this host, with ``program``."""

    store: str
    program: str
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @classmethod
    def of(cls, store: str) -> Unmounting:
        """Raises ConfigError where PBS's command is not here: known before the push, not after."""
        path = f"{os.environ.get('PATH') or os.defpath}:{_ADMIN_FOLDERS}"
        program = shutil.which(COMMAND, path=path)
        if program is None:
            raise ConfigError(
                f"datastore '{store}' is to be unmounted afterwards (unmount-on-done), and there "
                f"is no {COMMAND} here: run the job on the host of the Proxmox Backup Server"
            )
        return cls(store, program)

    @property
    def what(self) -> str:
        """What is done, for messages."""
        return f"unmounting datastore '{self.store}'"

    def run(self) -> None:
        """Do it. Raises PbsPushError, Cancelled; an interruption ends the command."""
        run_interruptibly(partial(self._run), self._stop, why_late=f"{self.what} did not end")

    def _run(self) -> None:
        words = [self.program, "datastore", "unmount", self.store]
        try:
            # Of a session of its own: Ctrl-C is for us to pass on.
            self._child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=without_secrets(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            raise PbsPushError(f"'{self.program}': {os_reason(error)}") from None
        try:
            said, _ = self._child.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
            raise PbsPushError(
                f"'{self.program}' has not ended within {LIMIT_S:g} s: does somebody use the "
                "datastore? It may still be mounted"
            ) from None
        if status := self._child.returncode:
            text = one_line(said.decode("utf-8", "replace"))[-_MAX_SAID:]
            how = f"ended with status {status}" if status > 0 else f"was ended by signal {-status}"
            raise PbsPushError(f"'{self.program}' {how}" + (f": {text}" if text else ""))

    def _stop(self) -> None:
        if self._child is not None:
            with suppress(OSError):
                self._child.terminate()
