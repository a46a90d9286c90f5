"""Through which proxy a target is reached: ``--proxy``, the node's, the environment's, or none.

See protocol/rest.md, "Proxies".
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pbs_push.errors import ConfigError
from pbs_push.remote.proxy import Proxy

if TYPE_CHECKING:
    from pbs_push.access.host import HostConfig
    from pbs_push.access.remotes import Remote

_VARIABLES: Final = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
"""In order of precedence: what is said of HTTPS alone comes first, as in curl."""
_EXEMPTIONS: Final = ("no_proxy", "NO_PROXY")

Environment = Mapping[str, str]


def proxy_of_environment(
    host: str, port: int, environment: Environment | None = None
) -> Proxy | None:
    """The proxy that the environment has for a server, None for the direct way.

    Raises ConfigError, naming the variable, for a proxy that cannot be used.
    """
    environment = os.environ if environment is None else environment
    name = next((name for name in _VARIABLES if environment.get(name)), None)
    exempt = next((environment[name] for name in _EXEMPTIONS if environment.get(name)), "")
    if name is None or is_exempt(exempt, host, port):
        return None
    return _parsed(environment[name], name, f"{name}: ")


def proxy_of_remote(remote: Remote, host: HostConfig) -> Proxy | None:
    """The node's proxy, where a remote is to be reached through it and the node has one.

    Raises ConfigError, naming file and line.
    """
    if not remote.use_node_proxy or host.node.http_proxy is None:
        return None
    url = host.node.http_proxy.get_secret_value()
    return _parsed(url, "http-proxy of node.cfg", f"{host.node.place}: key 'http-proxy': ")


def _parsed(url: str, origin: str, prefix: str) -> Proxy:
    try:
        return Proxy.parse(url, origin)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}; --proxy none goes without one") from None


def is_exempt(exempt: str, host: str, port: int) -> bool:
    """Whether NO_PROXY's text names a server.

    It holds, with commas or blanks between: ``*``, names (with all below them, with or without a
    dot before), addresses, networks (``10.0.0.0/8``), each with a port where only that is meant.
    """
    host = host.lower().rstrip(".")
    return any(_names(item, host, port) for item in exempt.lower().replace(",", " ").split())


def _names(item: str, host: str, port: int) -> bool:
    if item == "*":
        return True
    name, colon, digits = item.rpartition(":")
    is_alone = ":" not in name or name.endswith("]")  # else it is an IPv6 address
    if colon and is_alone and digits.isdecimal():
        if int(digits) != port:
            return False
        item = name
    item = item.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        domain = item.removeprefix("*").strip(".")
        return bool(domain) and (host == domain or host.endswith(f".{domain}"))
    try:
        return address in ipaddress.ip_network(item, strict=False)
    except ValueError:
        return False
