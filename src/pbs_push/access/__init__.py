"""What the pushing host's configuration says, and what a local user may do (protocol/access.md).

Read only: nothing here writes a file of PBS.
"""

from pbs_push.access.acl import ROLES, Acl
from pbs_push.access.datastores import DatastoreConfig
from pbs_push.access.filters import GroupFilter, GroupFilters
from pbs_push.access.host import DEFAULT_CONFIG_DIR, HostConfig
from pbs_push.access.jobs import JobKind, SyncDirection, SyncJob
from pbs_push.access.keys_config import SyncKey
from pbs_push.access.remotes import Remote
from pbs_push.access.rights import Access
from pbs_push.access.users import Users
from pbs_push.access.values import parse_size

__all__ = [
    "DEFAULT_CONFIG_DIR",
    "ROLES",
    "Access",
    "Acl",
    "DatastoreConfig",
    "GroupFilter",
    "GroupFilters",
    "HostConfig",
    "JobKind",
    "Remote",
    "SyncDirection",
    "SyncJob",
    "SyncKey",
    "Users",
    "parse_size",
]
