"""The commands, and the edge where errors become a line and an exit status."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import resource
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from pbs_push.cli.exit_status import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, help_text
from pbs_push.cli.lines import PROGRAM, WARNING, drop_output, error_line, one_line, safe_json, say
from pbs_push.cli.loading import begin
from pbs_push.cli.privacy import keep_private
from pbs_push.errors import Cancelled, PbsPushError, limit_error, os_reason
from pbs_push.version import VERSION

_COMMANDS: Final = {
    "push": ("pbs_push.cli.push_command", "Push a datastore to a remote Proxmox Backup Server."),
    "run": ("pbs_push.cli.run_command", "Run the pushes of a configuration file."),
    "plan": ("pbs_push.cli.push_command:plan", "Say what a push would do, and how much it sends."),
    "check": ("pbs_push.cli.check_command", "Look whether a push would go through, and how fast."),
    "status": ("pbs_push.cli.status_command", "Say how far a target is behind."),
    "verify": ("pbs_push.cli.verify_command", "Verify a source, or a target against it."),
    "list": ("pbs_push.cli.list_command", "Show what a source datastore holds."),
    "job": ("pbs_push.cli.job_commands", "List and run the push jobs of this host."),
    "serve": ("pbs_push.cli.serve_command", "Serve a directory as a target, for tests."),
    "bench": ("pbs_push.cli.bench", "Measure this machine, a datastore and a target."),
}
"""By name: the module, whose attribute ``command`` it is if no other is named, and what it does in
one line."""

OPEN_FILES: Final = 65_536
"""As many as 48 groups at once may need whose snapshots have hundreds of archives each."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, and not to show the help."""

    def __init__(self, *, lazy: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(**attributes)
        self._lazy = lazy

    @property
    def summaries(self) -> dict[str, str]:
        """What each command does in one line, by name."""
        return {name: text for name, (_, text) in self._lazy.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the order of the help."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is none of this name."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        found = getattr(import_module(module), attribute or "command")
        return found if isinstance(found, click.Command) else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands and options that begin so, without importing a command."""
        commands = [
            CompletionItem(name, help=text)
            for name, text in self.summaries.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The commands' part of the help."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    click.echo(f"{PROGRAM} {VERSION}")
    context.exit()


app = LazyGroup(
    lazy=_COMMANDS,
    help="Push Proxmox Backup Server datastores to a remote one. The source is only read.",
    epilog=help_text(),
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own, unless given) and return its exit status.

    Each mistake and failure is one line on stderr.
    """
    try:
        status = app.main(arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, Cancelled) as error:
        say(f"{PROGRAM}: interrupted: {error}".removesuffix(": "), WARNING)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Who read our output has closed it (``| head``): that needs no message, nor does the rest.
        with contextlib.suppress(OSError, ValueError):  # it has no descriptor, or is closed
            drop_output(sys.stdout.fileno())
        return EXIT_FAILED
    except SystemExit as ended:  # click's, when it has answered a shell
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED
    except (click.ClickException, PbsPushError, OSError) as error:
        message, status = _explained(error)
        if isinstance(error, click.ClickException) and _wants_json(arguments):
            print(safe_json(_document(message, status), indent=2))
        if isinstance(error, click.ClickException) and _wants_events(arguments):
            from pbs_push.cli.event_json import tell  # noqa: PLC0415  (for this alone)

            text = {"level": "error", "text": one_line(message)}
            tell("message", {**text, "exit-status": status})
        else:
            say(error_line(message))
    except RecursionError:  # of no text that is known; each parser has its own limit
        say(error_line("something is nested too deep"))
        return EXIT_FAILED
    except (MemoryError, RuntimeError, ImportError) as error:
        failure = limit_error(error)
        if failure is None:
            raise
        say(error_line(str(failure)))
        return failure.exit_status
    return status if isinstance(status, int) else EXIT_OK


def _wants_json(arguments: Sequence[str] | None) -> bool:
    """Whether a command line that cannot be understood asks for a JSON document all the same."""
    words = sys.argv[1:] if arguments is None else arguments
    pairs = itertools.pairwise(words)
    return "--json" in words or any(
        one == "--output-format" and other.startswith("json") for one, other in pairs
    )


def _wants_events(arguments: Sequence[str] | None) -> bool:
    """Whether it asks for events, which whoever reads them expects to be all that comes."""
    return "--log-json" in (sys.argv[1:] if arguments is None else arguments)


def _document(message: str, status: int) -> dict[str, object]:
    """What a command says on stdout that did not begin."""
    from pbs_push.push.document import head  # noqa: PLC0415  (for this alone)

    return head("error", None, status, None) | {
        "error": {
            "kind": "UsageError",
            "message": one_line(message),
            "exit-status": status,
            "retryable": False,
        }
    }


def _explained(error: click.ClickException | PbsPushError | OSError) -> tuple[str, int]:
    """An error's message and exit status."""
    if isinstance(error, click.ClickException):
        return _usage_message(error), error.exit_code
    if isinstance(error, PbsPushError):
        return str(error), error.exit_status
    return _os_error_message(error), EXIT_FAILED


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return message
    return f"{message.rstrip('.')} (see '{context.command_path} --help')"


def _os_error_message(error: OSError) -> str:
    reason = os_reason(error) or type(error).__name__
    return reason if error.filename is None else f"{error.filename}: {reason}"


class _StandardOutput(io.FileIO):
    """Standard output, whose errors say that they are its."""

    def write(self, data: Any, /) -> int:
        """As FileIO's."""
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def _name_standard_output() -> None:
    """Let errors of standard output name it: a full disk may be another one's."""
    given = sys.stdout
    if isinstance(given, io.TextIOWrapper):
        raw = io.BufferedWriter(_StandardOutput(given.fileno(), "wb", closefd=False))
        sys.stdout = io.TextIOWrapper(
            raw, given.encoding, given.errors, line_buffering=given.line_buffering
        )


def _raise_open_files() -> None:
    """Allow more open files than the usual 1024, as far as the system lets us.

    Each group under way has its indexes and some chunks open. The usual limit is one for programs
    that use select(); this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _fill_standard_streams() -> None:
    """Where one was closed (``2>&-``), let what is written there go nowhere.

    Otherwise the next file that is opened would take its place, and be written to as such: with
    Python 3.14 ctypes alone, which keeps libffi's file open.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (as long as the process)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def prepare() -> None:
    """Make the process fit for commands."""
    _fill_standard_streams()
    begin()
    keep_private()
    _name_standard_output()
    _raise_open_files()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names and notes may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")


def end(status: int) -> NoReturn:
    """End the process."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # Neither waiting for a thread that may wait for the target, nor taking apart what goes anyway.
    os._exit(status)
