"""Patterns with braces, written out."""

import pytest

from vitrail.data.shards.braces import expand_braces
from vitrail.errors import DataError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{0008..0009}.tar", ["0008.tar", "0009.tar"]),
        ("{9..11}.tar", ["9.tar", "10.tar", "11.tar"]),
        ("{5..5}.tar", ["5.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("x{,y}.tar", ["x.tar", "xy.tar"]),
    ],
)
def test_braces(pattern: str, expected: list[str]) -> None:
    assert expand_braces(pattern) == expected


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("{0..3.tar", "do not close"),
        ("0..3}.tar", "do not close"),
        ("{a,{0..3}}.tar", "within braces"),
        ("{a}.tar", r"\{a\} must be \{0000\.\.0099\} or \{a,b\}"),
        ("{a..c}.tar", "must be"),
        ("{0..9..3}.tar", "must be"),
        ("{3..0}.tar", "must rise"),
        ("{0..100000}.tar", "at most 100000 shards"),
        ("{0..99999999999999999}.tar", "at most 100000 shards"),
        ("{0..9" + "9" * 5000 + "}.tar", "too many digits"),
        ("{0..999}{0..999}{0..999}.tar", "names more than 100000 shards"),
    ],
)
def test_braces_that_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        expand_braces(pattern)
