"""The extension modules; everything else about the package is in pyproject.toml."""

import copy
import gzip
import os
import runpy
import sys
import tarfile
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

# Any module may use any of these: a change of one rebuilds all, and an sdist holds them all.
HEADERS = [
    *sorted(str(path) for path in Path("csrc").glob("pbs_*.h")),
    *sorted(str(path) for path in Path("src/pbs_push/_native").glob("*.pxd")),
]

UPLOAD = ("blob", "chunks", "entries", "event", "index", "readers", "ring", "shared", "upload")
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


def shared_files() -> list[tuple[str, list[str]]]:
    """What goes into ``share`` of where this is installed: man pages, made here, and completion."""
    maker = Path("docs/make_man.py")
    if not maker.exists():  # the part of the sources that `make test-sanitized` takes
        return []
    sys.path.insert(0, "src")  # the commands are imported, which takes nothing but click
    pages = runpy.run_path(str(maker))["write"]()
    completions = Path("contrib/completions")
    return [
        ("share/man/man1", sorted(os.path.relpath(page) for page in pages)),
        ("share/bash-completion/completions", [str(completions / "pbs-push")]),
        ("share/zsh/site-functions", [str(completions / "_pbs-push")]),
        ("share/fish/vendor_completions.d", [str(completions / "pbs-push.fish")]),
    ]


class BuildExt(build_ext):
    """Builds each extension in a folder of its own.

    Several are built at once, and share C modules: one would link an object that another one is
    just writing, half of it, which no linker minds in a shared library.
    """

    def build_extension(self, ext: Extension) -> None:
        """Compile and link one."""
        own = copy.copy(self)
        own.build_temp = os.path.join(self.build_temp, ext.name.rpartition(".")[2])  # noqa: PTH118
        super(BuildExt, own).build_extension(ext)


class Sdist(sdist):
    """An archive that is the same for the same SOURCE_DATE_EPOCH, which setuptools' is not."""

    def make_archive(self, base_name: str, format: str, *args: Any, **kwargs: Any) -> str:  # noqa: A002
        """Write it; the name is returned."""
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        if epoch is None or format != "gztar":
            return str(super().make_archive(base_name, format, *args, **kwargs))
        name = f"{base_name}.tar.gz"
        with (
            Path(name).open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in sorted(Path(kwargs["base_dir"]).rglob("*")):
                archive.add(path, recursive=False, filter=lambda one: _plain(one, int(epoch)))
        return name


def _plain(entry: tarfile.TarInfo, epoch: int) -> tarfile.TarInfo:
    """An entry without what differs from one machine to the next."""
    entry.mtime = epoch
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.mode & 0o100 else 0o644
    return entry


setup(
    cmdclass={"build_ext": BuildExt, "sdist": Sdist},
    data_files=shared_files(),
    ext_modules=[
        native("blob", "blob"),
        native("chunks", "blob", "chunks"),
        native("digests", "digests"),
        native("index", "blob", "chunks", "entries", "index", "map"),
        native("shared", "blob", "chunks", "shared"),
        native("transport", *UPLOAD, *HTTP2),
    ],
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
