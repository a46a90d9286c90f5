"""A table of the configuration file as a push: its keys are the options of ``pbs-push push``.

They are given to the command's own parser, so that each means what it means there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pbs_push.cli.config_file import ConfigFile, PushTable, unknown
from pbs_push.cli.credentials import find_key_password, find_secret, first_line, referenced
from pbs_push.cli.mistakes import Mistakes
from pbs_push.cli.options import make_output, plan_output_options
from pbs_push.cli.push_arguments import Arguments
from pbs_push.cli.push_command import command as push_command
from pbs_push.cli.worker_options import take_workers
from pbs_push.errors import ConfigError
from pbs_push.push.document import Sides
from pbs_push.remote.auth import Secret

if TYPE_CHECKING:
    from pbs_push.cli.finishing import Finishing
    from pbs_push.cli.options import Output
    from pbs_push.cli.work import Work
    from pbs_push.names import AuthId

_KINDS: Final = ("file", "command", "env")
TARGET_SECRET: Final = "password-"  # noqa: S105  (names of keys, no secrets)
KEY_SECRET: Final = "encryption-password-"  # noqa: S105
_REFERENCES: Final = [f"{begin}{kind}" for begin in (TARGET_SECRET, KEY_SECRET) for kind in _KINDS]
_SECRETS: Final = ("password", "secret", "token", "token-secret", "encryption-password")
_NO_SIDE: Final = "none"
"""Read as a source or a target where there is none, so that the rest is looked at."""
OF_EACH: Final = ("metrics-file", "html")
"""Files that a push writes, in which ``{name}`` is its name."""


def _options() -> dict[str, click.Parameter]:
    """By their keys: what a push takes, but how the command line shows it."""

    def none() -> None:
        """Has the options that are left out."""

    shown = click.command(plan_output_options(none)).params
    left_out = {name for parameter in shown for name in parameter.opts} | {"--dry-run"}
    return {
        name.removeprefix("--"): parameter
        for parameter in push_command.params
        for name in parameter.opts
        if name not in left_out | {"--log-json"} and len(name) > 2  # noqa: PLR2004
    }


OPTIONS: Final = _options()
"""What a key means, as an argument or option of ``pbs-push push``."""
KEYS: Final = (*OPTIONS, *_REFERENCES)


@dataclass(frozen=True, slots=True)
class ConfiguredPush:
    """A push of the file: checked, and ready to begin. ``prepare`` opens both sides."""

    name: str
    sides: Sides
    prepare: Callable[[], Work]
    finishing: Finishing
    repository: str
    """The target, or the remote that it is on, as people read it."""
    lacks: str | None = None
    """A file that it reads when it begins, and that is not there, with its line."""
    also: tuple[str, ...] = ()
    """Further targets, likewise."""
    variables: tuple[str, ...] = ()
    """Of the environment, with secrets of these."""

    @property
    def several(self) -> bool:
        """Whether it has further targets."""
        return bool(self.also)


def configured(file: ConfigFile) -> list[ConfiguredPush]:
    """All pushes of a file. Raises ConfigError that names each mistake and its line.

    Variables that hold a secret are taken out of this process's environment then: no program that
    a push runs is to inherit them.
    """
    mistakes = Mistakes()
    written: dict[str, str] = {}
    tables = file.pushes()
    found = [_configured(table, mistakes) for table in tables]
    for table in tables:
        _check_written(table, written, mistakes)
    mistakes.tell()
    made = [push for push in found if push is not None]
    for table in tables:
        for begin in (TARGET_SECRET, KEY_SECRET):
            os.environ.pop(str(table.values.get(f"{begin}env")), None)
    for name in (name for push in made for name in push.variables):
        os.environ.pop(name, None)
    return made


def _configured(table: PushTable, mistakes: Mistakes) -> ConfiguredPush | None:
    """None, or what is left of it, where there are mistakes: then no push is begun."""
    _check_sides(table, mistakes)
    fields = _secrets(table, mistakes) | _also(table, mistakes)
    read = _read(_usable(table, mistakes), fields, mistakes)
    if read is None:
        return None
    arguments, prepare, output = read
    remote = arguments.remote
    there = f"{remote}:{arguments.remote_store}" if remote else str(arguments.repository)
    lacks = _missing_file(table, arguments)
    return ConfiguredPush(
        table.name,
        arguments.sides,
        prepare,
        output.finishing,
        there,
        lacks,
        tuple(map(str, arguments.also)),
        tuple(one.variable for one in arguments.also if one.variable is not None),
    )


_Read = tuple[Arguments, "Callable[[], Work]", "Output"]


def _read(table: PushTable, fields: Mapping[str, Any], mistakes: Mistakes) -> _Read | None:
    """What the command's parser makes of a table.

    It tells one mistake: the rest is read again without the key that this is about, until nothing
    is wrong. What only follows from a key that was left out is not told.
    """
    left_out: set[str] = set()
    while True:
        left = table.without(left_out)
        try:
            return _parsed(left, fields)
        except click.UsageError as error:
            key = _key_of(left, error)
            follows = any(f"--{one}" in _spoken(error) for one in left_out)
            if not follows and (key is not None or not left_out):
                mistakes.add(f"{table.place(key)}{_of_click(error)}")
            if key is None:
                return None
            left_out.add(key)


def _parsed(table: PushTable, fields: Mapping[str, Any]) -> _Read:
    """Raises UsageError."""
    words = [word for key in table.values if key in OPTIONS for word in _words(table, key)]
    with push_command.make_context("push", [*words, "--", *_sides(table)]) as context:
        values = dict(context.params)
        values["workers"] = take_workers(values)
        output = make_output(values)
        arguments = replace(Arguments.said(values), **fields)
        return arguments, arguments.prepared, output


def _usable(table: PushTable, mistakes: Mistakes) -> PushTable:
    """The table without keys that nothing can be made of."""
    wrong = set()
    for key in table.values:
        try:
            _check_key(table, key)
            if key in OPTIONS:
                list(_words(table, key))
        except ConfigError as error:
            mistakes.add(str(error))
            wrong.add(key)
    return table.without(wrong)


def _check_key(table: PushTable, key: str) -> None:
    value = table.values[key]
    if "\0" in (value if isinstance(value, str) else "".join(map(str, _listed(value)))):
        raise ConfigError(f"{table.place(key)}{key}: a null character can stand nowhere")
    if key in _SECRETS:
        raise ConfigError(
            f"{table.place(key)}'{key}': a secret must not stand here: say where it is, with "
            "password-file, password-command or password-env"
        )
    if key not in KEYS:
        raise ConfigError(f"{table.place(key)}{unknown(key, KEYS)}")


def _missing_file(table: PushTable, arguments: Arguments) -> str | None:
    files = {"keyfile": arguments.keyfile, "config-dir": arguments.config_dir}
    missing = [
        f"{table.place(key)}{key}: {path}: there is no such file"
        for key, path in files.items()
        if path is not None and str(path) != "default" and not path.exists()
    ]
    return "; ".join(missing) or None


def _also(table: PushTable, mistakes: Mistakes) -> dict[str, Any]:
    """Targets with tables of their own, ``[[push.NAME.also]]``, as a field of ``Arguments``."""
    tables = _listed(table.values.get("also"))
    if not any(isinstance(one, dict) for one in tables):
        return {}  # texts, which the option has read
    from pbs_push.cli.also import AlsoTarget  # noqa: PLC0415  (for who has several)

    made = []
    for number, one in enumerate(tables, 1):
        where = f"{table.place('also')}also, target {number}: "
        if not isinstance(one, dict):
            mistakes.add(f"{where}must be a table, as the others are")
            continue
        try:
            values = {key: _also_text(key, value) for key, value in one.items()}
            made.append(AlsoTarget.of(values))
        except ConfigError as error:
            mistakes.add(f"{where}{error}")
    return {"also": tuple(made)}


def _also_text(key: str, value: object) -> str:
    if key.startswith(TARGET_SECRET) and key in _REFERENCES:
        return _followed(key.removeprefix(TARGET_SECRET), value, key)
    if not isinstance(value, str):
        raise ConfigError(f"{key}: must be a text")
    return value


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _check_sides(table: PushTable, mistakes: Mistakes) -> None:
    """Whether there are a source and a target at all, and nothing that has no effect with them."""
    has = table.values.keys()
    if "source" not in has:
        mistakes.add(f"{table.place()}[push.{table.name}] has no source")
    if "repository" not in has and "remote" not in has:
        mistakes.add(f"{table.place()}[push.{table.name}] has no repository, and no remote")
    for key in has:
        if key.startswith(TARGET_SECRET) and key in _REFERENCES and "remote" in has:
            mistakes.add(
                f"{table.place(key)}{key} has no effect with remote: remote.cfg has the secret"
            )
        if key.startswith(KEY_SECRET) and key in _REFERENCES and "keyfile" not in has:
            mistakes.add(f"{table.place(key)}{key} has no effect without keyfile")


def _check_written(table: PushTable, written: dict[str, str], mistakes: Mistakes) -> None:
    """Find two pushes that would write the same file, each over the other's."""
    for key in OF_EACH:
        if key not in table.values:
            continue
        with mistakes.gathered():
            _check_key(table, key)
            text = _text(table, key)
            path = os.path.realpath(text)  # however it is spelled
            if path in written:
                mistakes.add(
                    f"{table.place(key)}{key} {text}: [push.{written[path]}] writes it, too; put "
                    "{name} into it"
                )
            written.setdefault(path, table.name)


def _sides(table: PushTable) -> list[str]:
    """The arguments; what stands for one that there is not has been told of."""
    sides = [_text(table, "source") if "source" in table.values else _NO_SIDE]
    if "repository" in table.values:
        sides.append(_text(table, "repository"))
    elif "remote" not in table.values:
        sides.append(_NO_SIDE)
    return sides


def _words(table: PushTable, key: str) -> Iterator[str]:
    """What stands for a key on a command line."""
    option, value = OPTIONS[key], table.values[key]
    if not isinstance(option, click.Option):
        text = _text(table, key)
        if text.startswith("-") or not text:
            raise ConfigError(f"{table.place(key)}'{text}' cannot be a {key}")
        return
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"{table.place(key)}{key}: must be true or false")
        if value:
            yield f"--{key}"
    elif option.multiple and isinstance(value, list):
        for one in value:
            if key == "also" and isinstance(one, dict):
                continue  # a table of its own
            if not isinstance(one, str):
                raise ConfigError(f"{table.place(key)}{key}: must be a list of texts")
            yield f"--{key}={one}"
    else:
        yield f"--{key}={_text(table, key)}"


def _text(table: PushTable, key: str) -> str:
    value = table.values[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{table.place(key)}{key}: must be a text or a number")
    return str(value).replace("{name}", table.name) if key in OF_EACH else str(value)


def _of_click(error: click.UsageError) -> str:
    """What the parser says, with the key whose value it speaks of."""
    key = _key_of_value(error)
    return error.message if key is None else f"{key}: {error.message}"


def _key_of(table: PushTable, error: click.UsageError) -> str | None:
    """The key that an error of the parser is about, None for one of none of the table's."""
    key, spoken = _key_of_value(error), _spoken(error)
    return next((one for one in table.values if one == key or f"--{one}" in spoken), None)


def _key_of_value(error: click.UsageError) -> str | None:
    parameter = getattr(error, "param", None)
    return next((key for key, one in OPTIONS.items() if one is parameter), None)


def _spoken(error: click.UsageError) -> set[str]:
    return {word.rstrip(":,;") for word in error.message.split()}


# -- secrets --


def _secrets(table: PushTable, mistakes: Mistakes) -> dict[str, Any]:
    """Where secrets come from, by the fields of ``Arguments``."""
    target = key = None
    with mistakes.gathered():
        target = _reference(table, TARGET_SECRET)
    with mistakes.gathered():
        key = _reference(table, KEY_SECRET)

    def secret(auth_id: AuthId) -> Secret:
        return find_secret(auth_id) if target is None else target(f"the secret for {auth_id}")

    def key_password(path: Path) -> Secret:
        what = f"the password of encryption key {path}"
        return find_key_password(path) if key is None else key(what)

    return {"secret": secret, "key_password": key_password}


def _reference(table: PushTable, begin: str) -> Callable[[str], Secret] | None:
    """What follows the reference that a table has, given what the secret is; None without one."""
    given = [kind for kind in _KINDS if f"{begin}{kind}" in table.values]
    if len(given) > 1:
        keys = " and ".join(f"{begin}{kind}" for kind in given)
        raise ConfigError(f"{table.place(f'{begin}{given[1]}')}give one of {keys}")
    if not given:
        return None
    kind, key = given[0], f"{begin}{given[0]}"
    where = f"{table.place(key)}{key}"
    text = _followed(kind, table.values[key], where)
    if kind == "env":
        value = Secret(os.environ[text])
        return lambda what: first_line(value.get_secret_value(), where, what)
    return lambda what: referenced(kind, text, where, what)


def _followed(kind: str, value: object, where: str) -> str:
    """A reference as text, looked at as far as that runs nothing."""
    if kind == "command":
        if not isinstance(value, list) or not value or not all(isinstance(w, str) for w in value):
            raise ConfigError(f'{where}: must be a list of texts: ["pass", "show", "offsite"]')
        return shlex.join(value)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: must be a text")
    if kind == "env" and value not in os.environ:
        raise ConfigError(f"{where}: the variable {value} is not set")
    if kind == "file" and not os.access(value, os.R_OK):
        reason = "it cannot be read" if Path(value).exists() else "there is no such file"
        raise ConfigError(f"{where}: {value}: {reason}")
    return value
