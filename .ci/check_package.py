"""Builds the sdist and, from that, the wheel; looks what they hold; tries the wheel by itself.

`make package-check` runs it. Both are built twice, in different folders, and have to be the same.
With `--all` (`make package-check-all`), which takes a minute or more for each, wheels are also
built and tried with every other Python from 3.11 on that is found. Nothing is left behind but
src/pbs_push.egg-info and build/man.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "pbs_push"
SHARED = {
    "share/bash-completion/completions/pbs-push",
    "share/fish/vendor_completions.d/pbs-push.fish",
    "share/man/man1/pbs-push.1",
    "share/man/man1/pbs-push-push.1",
    "share/zsh/site-functions/_pbs-push",
}
MAN = re.compile(r"share/man/man1/pbs-push-[a-z-]+\.1")
TRIAL = "import pbs_push; [getattr(pbs_push, name) for name in pbs_push.__all__]"


EPOCH = "1767225600"
"""The time that the files of both builds have: SOURCE_DATE_EPOCH."""

OLDEST = (3, 11)


def main() -> None:
    """All of it; the process ends with 1 and a reason at the first that is not as it should be."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", EPOCH)
    with tempfile.TemporaryDirectory(prefix="pbs-push-package-") as folder:
        place = Path(folder)
        sdist, wheel = build(ROOT, place / "dist")
        check_sdist(sdist)
        check_wheel(wheel)
        check_same((sdist, wheel), build(unpacked(sdist, place), place / "again"))
        version = try_wheel(wheel, place / "venv", Path(sys.executable))
        sizes = (f"{path.name} of {path.stat().st_size >> 10} KiB" for path in (sdist, wheel))
        sys.stdout.write(f"{version} works as {' and '.join(sizes)}\n")
        if "--all" in sys.argv:
            try_others(sdist, place)


def build(source: Path, out: Path) -> tuple[Path, Path]:
    """The sdist of a folder, and the wheel that is built of that."""
    run(sys.executable, "-m", "build", "--outdir", out, source)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def unpacked(sdist: Path, place: Path) -> Path:
    """The folder with its content, without what setuptools adds to that of the repository."""
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "source", filter="data")
    (found,) = (place / "source").iterdir()
    for name in ("PKG-INFO", "setup.cfg", "src/pbs_push.egg-info"):
        added = found / name
        shutil.rmtree(added) if added.is_dir() else added.unlink()
    return found


def check_same(first: tuple[Path, ...], second: tuple[Path, ...]) -> None:
    """Who builds it elsewhere at another time gets the same."""
    for one, other in zip(first, second, strict=True):
        digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)}
        if len(digests) > 1:
            sys.exit(f"{one.name} is another one when it is built again: {difference(one, other)}")


def difference(one: Path, other: Path) -> str:
    """Which files of two archives differ, if it is not the order or a time."""
    contents = [dict(members(path)) for path in (one, other)]
    names = contents[0].keys() | contents[1].keys()
    differing = [name for name in names if contents[0].get(name) != contents[1].get(name)]
    return ", ".join(sorted(differing)) or "an order, a time or a mode"


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files of an archive with their content."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
        return
    with tarfile.open(path) as sdist:
        for entry in sdist:
            opened = sdist.extractfile(entry)
            if opened is not None:
                yield entry.name, opened.read()


def try_others(sdist: Path, place: Path) -> None:
    """The same with each other Python that is here, one of a version."""
    for python, version in other_pythons().items():
        out = place / version
        run(python, "-m", "venv", out / "build")
        builder = out / "build" / "bin" / "python"
        pip = (builder, "-m", "pip", "--disable-pip-version-check", "-q")
        run(*pip, "wheel", "--no-deps", "--wheel-dir", out, sdist)
        (wheel,) = out.glob("*.whl")
        shown = try_wheel(wheel, out / "venv", python)
        sys.stdout.write(f"{shown} works as {wheel.name}\n")


def other_pythons() -> dict[Path, str]:
    """Pythons of other versions: on the PATH, and those of pyenv."""
    places = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep) if place]
    places += (Path.home() / ".pyenv" / "versions").glob("*/bin")
    found: dict[str, Path] = {}
    for path in (path for place in places for path in sorted(place.glob("python3.*"))):
        if not re.fullmatch(r"python3\.\d+", path.name) or "shims" in path.parts:
            continue
        version = path.name.removeprefix("python")
        number = tuple(map(int, version.split(".")))
        if number >= OLDEST and number != sys.version_info[:2]:
            found.setdefault(version, path)
    return {path: version for version, path in found.items()}


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
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        shared = {name.partition(".data/data/")[2] for name in names} - {""}
        expect(wheel, shared, SHARED, {*SHARED, *(name for name in shared if MAN.fullmatch(name))})
        found = {name for name in names if ".data/" not in name}
        expect(wheel, found, expected, expected)
        for name in (name for name in found if name.endswith(suffix)):
            content = archive.read(name)
            if b".symtab" in content or b".debug_info" in content:
                sys.exit(f"{wheel.name}: {name} is not stripped")


def try_wheel(wheel: Path, folder: Path, interpreter: Path) -> str:
    """Use it where nothing else is but what it needs, away from the sources; says its version."""
    run(interpreter, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    run(python, "-I", "-c", TRIAL, cwd=folder)
    run(python, "-I", "-m", "pbs_push.demo", "--mib", 30, cwd=folder)
    return run(folder / "bin" / "pbs-push", "--version", cwd=folder).strip()


if __name__ == "__main__":
    main()
