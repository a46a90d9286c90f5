"""Builds and tries the package where this machine is not: another Python, another processor.

    make elsewhere WHERE=python3.14     Debian's sid, with its own Python, in a folder
    make elsewhere WHERE=aarch64        Debian for arm64, every program of it run by QEMU
    make elsewhere WHERE=csrc-aarch64   only the C tests, cross-compiled, run by QEMU

Needs root on Debian, with `apt-get install debootstrap`, for aarch64 `qemu-user-static`, and for
the C tests `gcc-aarch64-linux-gnu libc6-dev-arm64-cross`. Folders lie in build/elsewhere;
what is mounted, and QEMU's registration, goes with the process (CONTRIBUTING.md, "Elsewhere").
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "build" / "elsewhere"
MIRROR: Final = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES: Final = "python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates,openssl"
QEMU: Final = "/usr/bin/qemu-aarch64-static"
WHERES: Final = {"python3.14": ("sid", None), "aarch64": ("bookworm", "arm64")}
TESTS: Final = os.environ.get("ELSEWHERE_TESTS", "tests/native tests/formats tests/push")

ELF: Final = (
    rb":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
    + QEMU.encode()
    + b":F"
)
"""For binfmt_misc: programs for aarch64 are run by QEMU, which is opened now."""

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000

IN_THE_FOLDER: Final = f"""
set -e
cd /src
python3 --version; uname -m
test -x /venv/bin/python || python3 -m venv /venv
rm -rf /wheel
/venv/bin/pip wheel --quiet --no-deps --wheel-dir /wheel .
/venv/bin/pip install --quiet /wheel/*.whl pytest pytest-timeout pytest-xdist hypothesis
/venv/bin/pip install --quiet --no-deps --force-reinstall /wheel/*.whl
rm -r src
/venv/bin/python -W error -c 'import pbs_push; [getattr(pbs_push, n) for n in pbs_push.__all__]'
/venv/bin/python -m pbs_push.demo --mib 5
/venv/bin/pytest -q -p no:cacheprovider --timeout 900 {TESTS}
"""
WITHOUT_DEVICES: Final = """
check_sane_mount () { :; }
setup_devices () { :; }
setup_devices_simple () { :; }
setup_proc () { :; }
"""
"""For debootstrap, which would make devices, and may not where it is: they are mounted."""


def main() -> int:
    """The exit status of what was run."""
    where = sys.argv[1] if len(sys.argv) == 2 else ""  # noqa: PLR2004
    if where == "csrc-aarch64":
        return isolated(c_tests)
    if where not in WHERES or os.geteuid() != 0:
        sys.exit(__doc__)
    suite, architecture = WHERES[where]
    root = FOLDER / where
    if not (root / ".made").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        foreign = [] if architecture is None else [f"--arch={architecture}", "--foreign"]
        options = ["--variant=minbase", f"--include={PACKAGES}", *foreign]
        run("debootstrap", *options, suite, root, MIRROR)
        if architecture is not None:
            with (root / "debootstrap" / "functions").open("a") as functions:
                functions.write(WITHOUT_DEVICES)
            second = "/debootstrap/debootstrap --second-stage"
            if status := isolated(lambda: inside(root, second)):
                return status
        (root / ".made").touch()
    lay_source(root)
    return isolated(lambda: inside(root, IN_THE_FOLDER), emulated=architecture is not None)


def lay_source(root: Path) -> None:
    """The committed tree, and what the network needs, in the folder."""
    shutil.rmtree(root / "src", ignore_errors=True)
    command = ["git", "-C", str(ROOT), "archive", "HEAD"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as packed,
        tarfile.open(fileobj=packed.stdout, mode="r|") as archive,
    ):
        archive.extractall(root / "src", filter="data")
    for name in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"):
        if (Path("/") / name).exists():
            shutil.copyfile(Path("/") / name, root / name)


def inside(root: Path, script: str) -> int:
    """Run a script with ``root`` as the root."""
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "--rbind", "/dev", root / "dev")
    return subprocess.run(["chroot", root, "/bin/bash", "-c", script], check=False).returncode


def c_tests() -> int:
    """The C tests for aarch64, without the address sanitizer, which QEMU has no room for."""
    tool = "aarch64-linux-gnu-"
    tools = [f"CC={tool}gcc", f"LD={tool}ld", f"OBJCOPY={tool}objcopy"]
    sanitizer = "SANITIZE=-fsanitize=undefined -fno-sanitize-recover=all"
    os.environ["QEMU_LD_PREFIX"] = "/usr/aarch64-linux-gnu"
    build = f"BUILD={FOLDER / 'csrc'}"
    command = ["make", "-C", ROOT / "csrc", "test", *tools, sanitizer, build]
    return subprocess.run(command, check=False).returncode


def isolated(work: Callable[[], int], *, emulated: bool = True) -> int:
    """Do work in namespaces of its own: mounts, processes, and the kinds of programs known."""
    outer, inner = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            flags = CLONE_NEWNS | CLONE_NEWPID | (CLONE_NEWUSER if emulated else 0)
            if libc.unshare(flags):
                raise OSError(ctypes.get_errno(), "unshare")
            os.write(outer[1], b"x")
            os.read(inner[0], 1)
            code = _in_a_process_of_its_own(work, emulated=emulated)
        finally:
            os._exit(code)
    os.read(outer[0], 1)
    if emulated:
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text("0 0 65536\n")
    os.write(inner[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _in_a_process_of_its_own(work: Callable[[], int], *, emulated: bool) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # Tests press Ctrl-C, which a shell has ignored for what it runs in the background.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            run("mount", "--make-rprivate", "/")
            if emulated:
                run("mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc")
                Path("/proc/sys/fs/binfmt_misc/register").write_bytes(ELF)
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(*command: object) -> None:
    """Run a program that must not fail."""
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    sys.exit(main())
