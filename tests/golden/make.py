"""Writes the golden set: ``cd tests && ../.venv/bin/python -m golden.make``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

from .answers import RIGHTS, USERS, reading
from .changes import changing
from .content import golden, key_files, pushed_manifests, sample_blobs
from .sessions import scripts

_LINE: Final = 400

DATA: Final = Path(__file__).parent / "data"


def files() -> dict[str, bytes]:
    """All files of the golden set, by their paths."""
    made = golden()
    store, keys, blobs = made.store, key_files(), sample_blobs()
    expected = store.expected | {
        "keys": {name: about for name, (_, about) in keys.items()},
        "blobs": {name: about for name, (_, about) in blobs.items()},
    }
    found = {"expected.json": _file(expected)}
    found |= {f"datastore/{path}": content for path, content in store.files.items()}
    found |= {f"keys/{name}.key": _file(members) for name, (members, _) in keys.items()}
    found |= {f"blobs/{name}": raw for name, (raw, _) in blobs.items()}
    found |= {f"push/{name}.manifest.json": text for name, text in pushed_manifests(made).items()}
    found |= {"config/user.cfg": USERS.encode(), "config/acl.cfg": RIGHTS.encode()}
    found |= {f"rest/{name}.json": _file(record) for name, record in reading(store).items()}
    for name, records in changing(store).items():
        found[f"rest-chains/{name}.json"] = _file({"steps": records})
    found |= {f"sessions/{name}.json": _file(script) for name, script in scripts(store).items()}
    return found


def _json(content: Any, indent: str = "\n") -> str:
    """JSON whose short parts stand on one line."""
    whole = json.dumps(content, ensure_ascii=False)
    if len(whole) <= _LINE or not isinstance(content, dict | list):
        return whole
    inner = f"{indent} "
    if isinstance(content, list):
        return f"[{inner}{f',{inner}'.join(_json(item, inner) for item in content)}{indent}]"
    members = (f"{json.dumps(name)}: {_json(value, inner)}" for name, value in content.items())
    return f"{{{inner}{f',{inner}'.join(members)}{indent}}}"


def _file(content: Any) -> bytes:
    return f"{_json(content)}\n".encode()


def write(folder: Path) -> None:
    """Write the set into a folder, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    write(DATA)
