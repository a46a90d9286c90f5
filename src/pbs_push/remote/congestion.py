"""Which congestion control TCP uses: it decides what one connection makes of a lossy line."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

_ALLOWED: Final = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_USED: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def set_congestion_control(connection: socket.socket, name: str) -> None:
    """Let a connection use it. Raises OSError where it is not known, or not allowed to us."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())


def try_congestion_control(name: str) -> None:
    """Raises OSError where a connection of ours could not use it."""
    with socket.socket() as connection:
        set_congestion_control(connection, name)


def allowed_congestion_controls() -> str:
    """Names of those that any process may use, as the system tells them; "" if it does not."""
    return _said(_ALLOWED)


def used_congestion_control() -> str:
    """The name of the one that connections have unless told otherwise; "" if it is not known."""
    return _said(_USED)


def _said(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
