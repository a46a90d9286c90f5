"""The listing of a source datastore for programs: one JSON text, written as it is read.

The names are PBS's own. At the top what all documents have, ``datastore`` and ``namespaces``; a
namespace has ``ns`` and ``groups``.

A group: ``group``, ``owner`` (null: unreadable, PBS hides the group), ``backup-count``,
``last-backup`` (of the finished ones, if any), ``comment`` (first line of the notes, with its
newline as PBS's API has it, or null), ``notes``, ``snapshots``, ``odd`` if folders look like
snapshots but cannot be any, and ``error`` if there are notes that cannot be read.

A snapshot: ``backup-time``, ``dir``, ``in-progress``, ``protected``, ``files``, and
``kept-until-copied-to``: marks of ``push --protect-source``, which ``protected`` does not count.
One that can be read also ``size`` (the sum over its files and its manifest), ``comment``,
``notes``, ``verification``, ``fingerprint``, ``signature``, and ``client-log`` with its ``size``
where there is one; of one that is not finished, ``files`` has just names; one that cannot be read
has ``error``.

A file: ``filename``, ``crypt-mode``, ``size``, ``csum`` as the manifest has them and, for an index,
``index`` with ``kind``, ``size``, ``entries``, ``chunk-size`` (fixed only), ``uuid``, ``ctime`` and
the ``csum`` computed anew from the entries, or ``error`` if it cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from pbs_push.cli.lines import safe_json
from pbs_push.formats.strict_json import JsonValue
from pbs_push.names import Namespace, format_fingerprint
from pbs_push.push.document import Sides, Span, head
from pbs_push.source.datastore import Datastore
from pbs_push.source.listing import (
    DEFAULT_OPTIONS,
    IndexDetails,
    ListedContent,
    ListedFile,
    ListedGroup,
    ListedSnapshot,
    ListingOptions,
    list_groups,
)

JsonObject = dict[str, JsonValue]

_AT_THE_END: Final = ("ended", "exit-status", "error")
"""Keys of all documents that are known when all is written."""


def json_text(datastore: Datastore, options: ListingOptions = DEFAULT_OPTIONS) -> Iterator[str]:
    """The listing as pieces of one JSON text, a piece a group.

    Raises SourceError where namespaces or groups cannot be listed.
    """
    began = time.time()
    sides = Sides(str(datastore.path), options.anchor, None, Namespace())
    made = head("list", sides, 0, None) | {"target": None, "datastore": datastore.name}
    made = {name: value for name, value in made.items() if name not in _AT_THE_END}
    yield f'{safe_json(made)[:-1]}, "namespaces": ['
    for number, namespace in enumerate(datastore.namespaces(options.anchor, options.max_depth)):
        yield f'{"," if number else ""}\n {{"ns": {safe_json(str(namespace))}, "groups": ['
        groups = list_groups(datastore, namespace, read_indexes=options.read_indexes)
        for position, group in enumerate(groups):
            text = safe_json(group_json(group))
            yield f"{',' if position else ''}\n  {text}"
        yield "]}"
    made = head("list", sides, 0, None, Span(began, time.time()))
    end = safe_json({name: made[name] for name in _AT_THE_END})
    yield f"\n], {end[1:]}\n"


def group_json(group: ListedGroup) -> JsonObject:
    """One group with its snapshots."""
    notes = group.notes or ""
    listed: JsonObject = {
        "group": str(group.item.group),
        "owner": None if group.item.owner is None else str(group.item.owner),
        "backup-count": len(group.snapshots),
        "last-backup": _last_backup(group),
        "comment": "".join(notes.partition("\n")[:2]) if notes else None,
        "notes": notes,
        "snapshots": [_snapshot_json(snapshot) for snapshot in group.snapshots],
    }
    if group.odd:
        listed["odd"] = [{"dir": name, "reason": reason} for name, reason in group.odd]
    if group.error is not None:
        listed["error"] = group.error
    return listed


def _last_backup(group: ListedGroup) -> int | None:
    """Time of the last finished snapshot or, as in PBS, of the last one if none is finished."""
    items = [snapshot.item for snapshot in group.snapshots]
    finished = [item for item in items if item.finished] or items
    return finished[-1].snapshot.backup_time if finished else None


def _snapshot_json(snapshot: ListedSnapshot) -> JsonObject:
    listed: JsonObject = {
        "backup-time": snapshot.item.snapshot.backup_time,
        "dir": snapshot.item.snapshot.time_text,
        "in-progress": not snapshot.item.finished,
        "protected": snapshot.item.protected,
        "kept-until-copied-to": list(snapshot.item.waits_for),
    }
    if snapshot.content is not None:
        return listed | _content_json(snapshot.content)
    listed["files"] = [{"filename": name} for name in snapshot.names]
    if snapshot.error is not None:
        listed["error"] = snapshot.error
    return listed


def _content_json(content: ListedContent) -> JsonObject:
    manifest = content.manifest
    notes, fingerprint = manifest.notes, manifest.key_fingerprint
    listed: JsonObject = {
        "size": content.size,
        "comment": notes.partition("\n")[0] if notes else None,
        "notes": notes,
        "verification": manifest.unprotected.get("verify_state"),
        "fingerprint": None if fingerprint is None else format_fingerprint(fingerprint),
        "signature": manifest.signature,
        "files": [_file_json(file) for file in content.files],
    }
    if content.client_log_size is not None:
        listed["client-log"] = {"size": content.client_log_size}
    return listed


def _file_json(file: ListedFile) -> JsonObject:
    listed: JsonObject = {
        "filename": file.info.filename,
        "crypt-mode": file.info.crypt_mode.value,
        "size": file.info.size,
        "csum": file.info.csum.hex(),
    }
    if file.index is not None:
        listed["index"] = _index_json(file.index)
    if file.error is not None:
        listed["error"] = file.error
    return listed


def _index_json(index: IndexDetails) -> JsonObject:
    listed: JsonObject = {
        "kind": index.kind,
        "size": index.size,
        "entries": index.entries,
        "uuid": index.uuid.hex(),
        "ctime": index.ctime,
        "csum": index.csum.hex(),
    }
    if index.chunk_size:
        listed["chunk-size"] = index.chunk_size
    return listed
