"""Posting a text somewhere else: how a push ended."""

from __future__ import annotations

from typing import Final

import httpx

from pbs_push.errors import ConfigError

_TIMEOUT_S: Final = 60.0


def post(url: str, body: str, content_type: str) -> None:
    """Post ``body`` to ``url``. Raises ConfigError, which does not tell the URL: it may hold a
    secret."""
    host = ""
    try:
        host = httpx.URL(url).host
        headers = {"content-type": content_type}
        # What else it answers is not read: it could be without end.
        with httpx.stream(
            "POST", url, content=body.encode(), headers=headers, timeout=_TIMEOUT_S
        ) as answer:
            status, took_it = answer.status_code, answer.is_success
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigError(f"--webhook at '{host}': {type(error).__name__}") from None
    except (ImportError, ValueError):  # httpx about SOCKS, or what it does not know at all
        raise ConfigError(
            f"--webhook at '{host}': the environment's proxy (ALL_PROXY, HTTPS_PROXY) cannot be "
            "used; NO_PROXY with this host goes without"
        ) from None
    if not took_it:
        raise ConfigError(f"--webhook at '{host}': it answered {status}")
