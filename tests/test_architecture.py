"""The arrows of docs/design.md: which room may import which, and what may be used where."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pbs_push

_ROOT = Path(pbs_push.__file__).parent

_CSRC = Path(__file__).parents[1] / "csrc"

_MAY_IMPORT = {
    "_native": set(),
    "formats": {"_native"},
    "source": {"formats"},
    "access": set(),
    "remote": {"formats", "_native"},
    "push": {"source", "access", "remote", "formats", "_native"},
    "verify": {"push", "source", "access", "remote", "formats", "_native"},
    "target": {"formats", "access"},
    "testing": {"target", "remote", "source", "formats"},
    "pages": set(),
    "bench": {"pages", "push", "source", "access", "remote", "formats", "_native", "demo"},
    "demo": {"push", "source", "access", "remote", "formats", "target"},
    "cli": {
        "push",
        "verify",
        "source",
        "access",
        "remote",
        "formats",
        "target",
        "pages",
        "bench",
        "demo",
    },
}
_FOR_ALL = {"names", "errors", "units", "version", "tls_socket", "closing"}

_ONLY_IN = {
    "httpx": {"remote"},
    "h2": {"target"},
    "h11": {"remote", "target"},
    "click": {"cli"},
    "rich": {"cli"},
    "ssl": {"remote", "target", "bench"},
    "socket": {"remote", "target", "bench"},
    "pydantic": {"remote", "access"},
    "distributed": {"push"},
}

_MODULES = sorted(
    path for room in _MAY_IMPORT for path in (_ROOT / room).rglob("*.py") if path.is_file()
)


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.update(_named_modules(node.module, node.names))
    return found


def _named_modules(module: str, names: list[ast.alias]) -> Iterator[str]:
    """Of ``from package import name`` the name, if it is a module."""
    folder = _ROOT.parent.joinpath(*module.split("."))
    for alias in names:
        is_module = (folder / f"{alias.name}.py").is_file()
        yield f"{module}.{alias.name}" if is_module else module


def _dotted(path: Path) -> str:
    parts = path.relative_to(_ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _room(path: Path) -> str:
    return path.relative_to(_ROOT).parts[0]


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_rooms_import_only_along_the_arrows(path: Path) -> None:
    room = _room(path)
    allowed = _MAY_IMPORT[room] | _FOR_ALL | {room}
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "pbs_push" and len(parts) > 1:
            assert parts[1] in allowed, f"{room} imports {name}"


def test_modules_depend_on_each_other_one_way() -> None:
    """Also where the import is for type checking only: a circle of ideas is one, too."""
    graph = {_dotted(path): _imports(path) for path in _ROOT.rglob("*.py")}
    TopologicalSorter(graph).prepare()  # CycleError, naming the modules, if they do not


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    for name in _imports(path):
        rooms = _ONLY_IN.get(name.split(".")[0])
        assert rooms is None or _room(path) in rooms, f"{_room(path)} imports {name}"


def test_no_python_in_csrc() -> None:
    for path in _CSRC.glob("*.[ch]"):
        assert "Python.h" not in path.read_text().replace("No Python.h", ""), path


def test_c_modules_depend_on_each_other_one_way() -> None:
    graph: dict[str, set[str]] = {}
    for path in _CSRC.glob("*.[ch]"):
        used = re.findall(r'^#include "(\w+)\.h"', path.read_text(), re.MULTILINE)
        graph.setdefault(path.stem, set()).update(set(used) - {path.stem})
    TopologicalSorter(graph).prepare()  # CycleError, naming the modules, if they do not


def test_every_c_module_is_built() -> None:
    built = set(re.findall(r'"(\w+)"', (_CSRC.parent / "setup.py").read_text()))
    for path in _CSRC.glob("pbs_*.c"):
        assert path.stem.removeprefix("pbs_") in built, path
