"""What a version can do, by table (protocol/rest.md, "Versions")."""

from __future__ import annotations

import pytest

from pbs_push.errors import ProtocolError, RemoteError
from pbs_push.remote.features import Features, Version

KIB = 1024


@pytest.mark.parametrize(
    ("version", "release", "expected", "body_limit", "statistics"),
    [
        ("2.2", "1", Version(2, 2, 1), 64 * KIB, False),
        ("2.4", "7", Version(2, 4, 7), 64 * KIB, False),
        ("3.2", "10", Version(3, 2, 10), 64 * KIB, False),
        ("3.2", "11", Version(3, 2, 11), 64 * KIB, True),
        ("3.3", "0", Version(3, 3, 0), 64 * KIB, True),
        ("3.4", "4", Version(3, 4, 4), 64 * KIB, True),
        ("4.0", "0", Version(4, 0, 0), 512 * KIB, True),
        ("4.2", "3", Version(4, 2, 3), 512 * KIB, True),
        ("10.0", "1", Version(10, 0, 1), 512 * KIB, True),
        ("4.0-beta", "1~rc2", Version(4, 0, 1), 512 * KIB, True),
        ("4.1.9", "", Version(4, 1, 0), 512 * KIB, True),
    ],
)
def test_features_follow_from_the_version(
    version: str, release: str, expected: Version, body_limit: int, statistics: bool
) -> None:
    features = Features.of(Version.parse(version, release))
    assert features.version == expected
    assert (features.body_limit, features.delete_statistics) == (body_limit, statistics)


@pytest.mark.parametrize("version", ["1.1", "2.0", "2.1"])
def test_no_namespaces_is_too_old(version: str) -> None:
    with pytest.raises(RemoteError, match=r"has no namespaces; at least 2\.2\.0"):
        Features.of(Version.parse(version, "9"))


@pytest.mark.parametrize("text", ["", "4", "four", ".2", "v4.2", "4,2", "1234567890.1", "\x1b[2J"])
def test_a_version_that_is_none(text: str) -> None:
    with pytest.raises(ProtocolError, match="cannot be understood"):
        Version.parse(text)


def test_versions_are_ordered_by_number() -> None:
    assert Version(3, 2, 11) > Version(3, 2, 9)
    assert Version(10, 0) > Version(9, 9, 9)
    assert str(Version.parse("4.2", "3")) == "4.2.3"
