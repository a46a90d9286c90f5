"""Known vulnerabilities of what is installed, asked of PyPI by pip-audit.

Ends with 1 where there are any. Where it cannot be asked (no network, no pip-audit to be had), it
says so with the reason and ends with 0: a machine without a network still tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOL = "pip-audit>=2.7,<3"
TIMEOUT_S = 120


def main() -> int:
    """Audit; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = audited(Path(folder))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            print(f"audit: SKIPPED, nothing was looked up: {reason_of(error)}")
            return 0
    for name, version, vulnerability in found:
        print(f"audit: {name} {version}: {vulnerability}")
    print(f"audit: {len(found)} known vulnerabilities")
    return 1 if found else 0


def audited(folder: Path) -> list[tuple[str, str, str]]:
    """Name, version and vulnerability of each. Raises where it cannot be told."""
    frozen = folder / "frozen.txt"
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--all"]
    frozen.write_bytes(subprocess.run(freeze, check=True, capture_output=True).stdout)
    venv.create(folder / "tool", with_pip=True)
    python = str(folder / "tool" / "bin" / "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL)
    report = folder / "report.json"
    options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "15")
    output = ("--format", "json", "--output", str(report))
    done = run(python, "-m", "pip_audit", "-r", str(frozen), *options, *output, check=False)
    if not report.exists():  # vulnerabilities, too, end it with 1
        raise ValueError(done.stderr.decode("utf-8", "replace"))
    told = json.loads(report.read_text())["dependencies"]
    return [
        (one["name"], one["version"], vulnerability["id"])
        for one in told
        for vulnerability in one.get("vulns", ())
    ]


def run(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run a program, within a time."""
    return subprocess.run(words, check=check, capture_output=True, timeout=TIMEOUT_S)


def reason_of(error: Exception) -> str:
    """The last line of what went wrong."""
    text = getattr(error, "stderr", None) or str(error)
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
