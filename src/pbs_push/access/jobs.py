"""``sync.cfg``: the sync jobs of this host (protocol/access.md, "Sync jobs")."""

from __future__ import annotations

import enum
import re
from typing import Annotated, ClassVar

from pydantic import Field

from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.model import (
    AuthIdField,
    ConfigModel,
    Flag,
    FromText,
    NamespaceField,
    Number,
    SafeId,
    Size,
)
from pbs_push.access.values import MAX_WORKER_THREADS
from pbs_push.errors import ConfigError
from pbs_push.names import MAX_NAMESPACE_DEPTH, ROOT, Namespace

_TELLING = re.compile(r"remov|vanish|delet|prune|forget|keep|crypt|key", re.IGNORECASE)
"""In the name of a setting that is not known: it may change what is removed, or encrypted."""

_CHOOSING = re.compile(
    r"filter|exclu|inclu|group|namesp|depth|last|only|owner|since|newer|older", re.IGNORECASE
)
"""Likewise: it may change what is pushed, and so, where a job removes, what counts as vanished."""


class SyncDirection(enum.Enum):
    """Which way a job copies, as the file says it."""

    PUSH = "push"
    PULL = "pull"


class JobKind(enum.Enum):
    """What a job does, in words for messages."""

    PUSH = "push"
    PULL = "pull"
    LOCAL_PULL = "local pull"


class SyncJob(ConfigModel):
    """A sync job; what it lacks has the defaults of PBS.

    ``store``/``ns`` are on this host, ``remote_store``/``remote_ns`` at the other end, whichever
    way it copies. Rates are in bytes per second, bursts in bytes. ``max_depth`` None: all levels;
    ``transfer_last`` None: all snapshots. ``owner`` is the local user that the job acts for.
    """

    LISTS: ClassVar[frozenset[str]] = frozenset(("group_filter", "associated_key"))

    name: SafeId
    sync_direction: SyncDirection = SyncDirection.PULL
    store: SafeId
    ns: NamespaceField = Namespace()
    remote: SafeId | None = None
    remote_store: SafeId
    remote_ns: NamespaceField = Namespace()
    owner: AuthIdField = ROOT
    remove_vanished: Flag = False
    max_depth: Number | None = Field(default=None, ge=0, le=MAX_NAMESPACE_DEPTH)
    group_filter: tuple[Annotated[GroupFilter, FromText(GroupFilter, GroupFilter.parse)], ...] = ()
    transfer_last: Number | None = Field(default=None, ge=1)
    encrypted_only: Flag = False
    verified_only: Flag = False
    worker_threads: Number | None = Field(default=None, ge=1, le=MAX_WORKER_THREADS)
    rate_out: Size | None = Field(default=None, ge=1)
    burst_out: Size | None = Field(default=None, ge=1)
    active_encryption_key: SafeId | None = None

    # Without effect on a push that is started here: when PBS itself starts the job (by the clock,
    # or because a removable datastore was mounted), what a pull may take, and old keys.
    associated_key: tuple[str, ...] = ()
    rate_in: Size | None = None
    burst_in: Size | None = None
    schedule: str | None = None
    comment: str | None = None
    run_on_mount: Flag = False

    unmount_on_done: Flag = False
    """What follows the job, where the datastore is removable: not the push's own doing."""

    resync_corrupt: Flag = False
    """For pull jobs only."""

    @property
    def kind(self) -> JobKind:
        """Push, pull, or pull between datastores of this host."""
        if self.sync_direction is SyncDirection.PUSH:
            return JobKind.PUSH
        return JobKind.LOCAL_PULL if self.remote is None else JobKind.PULL

    @property
    def filters(self) -> GroupFilters:
        """Which groups the job takes."""
        return GroupFilters(self.group_filter)

    def require_push(self) -> str:
        """The name of the remote that this job pushes to, if it can be run here as it is.

        Raises ConfigError for another kind of job, and for settings that cannot be honoured:
        ignoring one could push, or remove, something else than the administrator meant. Of others
        that are not known, ``ignored`` tells.
        """
        if self.kind is not JobKind.PUSH:
            raise self.refused(
                f"it is a {self.kind.value} job, and only jobs with 'sync-direction push' can be"
            )
        if self.remote is None:
            raise self.refused("it has no 'remote'; a push needs one")
        if self.burst_out is not None and self.rate_out is None:
            raise self.refused("'burst-out' has no effect without 'rate-out'", "burst-out")
        unsupported = [key for key in self._unknown_keys() if self._must_be_honoured(key)]
        if unsupported:
            raise self.refused(
                f"settings that a push of this version does not have: {', '.join(unsupported)}; "
                "remove them from the job, or push with options of the command",
                unsupported[0],
            )
        return self.remote

    @property
    def ignored(self) -> list[str]:
        """Lines about the settings that have no effect on a push of this version."""
        keys = [key for key in self._unknown_keys() if not self._must_be_honoured(key)]
        if self.resync_corrupt:
            keys.append("resync-corrupt")
        return [
            f"{self.place(key)}sync job '{self.name}': '{key}' is ignored: a push of this version "
            "does not have it"
            for key in keys
        ]

    def _must_be_honoured(self, key: str) -> bool:
        chooses = self.remove_vanished and _CHOOSING.search(key) is not None
        return chooses or _TELLING.search(key) is not None

    def _unknown_keys(self) -> list[str]:
        return list(dict.fromkeys(key for key, _ in self.unknown))

    def refused(self, reason: str, key: str | None = None) -> ConfigError:
        """An error that names the job and where it, or ``key``, stands."""
        return ConfigError(f"{self.place(key)}sync job '{self.name}' cannot be run: {reason}")
