"""Memory that C cannot have is a MemoryError, nobody else's fault (csrc/tests/test_nomem.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="a sanitizer's allocator is preloaded")
def test_every_call_that_fails_is_a_memory_error(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    preloaded = tmp_path / "failing_memory.so"
    source = HERE / "failing_memory.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", source, "-o", preloaded], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.native.without_memory"],
        cwd=HERE.parents[1],
        env=os.environ | {"LD_PRELOAD": str(preloaded)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "errors" in done.stdout
