"""A stand-in for a target, for the tests of programs: in this process, without a network."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pbs_push.names import AuthId, Namespace, Repository
from pbs_push.remote.in_memory import InMemory
from pbs_push.source.datastore import Datastore
from pbs_push.target.answers import Answer, Refusal, refusal_answer
from pbs_push.target.counters import Counters
from pbs_push.target.identities import Identities, Privileges, all_rights
from pbs_push.target.memory import MemoryServer
from pbs_push.target.options import Faults, TargetOptions
from pbs_push.target.store import create_datastore

_SECRET: Final = "not a secret"  # noqa: S105  (of a target that nobody else reaches)


class MemoryTarget(InMemory):
    """A Target in this process, for tests: no socket, no TLS, and no thread but those of a push.

    It takes the place of a Target wherever one is given. What a server would check is checked, by
    the code of the embedded target; the requests are those that a server would get. It keeps a
    real datastore in ``path`` (made if missing; None: a temporary folder, removed by ``close``),
    of which what was there before is what the target holds in the beginning.

    ``auth_id`` is who pushes, a user or a token, ``privileges`` what it may do where, ``version``
    what the server says it is. ``faults`` are made on purpose (`pbs_push.target.Faults`), but for
    delays. Raises InvalidName for an ``auth_id`` that is none, OSError.

    It proves nothing about time, lines that break by themselves, certificates or proxies, and it
    is no other server than PBS as this project knows it: nothing is pruned, collected or synced.
    """

    def __init__(
        self,
        path: Path | str | None = None,
        *,
        auth_id: AuthId | str = "push@pbs!test",
        privileges: Privileges = all_rights,
        version: tuple[str, str] = ("4.2", "3"),
    ) -> None:
        self._scratch = TemporaryDirectory(prefix="pbs-push-") if path is None else None
        self.path: Final = Path(path or f"{self._scratch and self._scratch.name}/target")
        if not (self.path / ".chunks").exists():
            create_datastore(self.path, all_chunk_folders=False)
        identity = AuthId.parse(auth_id) if isinstance(auth_id, str) else auth_id
        self.faults: Final = Faults(refuse=self._refused)
        """Failures on purpose; may be changed at any time."""
        self.asked: Final[list[str]] = []
        """The requests so far, by their kinds: `GET version`, `upgrade`, `POST fixed_chunk`, …"""
        self._refusals: dict[str, list[Answer]] = {}
        server = MemoryServer(
            {"memory": self.path},
            identities=Identities.simple({identity: _SECRET}, privileges=privileges),
            options=TargetOptions(version=version),
            faults=self.faults,
            counters=_Asked(self.asked.append),
        )
        # Nobody else's name: pushes to the same target wait for each other.
        host = f"{secrets.token_hex(8)}.invalid"
        super().__init__(Repository("memory", host, auth_id=identity), _SECRET, server.connect)

    def close(self) -> None:
        """Close it; a temporary folder is removed."""
        super().close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def datastore(self) -> Datastore:
        """What it holds, as a source: to look into it, or to verify it."""
        return Datastore(self.path)

    def holds(self) -> list[str]:
        """The finished snapshots, in order: `vm/100/TIME`, or `NAMESPACE: vm/100/TIME`."""
        return list(self._held())

    def _held(self) -> Iterator[str]:
        store = self.datastore()
        for namespace in sorted(store.namespaces(Namespace())):
            where = "" if namespace.is_root else f"{namespace}: "
            for group in sorted(store.groups(namespace), key=lambda one: one.group):
                for item in store.snapshots(group).snapshots:
                    if item.finished:
                        yield f"{where}{item.snapshot}"

    def refuse(
        self, kind: str, status: int = 400, text: str = "refused by the test", *, times: int = 1
    ) -> None:
        """Refuse the next requests of a kind, as they stand in ``asked``, and do nothing for them.

        A kind that is never asked for is refused never: look at ``asked``.
        """
        answer = refusal_answer(Refusal(status, text))
        self._refusals.setdefault(kind, []).extend([answer] * times)

    def die_after_chunks(self, count: int | None) -> None:
        """From now on break each connection when it has taken so many chunks; None: no more.

        What was being written is removed, as by a server whose client is gone.
        """
        self.faults.close_after_chunks = count

    def _refused(self, kind: str) -> Answer | None:
        waiting = self._refusals.get(kind)
        return waiting.pop() if waiting else None


class _Asked(Counters):
    """Counts, and tells the kind of each request."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def request(self, kind: str) -> None:
        self._tell(kind)
        super().request(kind)
