"""The embedded target in a process of its own, so that its CPU time is not the pusher's.

python target_process.py DATASTORE_DIRECTORY
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from pbs_push.target import Identities, TargetServer
from processes import SECRET, TOKEN, Json, answer_questions, cpu_seconds


def main() -> None:
    """Serve the datastore until the input ends."""
    identities = Identities.simple({TOKEN: SECRET})
    with TargetServer({"store": Path(sys.argv[1])}, identities=identities) as server:

        def answer(question: Json) -> Json:
            if question.get("reset"):
                server.counters.reset()
            return {**dataclasses.asdict(server.counters.snapshot()), "cpu_s": cpu_seconds()}

        _host, port = server.address
        answer_questions({"port": port, "fingerprint": server.fingerprint.hex()}, answer)


if __name__ == "__main__":
    main()
