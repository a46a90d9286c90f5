"""A section of ``user.cfg`` (protocol/access.md, "Users")."""

from __future__ import annotations

from pydantic import Field

from pbs_push.access.model import ConfigModel, Flag, Number


class Account(ConfigModel):
    """A user or a token, as configured: ``expire`` in epoch seconds, 0 for never."""

    enable: Flag = True
    expire: Number = Field(default=0, ge=0)
    comment: str | None = None
