"""What the tests of the target's client side share."""

from __future__ import annotations

import pytest

from .servers import Identity, new_identity


@pytest.fixture(scope="session")
def identity() -> Identity:
    return new_identity()


@pytest.fixture(scope="session")
def other_identity() -> Identity:
    return new_identity()
