"""What ``pbs-push list`` shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pbs_push.access.host import HostConfig
from pbs_push.cli.listing_json import json_text
from pbs_push.cli.listing_text import text_lines
from pbs_push.cli.sources import find_source
from pbs_push.names import Namespace
from pbs_push.source.listing import ListingOptions


def pieces(
    source: str, config_dir: Path | None, ns: Namespace, max_depth: int | None, *, as_json: bool
) -> Iterator[str]:
    """The listing of SOURCE, made as it is read. Raises ConfigError, SourceError."""
    datastore = find_source(source, HostConfig.load(config_dir)).datastore
    options = ListingOptions(ns, max_depth)
    if as_json:
        return json_text(datastore, options)
    return (f"{line}\n" for line in text_lines(datastore, options))
