"""What a target says is shown without what it was sent, in whatever form that comes back."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbs_push.remote.words import LEAST_SECRET, PART, Words

PASSWORDS = ("a=b c", "c2VjcmV0cGFzcw==", 'pa"ss\\wörd', "hunter2=x", "s/ec ret:%")
TOKEN = "0b5f6d2e-7c1a-4b52-9e0e-7b7c3b6f1d11"


@pytest.mark.parametrize("password", PASSWORDS)
def test_the_forms_in_which_it_is_sent(password: str) -> None:
    words = Words(password)
    forms = [password, quote(password), quote(password, safe=""), quote_plus(password)]
    for form in (*forms, json.dumps(password)[1:-1], password.upper(), password.encode().hex()):
        shown = words.shown(f"no such target: password={form}, ticket".encode())
        assert shown == "no such target: password=***, ticket"


@pytest.mark.parametrize("before", ["", "x", "me:", "user:"])
def test_base64_in_any_place(before: str) -> None:
    coded = base64.b64encode(f"{before}{TOKEN}:more".encode()).decode()
    shown = Words(TOKEN).shown(f"authorization: Basic {coded}")
    assert "***" in shown
    left = shown.removeprefix("authorization: Basic ").replace("***", "")
    assert len(left) < 20, "some characters at both ends belong to what is beside it"


@given(st.data())
def test_no_long_part_is_left(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(TOKEN) - PART))
    end = data.draw(st.integers(begin + PART, len(TOKEN)))
    around = data.draw(st.text(max_size=40))
    shown = Words(TOKEN).shown(f"{around}{TOKEN[begin:end]}{around}")
    assert TOKEN[begin:end] not in shown
    assert all(TOKEN[at : at + PART] not in shown for at in range(len(TOKEN) - PART + 1))


@given(st.text(max_size=60), st.text(min_size=LEAST_SECRET, max_size=30))
def test_whatever_the_text_it_is_one_line_without_the_secret(text: str, secret: str) -> None:
    words = Words(secret)
    shown = words.shown(f"{text}{secret}{text}")
    assert shown.isprintable()
    if secret.isprintable() and " " not in secret and len(secret.lower()) == len(secret):
        assert secret not in shown.replace("***", "") or secret in "***"


def test_short_ones_are_not_looked_for() -> None:
    assert Words("a", "abc").shown("all of abc") == "all of abc"


def test_what_was_learned_later_counts_too() -> None:
    words = Words()
    assert words.shown(TOKEN) == TOKEN
    words.learn(TOKEN)
    assert words.shown(f"<{TOKEN}>") == "<***>"
    assert TOKEN not in repr(words)


def test_what_is_cut_at_the_limit_is_hidden_first() -> None:
    assert TOKEN[:6] not in Words(TOKEN).shown("x" * 490 + TOKEN)
    assert TOKEN[:14] not in Words(TOKEN).shown(b"x" * 8180 + TOKEN.encode(), most=9000)
