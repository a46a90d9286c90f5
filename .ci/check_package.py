"""Builds the sdist and, from that, the wheel; looks what they hold; tries the wheel by itself.

`make package-check` runs it. Nothing is left behind but src/pbs_push.egg-info.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "pbs_push"
TRIAL = "import pbs_push; [getattr(pbs_push, name) for name in pbs_push.__all__]"


def main() -> None:
    """All of it; the process ends with 1 and a reason at the first that is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="pbs-push-package-") as folder:
        made = Path(folder, "dist")
        run(sys.executable, "-m", "build", "--outdir", made, ROOT)
        (sdist,) = made.glob("*.tar.gz")
        (wheel,) = made.glob("*.whl")
        check_sdist(sdist)
        check_wheel(wheel)
        version = try_wheel(wheel, Path(folder, "venv"))
        sizes = (f"{path.name} of {path.stat().st_size >> 10} KiB" for path in (sdist, wheel))
        sys.stdout.write(f"{version} works as {' and '.join(sizes)}\n")


def run(*command: object, cwd: Path = ROOT) -> str:
    """What a command printed. Where it fails, that is shown and the check ends."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=cwd
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{' '.join(words)}: status {done.returncode}")
    return done.stdout


def expect(what: Path, found: set[str], needed: set[str], allowed: set[str]) -> None:
    """End the check if something needed is not in there, or something that is not allowed is."""
    lacking, beyond = sorted(needed - found), sorted(found - allowed)
    if lacking or beyond:
        sys.exit(f"{what.name} lacks {lacking}, and holds beyond what it should {beyond}")


def check_sdist(sdist: Path) -> None:
    """It holds the repository's files, and nothing that was made from them."""
    if not (ROOT / ".git").exists():  # this is an unpacked sdist itself
        return
    with tarfile.open(sdist) as archive:
        found = {entry.name.partition("/")[2] for entry in archive if entry.isfile()}
    found -= {"PKG-INFO", "setup.cfg"}
    found -= {name for name in found if name.startswith("src/pbs_push.egg-info/")}
    tracked = set(run("git", "ls-files").splitlines())
    new = set(run("git", "ls-files", "--others", "--exclude-standard").splitlines())
    expect(sdist, found, {name for name in tracked if (ROOT / name).exists()}, tracked | new)


def check_wheel(wheel: Path) -> None:
    """Modules, stubs and stripped extension modules; no sources of those, no tests."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    paths = {path for kind in ("*.py", "*.pyi", "py.typed") for path in PACKAGE.rglob(kind)}
    paths |= {path.with_suffix(suffix) for path in PACKAGE.rglob("*.pyx")}
    expected = {str(path.relative_to(PACKAGE.parent)) for path in paths}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        expect(wheel, found, expected, expected)
        for name in (name for name in found if name.endswith(suffix)):
            content = archive.read(name)
            if b".symtab" in content or b".debug_info" in content:
                sys.exit(f"{wheel.name}: {name} is not stripped")


def try_wheel(wheel: Path, folder: Path) -> str:
    """Use it where nothing else is but what it needs, away from the sources; says its version."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    run(python, "-I", "-c", TRIAL, cwd=folder)
    run(python, "-I", "-m", "pbs_push.demo", "--mib", 30, cwd=folder)
    return run(folder / "bin" / "pbs-push", "--version", cwd=folder).strip()


if __name__ == "__main__":
    main()
