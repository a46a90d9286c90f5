"""The paths of the access control list that a push asks about. Nothing else builds them."""

from __future__ import annotations

from pbs_push.names import Namespace


def datastore_path(store: str, namespace: Namespace) -> str:
    """``/datastore/{store}[/{ns…}]``: a source namespace."""
    return _path("datastore", store, *namespace.components)


def remote_path(remote: str, store: str, namespace: Namespace) -> str:
    """``/remote/{remote}/{store}[/{ns…}]``: ``namespace`` is the mapped one, at the target."""
    return _path("remote", remote, store, *namespace.components)


def encryption_key_path(key: str) -> str:
    """``/system/encryption-keys/{key}``: a key of ``encryption-keys.cfg``."""
    return _path("system", "encryption-keys", key)


def _path(*components: str) -> str:
    return "/" + "/".join(components)
