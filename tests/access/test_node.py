"""``node.cfg``: the node's proxy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.access.node import NodeConfig
from pbs_push.errors import ConfigError


def proxy_of(text: str) -> tuple[str | None, str]:
    node = NodeConfig.parse(text, "node.cfg")
    assert "hunter2" not in repr(node)
    return node.http_proxy.get_secret_value() if node.http_proxy else None, node.place


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", (None, "")),
        ("email-from: a@b\nacme: account=x\n", (None, "")),
        ("http-proxy: http://p:3128\n", ("http://p:3128", "node.cfg:1")),
        ("#http-proxy: x\n\nhttp-proxy:\tjoe:hunter2@p \n", ("joe:hunter2@p", "node.cfg:3")),
        ("x: y\r\nhttp-proxy: p\r\n", ("p", "node.cfg:2")),
        ("http-proxy:p", ("p", "node.cfg:1")),
        ("http-proxy: \n", (None, "node.cfg:1")),
    ],
)
def test_a_file(text: str, found: tuple[str | None, str]) -> None:
    assert proxy_of(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x: y\nhunter2 hunter2\n", "node.cfg:2: expected 'KEY: VALUE'"),
        (" http-proxy: hunter2\n", "node.cfg:1: expected"),
        (
            "http-proxy: hunter2\nhttp-proxy: hunter2\n",
            "node.cfg:2: 'http-proxy' stands here again",
        ),
    ],
)
def test_a_mistake_is_told_without_values(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        proxy_of(text)
    assert "hunter2" not in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_a_mistake(text: str) -> None:
    try:
        NodeConfig.parse(text, "node.cfg")
    except ConfigError as error:
        assert str(error).startswith("node.cfg:")  # noqa: PT017  (it may be none)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert NodeConfig.load(tmp_path / "node.cfg") == NodeConfig()
    (tmp_path / "node.cfg").write_text("http-proxy: p\n")
    assert NodeConfig.load(tmp_path / "node.cfg").place == f"{tmp_path}/node.cfg:1"
