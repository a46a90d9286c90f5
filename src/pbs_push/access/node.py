"""``node.cfg``: of this host itself; here its proxy alone (protocol/access.md, "The node")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import SecretStr

from pbs_push.access.files import numbered_lines, read_config
from pbs_push.errors import ConfigError

_LINE: Final = re.compile(r"(?P<key>[A-Za-z][A-Za-z0-9_-]*):[ \t]*(?P<value>.*)", re.DOTALL)
_PROXY: Final = "http-proxy"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """``http_proxy`` is the URL of the node's proxy, with its password, None without one; ``place``
    is ``file:line`` of it."""

    http_proxy: SecretStr | None = None
    place: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; one that does not exist says nothing. Raises ConfigError."""
        text = read_config(path)
        return cls() if text is None else cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, origin: str) -> Self:
        """Read the text of a file. Raises ConfigError, naming ``origin`` and the line."""
        found = cls()
        for number, line in numbered_lines(text):
            if not line.strip(" \t") or line.startswith("#"):
                continue
            matched = _LINE.fullmatch(line)
            if matched is None:
                raise ConfigError(f"{origin}:{number}: expected 'KEY: VALUE' at the line's begin")
            if matched["key"] != _PROXY:
                continue
            if found.place:
                raise ConfigError(f"{origin}:{number}: '{_PROXY}' stands here again; keep one")
            value = matched["value"].strip(" \t")
            found = cls(SecretStr(value) if value else None, f"{origin}:{number}")
        return found
