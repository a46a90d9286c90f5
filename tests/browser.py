"""A page as a browser shows it, where one is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any, Final

import pytest

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER: Final = next(filter(None, map(shutil.which, _NAMES)), None)
needs_browser: Final = pytest.mark.skipif(
    BROWSER is None, reason=f"no browser is installed: none of {', '.join(_NAMES)}"
)

_LOOK: Final = """
const found = { wide: document.documentElement.scrollWidth > innerWidth, charts: [], outside: [] };
found.width = innerWidth;
found.ink = getComputedStyle(document.body).color;
found.headings = Array.from(document.querySelectorAll("h1, h2"), one => one.textContent);
found.cells = Array.from(document.querySelectorAll("td"), one => one.textContent);
for (const svg of document.querySelectorAll("svg")) {
  const room = svg.getBoundingClientRect();
  found.charts.push([svg.getAttribute("aria-label"), room.width, room.height]);
  for (const part of svg.querySelectorAll("text, rect, polygon, polyline")) {
    const box = part.getBoundingClientRect();
    if (box.left < room.left - 1 || box.right > room.right + 1
        || box.top < room.top - 1 || box.bottom > room.bottom + 1)
      found.outside.push(part.textContent || part.getAttribute("class"));
  }
}
document.body.setAttribute("data-found", JSON.stringify(found));
"""


def shown(page: str, folder: Path, width: int = 1000) -> dict[str, Any]:
    """What a browser makes of a page in a window of this width.

    ``charts`` are names, widths and heights; ``outside`` is what stands beyond its chart; ``wide``
    whether the page must be moved sideways.
    """
    path = folder / "looked-at.html"
    path.write_text(page.replace("</body>", f"<script>{_LOOK}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        check=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout.decode())
    assert found is not None, done.stderr.decode()
    return dict(json.loads(unescape(found[1])))
