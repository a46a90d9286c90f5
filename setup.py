"""The extension modules; everything else about the package is in pyproject.toml."""

import os

from setuptools import Extension, setup


def native(name: str, *modules: str) -> Extension:
    """The extension ``pbs_push._native.<name>`` with the C modules it needs from ``csrc``."""
    headers = [f"csrc/pbs_{module}.h" for module in (*modules, "bytes", "error")]
    return Extension(
        f"pbs_push._native.{name}",
        sources=[f"src/pbs_push/_native/{name}.pyx", *(f"csrc/pbs_{m}.c" for m in modules)],
        depends=headers,
        include_dirs=["csrc"],
        extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra", "-pthread"],
        extra_link_args=["-pthread"],
    )


setup(
    ext_modules=[
        native("blob", "blob"),
        native("digests", "digests"),
        native("index", "index", "map"),
        native("transport", "blob", "chunks", "entries", "hpack", "http2", "upload"),
    ],
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
