"""An embedded Proxmox Backup Server, as strict as a real one, for tests, demos and `serve`.

It speaks the REST API (protocol/rest.md) and the backup protocol (protocol/backup.md) over
TLS, and stores a datastore
that a real server could serve (protocol/datastore.md). It is built on `h11` and `h2` and
shares no wire code with
`pbs_push.remote`.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as directory:
...     path = create_datastore(Path(directory) / "store", all_chunk_folders=False)
...     identities = Identities.simple({"root@pam!push": "secret"})
...     with TargetServer({"store": path}, identities=identities) as server:
...         repository = server.repository("store", "root@pam!push")
...         len(server.fingerprint)
32
"""

from pbs_push.target.certificate import CertificateFiles
from pbs_push.target.counters import Counters, CounterValues
from pbs_push.target.identities import Identities, Login
from pbs_push.target.options import Faults, Maintenance, SessionSettings, TargetOptions
from pbs_push.target.server import TargetServer
from pbs_push.target.store import create_datastore

__all__ = [
    "CertificateFiles",
    "CounterValues",
    "Counters",
    "Faults",
    "Identities",
    "Login",
    "Maintenance",
    "SessionSettings",
    "TargetOptions",
    "TargetServer",
    "create_datastore",
]
