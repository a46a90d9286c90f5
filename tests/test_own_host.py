"""No test looks at a PBS of the host that it runs on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.own_host import COMMAND, PLACES_OF_PBS

import pbs_push
from pbs_push.access.host import HostConfig
from pbs_push.source import datastore


def test_no_pbs_is_found() -> None:
    assert not HostConfig.load().is_present
    assert not datastore.RUN_FOLDER.exists()


_LOOKING = """
import sys
from pathlib import Path
from tests.own_host import be_without_pbs
be_without_pbs()
for look in (lambda place: Path(place, "acl.cfg").read_text(), lambda place: list(place.iterdir())):
    try:
        look(Path(sys.argv[1]))
    except AssertionError as error:
        print(error)
"""


@pytest.mark.parametrize("place", PLACES_OF_PBS)
def test_looking_at_the_hosts_fails(place: str) -> None:
    root = Path(__file__).parents[1]
    looked = [sys.executable, "-c", _LOOKING, place]
    done = subprocess.run(looked, capture_output=True, text=True, check=True, cwd=root)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"a test looks at the host's {place}") for line in lines)


def test_nor_does_a_command_in_a_process_of_its_own() -> None:
    done = subprocess.run([*COMMAND, "list", "name"], capture_output=True, text=True, check=False)
    assert "no datastore of this name in " in done.stderr
    assert not any(place in done.stderr for place in PLACES_OF_PBS)


def test_the_places_are_named_once_each() -> None:
    """So that all of the package goes by what the tests replace."""
    named = [
        (path.name, node.value)
        for path in Path(pbs_push.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith(PLACES_OF_PBS)
    ]
    assert sorted(named) == [
        ("datastore.py", PLACES_OF_PBS[1]),
        ("host.py", PLACES_OF_PBS[0]),
    ]
