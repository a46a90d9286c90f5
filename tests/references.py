"""Where data lies that other code than the package has made.

``GOLDEN`` is of our own making and in the repository (`tests/golden`). ``REAL`` are recordings and
a datastore of a real PBS, which are not; ``PBS_PUSH_FIXTURES`` tells of another place, or of none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "fixtures"

GOLDEN: Final = Path(__file__).parent / "golden" / "data"
REAL: Final = Path(os.environ.get("PBS_PUSH_FIXTURES") or _BESIDE)
