"""Whether the target's snapshot of a time is the source's (protocol/push.md, "There already").

Two sites may push the same id into one group, or somebody may have written the target's snapshot
anew: the same time says little. Values in, and a line about the first difference out; None where
none can be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pbs_push.formats.keys import CryptKey
from pbs_push.formats.manifest import FileInfo, Manifest, Protection
from pbs_push.names import INDEX_SUFFIXES
from pbs_push.push.encryption import is_ours, says_other_source
from pbs_push.remote.models import SnapshotItem


def difference_in_list(source: Manifest, copy: SnapshotItem) -> str | None:
    """Compare with an entry of a list of snapshots: names, sizes and crypt modes."""
    files = {file.filename: file for file in copy.files if file.is_archive}
    if difference := _names(source, files):
        return difference
    encrypted = all(file.crypt_mode == "encrypt" for file in files.values())
    on_the_way = encrypted and Protection.of(source) is Protection.NONE
    for here in source.files:
        there = files[here.filename]
        mode = None if on_the_way else there.crypt_mode
        if mode is not None and mode != here.crypt_mode.value:
            return f"{here.filename} has crypt-mode {here.crypt_mode.value} here, {mode} there"
        if there.size is not None and (difference := _size(here, there.size, exact=not on_the_way)):
            return difference
    return None


def difference_in_manifest(source: Manifest, copy: Manifest, key: CryptKey | None) -> str | None:
    """Compare with the manifest at the target: names, csums and sizes.

    Of a copy that was encrypted on the way, csums tell nothing; with its ``key``, the signature of
    what it was made from does.
    """
    files = {file.filename: file for file in copy.files}
    if difference := _names(source, files):
        return difference
    on_the_way = Protection.of(source) is Protection.NONE and Protection.of(copy) is Protection.FULL
    for here in source.files:
        there = files[here.filename]
        if difference := _size(here, there.size, exact=not on_the_way):
            return difference
        if not on_the_way and there.csum != here.csum:
            return f"{here.filename} has csum {here.csum.hex()} here, {there.csum.hex()} there"
    ours = on_the_way and key is not None and is_ours(copy, key)
    if ours and key is not None and says_other_source(copy, source, key):
        return "the copy there was made from another snapshot than that here"
    return None


def missing_files(source: Manifest, names: Collection[str]) -> list[str]:
    """Files of the manifest that are not among the names in the target's folder."""
    return [file.filename for file in source.files if file.filename not in names]


def _names(source: Manifest, there: Mapping[str, object]) -> str | None:
    here = {file.filename for file in source.files}
    if more := sorted(here - set(there)):
        return f"{more[0]} is here and not there"
    if more := sorted(set(there) - here):
        return f"{more[0]} is there and not here"
    return None


def _size(here: FileInfo, there: int, *, exact: bool) -> str | None:
    """Blobs change their size when they are encrypted, indexes do not."""
    if here.size == there or not (exact or here.filename.endswith(INDEX_SUFFIXES)):
        return None
    return f"{here.filename} is {here.size} bytes here, {there} there"
