"""What a shell offers at a Tab: names of this host's configuration, read without its models.

A Tab must be quick. Nothing here checks what it reads, and nothing here fails: what cannot be read
is not offered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_MOST: Final = 4 << 20
"""Bytes that are read of a file."""


def names_of(file: str, kind: str, *, or_directory: bool = False) -> Completer:
    """Offers the names of ``kind: NAME`` in a file of the configuration; or also directories."""

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from pbs_push.access import host  # noqa: PLC0415  (for this alone)

        folder = context.params.get("config_dir") or host.DEFAULT_CONFIG_DIR
        names = _names(Path(folder, file), kind)
        # Directories first: bash's side of it forgets what was offered before them.
        items = [CompletionItem(incomplete, type="dir")] if or_directory else []
        return items + [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def _names(path: Path, kind: str) -> list[str]:
    """As sections begin (protocol/access.md, "Section config")."""
    try:
        with path.open("rb") as opened:
            text = opened.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return []
    return re.findall(rf"^{kind}:[ \t]*([\w.-]+)[ \t]*$", text, re.MULTILINE | re.ASCII)


DATASTORES: Final = names_of("datastore.cfg", "datastore", or_directory=True)
REMOTES: Final = names_of("remote.cfg", "remote")
JOBS: Final = names_of("sync.cfg", "sync")
KEYS: Final = names_of("encryption-keys.cfg", "sync-key")
