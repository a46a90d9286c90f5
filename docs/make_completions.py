"""Writes contrib/completions: python docs/make_completions.py.

What bash, zsh and fish load once, as click writes it for this command; at a Tab it asks the command
itself (src/pbs_push/cli/completion.py). So the files do not change with the options, and are
committed.
"""

from __future__ import annotations

from pathlib import Path

from click.shell_completion import get_completion_class

from pbs_push.cli.app import app
from pbs_push.cli.lines import PROGRAM

FOLDER = Path(__file__).parents[1] / "contrib" / "completions"
FILES = {"bash": PROGRAM, "zsh": f"_{PROGRAM}", "fish": f"{PROGRAM}.fish"}
"""By shell: the name under which it looks for the file."""

_VARIABLE = f"_{PROGRAM}_COMPLETE".replace("-", "_").upper()


def script(shell: str) -> str:
    """The file for one shell."""
    cls = get_completion_class(shell)
    assert cls is not None, shell
    completion = cls(app, {}, PROGRAM, _VARIABLE)
    # Not source(), which asks this machine's bash for its version.
    text = completion.source_template % completion.source_vars()
    return text.strip() + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for shell, name in FILES.items():
        (FOLDER / name).write_text(script(shell))
