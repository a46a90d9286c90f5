"""Whether checkpoints could be removed again: asked once for each namespace of the target."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from pbs_push.errors import AccessError, Cancelled, PbsPushError

if TYPE_CHECKING:
    from pbs_push.names import Namespace
    from pbs_push.push.options import PushOptions
    from pbs_push.remote.api import TargetApi

_ENOUGH: Final = frozenset({"Datastore.Prune", "Datastore.Modify"})
"""Either lets an identity forget a snapshot that it owns (protocol/rest.md, "Rights on the
server")."""


class CheckpointRights:
    """What this host and the target say to removing our own snapshots. Safe for threads."""

    def __init__(self, api: TargetApi, options: PushOptions) -> None:
        self._api = api
        self._options = options
        self._lock = threading.Lock()
        self._known: dict[Namespace, str | None] = {}

    def why_not(self, namespace: Namespace) -> str | None:
        """Why what is committed in a target namespace could not be removed; None if it can be.

        Raises Cancelled.
        """
        with self._lock:
            if namespace not in self._known:
                self._known[namespace] = self._asked(namespace)
            return self._known[namespace]

    def _asked(self, namespace: Namespace) -> str | None:
        options = self._options
        try:
            options.access.require_prune(options.remote_name, self._api.datastore, namespace)
            held = self._api.privileges(namespace)
        except Cancelled:
            raise
        except AccessError as error:
            return str(error)
        except PbsPushError as error:
            return f"the target does not tell whether it could be removed: {error}"
        if held & _ENOUGH:
            return None
        return (
            "the remote user may not remove it afterwards: it has neither Datastore.Prune nor "
            f"Datastore.Modify on {namespace.label}"
        )
