"""What the examples work with: the target that PBS_* names, or one made up for them.

PBS_REPOSITORY, PBS_PASSWORD (or a token's secret) and
PBS_FINGERPRINT are those of PBS's own client; SOURCE is the path of a datastore. Without
PBS_REPOSITORY a small datastore and an embedded target stand in for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pbs_push
from pbs_push.demo.sample import write_sample
from pbs_push.target import Identities, TargetServer, create_datastore

ME = "sync@pbs!push"


@contextmanager
def place() -> Iterator[tuple[pbs_push.Datastore, pbs_push.Target]]:
    """A source and a target."""
    repository = os.environ.get("PBS_REPOSITORY")
    if repository is not None:
        secret, fingerprint = os.environ["PBS_PASSWORD"], os.environ.get("PBS_FINGERPRINT")
        with pbs_push.Target(repository, secret, fingerprint) as target:
            yield pbs_push.Datastore(os.environ["SOURCE"]), target
        return
    with TemporaryDirectory() as folder:
        write_sample(Path(folder) / "main", total_bytes=4 << 20)
        store = create_datastore(Path(folder) / "offsite", all_chunk_folders=False)
        identities = Identities.simple({ME: "s3cret"})
        with (
            TargetServer({"offsite": store}, identities=identities) as server,
            pbs_push.Target(
                server.repository("offsite", ME), "s3cret", server.fingerprint
            ) as target,
        ):
            yield pbs_push.Datastore(Path(folder) / "main"), target
