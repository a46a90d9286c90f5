"""The extension modules; everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup

# Any module may use any of these: a change of one rebuilds all, and an sdist holds them all.
HEADERS = [
    *sorted(str(path) for path in Path("csrc").glob("pbs_*.h")),
    *sorted(str(path) for path in Path("src/pbs_push/_native").glob("*.pxd")),
]

UPLOAD = ("blob", "chunks", "entries", "event", "index", "readers", "ring", "upload")
HTTP2 = (
    "h2_answering",
    "h2_calls",
    "h2_connection",
    "h2_frames",
    "h2_receiving",
    "h2_sending",
    "h2_streams",
    "hpack",
    "http2",
)


# For `make test-sanitized` and `make races`; what is installed has none.
SANITIZERS = os.environ.get("PBS_PUSH_SANITIZE")
if SANITIZERS:
    LINK = [f"-fsanitize={SANITIZERS}"]
    COMPILE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *LINK]
else:
    LINK = ["-s"]  # stripped: a third of the size
    COMPILE = ["-O3"]


def native(name: str, *modules: str) -> Extension:
    """The extension ``pbs_push._native.<name>`` with the C modules it needs from ``csrc``."""
    return Extension(
        f"pbs_push._native.{name}",
        sources=[f"src/pbs_push/_native/{name}.pyx", *(f"csrc/pbs_{m}.c" for m in modules)],
        depends=HEADERS,
        include_dirs=["csrc"],
        extra_compile_args=[*COMPILE, "-std=c11", "-Wall", "-Wextra", "-pthread"],
        extra_link_args=["-pthread", *LINK],
    )


setup(
    ext_modules=[
        native("blob", "blob"),
        native("chunks", "blob", "chunks"),
        native("digests", "digests"),
        native("index", "blob", "chunks", "entries", "index", "map"),
        native("transport", *UPLOAD, *HTTP2),
    ],
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
