"""The version, in one place: the build takes it from here, too (pyproject.toml)."""

from typing import Final

VERSION: Final = "0.1.0"
