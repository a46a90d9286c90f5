"""The listing of a source datastore for people: a line a namespace, group, snapshot and file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pbs_push.cli.lines import printable
from pbs_push.source.datastore import Datastore
from pbs_push.source.items import SourceSnapshot
from pbs_push.source.listing import (
    DEFAULT_OPTIONS,
    ListedContent,
    ListedFile,
    ListedGroup,
    ListedSnapshot,
    ListingOptions,
    list_groups,
)
from pbs_push.units import counted, size_text

MAX_COMMENT: Final = 500
"""Characters of notes that are shown."""


def text_lines(datastore: Datastore, options: ListingOptions = DEFAULT_OPTIONS) -> Iterator[str]:
    """The lines, without newlines, made as they are read.

    Raises SourceError where namespaces or groups cannot be listed.
    """
    for namespace in datastore.namespaces(options.anchor, options.max_depth):
        yield namespace.label
        for group in list_groups(datastore, namespace, read_indexes=options.read_indexes):
            yield from map(printable, _group_lines(group))


def _group_lines(group: ListedGroup) -> Iterator[str]:
    owner = group.item.owner or "NO READABLE OWNER: hidden by PBS, not pushed"
    yield f"  {group.item.group}  {owner}{_comment(group.notes)}"
    if group.error is not None:
        yield f"    NOTES UNREADABLE: {group.error}"
    for name, reason in group.odd:
        yield f"    {name}  NOT USABLE: {reason}"
    for snapshot in group.snapshots:
        yield from _snapshot_lines(snapshot)


def _snapshot_lines(snapshot: ListedSnapshot) -> Iterator[str]:
    if snapshot.content is not None:
        state = _state(snapshot.content, snapshot.item)
        files = [_file_line(file) for file in snapshot.content.files]
    else:
        error = snapshot.error
        state = "in progress or dead" if error is None else f"UNREADABLE: {error}"
        files = list(snapshot.names)
    yield f"    {snapshot.item.snapshot.time_text}  {state}"
    for file in files:
        yield f"      {file}"


def _state(content: ListedContent, item: SourceSnapshot) -> str:
    verify_state = content.manifest.verify_state
    words = [
        size_text(content.size),
        "protected" if item.protected else "",
        f"kept until copied to {' and '.join(item.waits_for)}" if item.waits_for else "",
        f"verify {verify_state}" if verify_state else "",
        "" if content.client_log_size is None else "client log",
    ]
    return ", ".join(filter(None, words)) + _comment(content.manifest.notes)


def _file_line(file: ListedFile) -> str:
    words = [file.info.filename, size_text(file.info.size)]
    if file.info.crypt_mode.value != "none":
        words.append(file.info.crypt_mode.value)
    if file.index is not None:
        words.append(counted(file.index.entries, "chunk"))
        if (file.index.csum, file.index.size) != (file.info.csum, file.info.size):
            words.append("DAMAGED: the manifest says another checksum or size")
    if file.error is not None:
        words.append(f"UNREADABLE: {file.error}")
    return "  ".join(words)


def _comment(notes: str | None) -> str:
    """The first line of notes, as far as it is for people."""
    text = "".join(filter(str.isprintable, (notes or "").partition("\n")[0][:MAX_COMMENT]))
    return f'  "{text}"' if text else ""
