"""The public face: what is exported, that it is told of, and that only our own errors come out."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import pbs_push
from pbs_push import errors

_ROOT = Path(__file__).parents[1]
_STUB = Path(pbs_push.__file__).with_suffix(".pyi")


def _public() -> dict[str, Any]:
    return {name: getattr(pbs_push, name) for name in pbs_push.__all__ if name != "__version__"}


def test_names_are_sorted_and_there() -> None:
    assert pbs_push.__all__ == sorted(pbs_push.__all__)
    assert None not in _public().values()
    assert set(pbs_push.__all__) <= set(dir(pbs_push))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pbs_push.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_the_stub_says_where_each_name_comes_from() -> None:
    told = {}
    for node in ast.parse(_STUB.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, "exported"
                told[alias.name] = f"{node.module}"
    homes = {name: f"pbs_push.{module}" for name, module in pbs_push._HOMES.items()}
    assert told == homes


def test_the_function_is_what_push_means_whatever_was_imported() -> None:
    import pbs_push.push.plan

    assert inspect.isfunction(pbs_push.push)
    assert pbs_push.push is sys.modules["pbs_push.push.engine"].push


def test_all_of_the_exception_tree_is_exported() -> None:
    tree = {
        name
        for name, found in vars(errors).items()
        if inspect.isclass(found) and issubclass(found, Exception)
    }
    assert tree <= set(pbs_push.__all__)
    for name in tree:
        assert issubclass(getattr(errors, name), pbs_push.PbsPushError)


def test_everything_public_is_told_of() -> None:
    """Each class and function, and each public method and property that it defines itself."""
    silent = []
    for name, found in _public().items():
        if not (inspect.isclass(found) or inspect.isroutine(found)):
            continue  # an alias of types
        silent += [] if inspect.getdoc(found) else [name]
        for member, value in vars(found).items() if inspect.isclass(found) else ():
            inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            is_code = inspect.isroutine(inner) or isinstance(inner, property)
            if not member.startswith("_") and is_code and not inspect.getdoc(inner):
                silent.append(f"{name}.{member}")
    assert silent == []


def test_the_reference_is_what_help_tells() -> None:
    """If this fails: python docs/make_api.py."""
    spec = importlib.util.spec_from_file_location("make_api", _ROOT / "docs" / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (_ROOT / "docs" / "api.md").read_text() == made.page()


# -- errors --


def _load_key(data: bytes, folder: Path) -> None:
    path = folder / "key"
    path.write_bytes(data)
    pbs_push.load_key_file(path, lambda: data)


def _open_index(data: bytes, folder: Path) -> None:
    path = folder / "an.fidx"
    path.write_bytes(data)
    pbs_push.open_index(path).close()


def _push(text: str, folder: Path) -> None:
    pbs_push.push(folder / text.replace("/", ""), pbs_push.Target("h:store", "s"))


BYTES: dict[str, Callable[[bytes, Path], object]] = {
    "decode_blob": lambda data, _folder: pbs_push.decode_blob(data),
    "Manifest.parse": lambda data, _folder: pbs_push.Manifest.parse(data),
    "Manifest.decode": lambda data, _folder: pbs_push.Manifest.decode(data),
    "load_key_file": _load_key,
    "open_index": _open_index,
    "CryptKey": lambda data, _folder: pbs_push.CryptKey(data),
}
HOSTS_OWN = ("/etc/proxmox-backup", "/run/proxmox-backup")
"""No test looks there (tests/own_host.py), and hypothesis knows the constants of the code."""
TEXTS: dict[str, Callable[[str, Path], object]] = {
    "Namespace.parse": lambda text, _folder: pbs_push.Namespace.parse(text),
    "Group.parse": lambda text, _folder: pbs_push.Group.parse(text),
    "Snapshot.parse": lambda text, _folder: pbs_push.Snapshot.parse(text),
    "AuthId.parse": lambda text, _folder: pbs_push.AuthId.parse(text),
    "Repository.parse": lambda text, _folder: pbs_push.Repository.parse(text),
    "GroupFilter.parse": lambda text, _folder: pbs_push.GroupFilter.parse(text),
    "MaxRemovals.parse": lambda text, _folder: pbs_push.MaxRemovals.parse(text),
    "Timetable.parse": lambda text, _folder: pbs_push.Timetable.parse(text),
    "Target": lambda text, _folder: pbs_push.Target(text, text, text),
    "Datastore": lambda text, folder: pbs_push.Datastore(folder / text).identity(),
    "PushOptions": lambda text, _folder: pbs_push.PushOptions(
        source_namespace=text,
        group_filters=text,
        parallel=text,  # type: ignore[arg-type]
    ),
    "open_index": lambda text, folder: pbs_push.open_index(folder / text),
    "load_key_file": lambda text, folder: pbs_push.load_key_file(folder / text),
    "push": _push,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("public")


@pytest.mark.parametrize("name", BYTES)
@given(data=st.binary(max_size=200))
@example(data=b"")
@example(data=b"{" * 5000)
@example(data=b'{"kdf": {"Scrypt": {"n": 1e400}}}')
def test_no_foreign_exception_for_any_bytes(name: str, data: bytes, folder: Path) -> None:
    with contextlib.suppress(pbs_push.PbsPushError):
        BYTES[name](data, folder)


@pytest.mark.parametrize("name", TEXTS)
@given(text=st.text(max_size=60))
@example(text="a\0b")
@example(text="\ud800")
@example(text="x" * 5000)
@example(text="vm/100/9999999999999-99-99T99:99:99Z")
def test_no_foreign_exception_for_any_text(name: str, text: str, folder: Path) -> None:
    assume(not text.startswith(HOSTS_OWN))
    with contextlib.suppress(pbs_push.PbsPushError):
        TEXTS[name](text, folder)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, "host:store"),
        ("/store", "host:store"),
        (7, None),
        ("/store", None, {"parallel": 1}),
        (b"/store", None),
    ],
)
def test_arguments_of_a_wrong_type_are_told(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(pbs_push.PbsPushError):
        pbs_push.push(*arguments)


def test_a_push_with_wrong_options(tmp_path: Path) -> None:
    os.mkdir(tmp_path / ".chunks")  # noqa: PTH102
    with pbs_push.Target("h:store", "s") as target, pytest.raises(pbs_push.ConfigError) as caught:
        pbs_push.push(tmp_path, target, {"parallel": 1})  # type: ignore[arg-type]
    assert "options: must be PushOptions, and not of type dict" in str(caught.value)
