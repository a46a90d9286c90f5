"""The configuration file of ``pbs-push run``: what it says, and mistakes with their lines."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from pbs_push.cli.config_file import ConfigFile, default_path
from pbs_push.cli.configured import KEYS, OPTIONS, ConfiguredPush, _secrets, configured
from pbs_push.cli.finishing import Finishing
from pbs_push.cli.mistakes import Mistakes
from pbs_push.cli.push_command import command as push_command
from pbs_push.errors import ConfigError
from pbs_push.push.options import OPTIONS as TABLE

MANUAL = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


def pushes(text: str) -> dict[str, ConfiguredPush]:
    return {push.name: push for push in configured(ConfigFile(Path("c.toml"), text))}


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        pushes(text)
    return str(caught.value)


ONE = """[push.one]
source = "/store"
repository = "h:store"
"""


def test_every_option_of_a_push_is_a_key() -> None:
    flags = {option.flag for option in TABLE.values() if option.flag is not None}
    assert {f"--{key}" for key in OPTIONS} >= flags
    every = {name for one in push_command.params for name in one.opts if len(name) > 2}
    shown = {"--dry-run", "--json", "--log-json", "--output-format", "--quiet", "--verbose"}
    arguments = {one.name for one in push_command.params if isinstance(one, click.Argument)}
    assert {f"--{key}" for key in OPTIONS if key not in arguments} == every - shown - arguments


def test_examples_of_the_manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbs_push.cli.configured.os.access", lambda *_: True)
    monkeypatch.setattr(Finishing, "check", lambda _self: None)  # folders and commands of its host
    examples = re.findall(r"^```toml\n(.*?)^```", MANUAL, re.DOTALL | re.MULTILINE)
    assert len(examples) == 2
    made = pushes(examples[0])
    assert list(made) == ["machines", "laptops", "second-site"]
    assert made["machines"].repository == "backup@pbs!offsite@backup.example.com:8007:offsite"
    assert made["second-site"].repository == "pbs2:copy"
    assert str(made["machines"].finishing.metrics_file).endswith("/pbs-push-machines.prom")
    assert made["laptops"].finishing.failures
    assert str(made["laptops"].sides.target_namespace) == "site1/laptops"
    assert list(pushes(examples[1])) == ["offsite"]
    named = set(re.findall(r"`([a-z-]+)` \|", MANUAL))
    assert named - {"run"} <= set(KEYS)


def test_values_of_all_kinds() -> None:
    made = pushes(
        ONE
        + """
max-depth = 2
retry-for = 1.5
transfer-last = "3"
group-filter = "type:vm"
remove-vanished = true
sync-metadata = false
rate-out = 1048576
parallel = "auto"
[push.two]
source = "x"
repository = "h:store"
group-filter = ["type:vm", "exclude:group:vm/1"]
"""
    )
    assert list(made) == ["one", "two"]


def test_defaults_are_inherited_and_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    file = ConfigFile(
        Path("c.toml"),
        """[defaults]
repository = "h:store"
password-env = "SECRET"
keyfile = "/k"
encryption-password-env = "SECRET"
remove-vanished = true
ns = "a"
remote-ns = "there"
[push.one]
source = "/s"
remove-vanished = false
password-command = ["echo", "x y"]
[push.two]
source = "/s"
remote = "r"
remote-store = "s"
encryption-key = "k"
""",
    )
    one, two = file.pushes()
    assert one.values["remove-vanished"] is False
    assert "password-env" not in one.values
    assert (one.place("ns"), one.place("source")) == ("c.toml:7: ", "c.toml:10: ")
    assert set(two.values) == {
        "source", "remote", "remote-store", "encryption-key", "remove-vanished", "ns", "remote-ns",
    }  # fmt: skip
    assert [push.repository for push in configured(file)] == ["root@pam@h:8007:store", "r:s"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[push.one]\nsource = ", "c.toml:2: Invalid value"),
        ("[push.one\n", "c.toml:1: "),
        ("", "c.toml: there is no [push.NAME] in it"),
        ("[pushes.x]\n", "c.toml:1: 'pushes' is not known: did you mean 'push'?"),
        ("push = 1\n", "c.toml:1: 'push' must be a table"),
        ("[push]\nx = 1\n", "c.toml:2: 'push.x' must be a table"),
        ("defaults = []\n", "c.toml:1: 'defaults' must be a table"),
        ("[push.'a b']\n", "c.toml:1: 'a b' cannot be the name of a push"),
        ("[push.a]\nrepository = 'h:s'\n", "c.toml:1: [push.a] has no source"),
        ("[push.a]\nsource = 's'\n", "c.toml:1: [push.a] has no repository, and no remote"),
        ("[push.a]\nsource = '--json'\n", "c.toml:2: '--json' cannot be a source"),
        (ONE + "remove-vanish = true\n", "c.toml:4: 'remove-vanish' is not known: did you mean"),
        (ONE + "zzzz = 1\n", "c.toml:4: 'zzzz' is not known"),
        (ONE + "json = true\n", "c.toml:4: 'json' is not known"),
        (ONE + "password = 'very-secret'\n", "c.toml:4: 'password': a secret must not stand here"),
        (ONE + "remove-vanished = 1\n", "c.toml:4: remove-vanished: must be true or false"),
        (ONE + "max-depth = true\n", "c.toml:4: max-depth: must be a text or a number"),
        (ONE + "max-depth = [1]\n", "c.toml:4: max-depth: must be a text or a number"),
        (ONE + "max-depth = 8\n", "c.toml:4: max-depth: max-depth 8: must be between 0 and 7"),
        (ONE + "group-filter = [1]\n", "c.toml:4: group-filter: must be a list of texts"),
        (ONE + "group-filter = ['vm']\n", "c.toml:4: group-filter: "),
        (ONE + "chunk-order = 'disk'\n", "c.toml:4: chunk-order: 'disk' is not one of"),
        (ONE + "bwlimit = '8-18 1MiB'\n", "c.toml:4: bwlimit: "),
        (ONE + "fingerprint = 'ab'\n", "c.toml:4: fingerprint: "),
        (ONE + "burst-out = '1MiB'\n", "c.toml:4: --burst-out has no effect without --rate-out"),
        (ONE + "remote-store = 's'\n", "c.toml:4: --remote-store has no effect"),
        (ONE + "remote = 'r'\nremote-store = 's'\n", "REPOSITORY or --remote, not both"),
        (ONE + "webhook-template = '/t'\n", "c.toml:4: --webhook-template has no effect"),
        (ONE + "on-finish = ' '\n", "c.toml:4: --on-finish: it names no command"),
        (ONE + "password-command = 'x'\n", "c.toml:4: password-command: must be a list of texts"),
        (ONE + "password-command = []\n", "c.toml:4: password-command: must be a list of texts"),
        (ONE + "password-file = 1\n", "c.toml:4: password-file: must be a text"),
        (ONE + "password-file = '/no/file'\n", "c.toml:4: password-file: /no/file: there is no"),
        (ONE + "password-env = 'NO_SUCH'\n", "c.toml:4: password-env: the variable NO_SUCH is not"),
        (ONE + "password-env = 'A'\npassword-file = 'b'\n", "c.toml:4: give one of password-file"),
        (
            ONE + "encryption-password-command = ['x']\n",
            "c.toml:4: encryption-password-command has",
        ),
        (
            "[push.a]\nsource = 's'\nremote = 'r'\nremote-store = 's'\npassword-command = ['x']\n",
            "c.toml:5: password-command has no effect with remote",
        ),
        (
            "[defaults]\nrepository = 'h:store'\nsource = 's'\nmetrics-file = 'm'\n"
            "[push.a]\n[push.b]\n",
            "c.toml:4: metrics-file m: [push.a] writes it, too; put {name} into it",
        ),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, words: str) -> None:
    message = refused(text)
    assert words in message
    assert "very-secret" not in message


def test_all_mistakes_are_told_at_once() -> None:
    message = refused("[push.a]\nsource = 's'\nx = 1\n[push.b]\nrepository = 'h:s'\n")
    assert "c.toml:3: 'x' is not known" in message
    assert "c.toml:4: [push.b] has no source" in message


def test_all_mistakes_of_one_push_are_told_at_once() -> None:
    """Also those that the command's parser finds, which tells one at a time."""
    message = refused(
        """[defaults]
nosuch = 1
parallel = "many"
[push.a]
source = "-x"
repository = "rubbish:rubbish:rubbish"
remove-vanish = true
max-depth = 8
rate-out = "fast"
burst-out = "1MiB"
webhook-template = "/t"
group-filter = ["vm", "type:ct"]
password-env = "NO_SUCH"
encryption-password-file = "/no/such"
verified-only = 1
html = ["x"]
[push.b]
source = "s"
repository = "h:store"
"""
    )
    told = message.split("; c.toml:")
    lines = [int(one.removeprefix("c.toml:").partition(":")[0]) for one in told]
    assert sorted(lines) == [2, 3, 5, 6, 7, 8, 9, 11, 12, 13, 14, 14, 15, 16], message
    # That of the burst would only follow from the rate, which is to be mended first.
    assert "burst-out" not in message
    assert message.count("nosuch") == 1, "what the defaults have wrong is told once"


def test_all_mistakes_of_further_targets_are_told_at_once() -> None:
    message = refused(
        ONE + "[[push.one.also]]\nrepositry = 'h:t'\n[[push.one.also]]\nrepository = 1\n"
    )
    assert "also, target 1: " in message
    assert "also, target 2: repository: must be a text" in message


def test_several_that_contradict_are_told_at_once() -> None:
    message = refused(
        ONE + "remote-store = 's'\nburst-out = '1MiB'\nkeyfile = '/k'\nencryption-key = 'k'\n"
    )
    assert "c.toml:4: --remote-store has no effect without --remote" in message
    assert "c.toml:5: --burst-out has no effect without --rate-out" in message
    assert "c.toml:6: give either --encryption-key or --keyfile, not both" in message


def test_all_wrong_names_and_tables_are_told_at_once() -> None:
    message = refused("pushes = 1\n[defaults]\n[push.'a b']\n[push]\nc = 1\n")
    assert "c.toml:1: 'pushes' is not known" in message
    assert "c.toml:3: 'a b' cannot be the name of a push" in message
    assert "c.toml:5: 'push.c' must be a table" in message


def test_the_environment_says_nothing_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REPOSITORY", "e:e"), ("NAMESPACE", "e"), ("FINGERPRINT", "rubbish")):
        monkeypatch.setenv(f"PBS_{name}", value)
    made = pushes(ONE)["one"]
    assert (made.repository, str(made.sides.target_namespace)) == ("root@pam@h:8007:store", "")
    assert "has no repository" in refused("[push.a]\nsource = 's'\n")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration .*none: No such file"):
        ConfigFile.load(tmp_path / "none")
    path = tmp_path / "c.toml"
    path.write_bytes(b"# a\n# \xff\n")
    with pytest.raises(ConfigError, match=r"c\.toml:2: it is not UTF-8 text"):
        ConfigFile.load(path)


def test_a_file_that_others_may_write_to_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(ONE)
    for mode, warned in ((0o600, 0), (0o644, 0), (0o664, 1), (0o646, 1)):
        path.chmod(mode)
        assert len(ConfigFile.load(path).warnings) == warned
    path.chmod(0o600)
    monkeypatch.setattr("pbs_push.cli.config_file.os.geteuid", lambda: 4711)
    owner = path.stat().st_uid
    warnings = ConfigFile.load(path).warnings
    assert ["another user" in text for text in warnings] == ([True] if owner else [])


def test_which_file_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pbs_push.cli.config_file.NAME", "pbs-push-of-a-test.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == Path("/etc/pbs-push-of-a-test.toml")
    own = tmp_path / "pbs-push-of-a-test.toml"
    own.touch()
    assert default_path() == own
    monkeypatch.setattr("pbs_push.cli.config_file.NAME", "passwd")  # that one is in /etc
    assert default_path() == Path("/etc/passwd")


def test_the_password_of_a_key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").write_text("pass word\n")
    text = ONE + f"keyfile = '/k'\nencryption-password-file = '{tmp_path}/p'\n"
    monkeypatch.setenv("PBS_ENCRYPTION_PASSWORD", "another")
    for more, expected in ((text, "pass word"), (ONE + "keyfile = '/k'\n", "another")):
        (table,) = ConfigFile(Path("c.toml"), more).pushes()
        found = _secrets(table, Mistakes())["key_password"](Path("/k"))
        assert found.get_secret_value() == expected
