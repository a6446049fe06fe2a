"""Names and numbers as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.report.text import duration, fact, flat, percent, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name", "plain name"),
        ("a\nb\x1b[0m", r"a\nb\x1b[0m"),
        ("\u202eexe.png", r"\u202eexe.png"),
        ("\udcff", r"\udcff"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\u200db", r"a\u200db"),
        ("\u200d", r"\u200d"),
        ("e\u0301" + "\u0301" * 9, "e" + "\u0301" * 3),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_long_names_are_cut_at_either_end() -> None:
    assert visible("a" * 11, 10) == "a" * 9 + "…"
    assert visible("a" * 10, 10) == "a" * 10
    assert visible("root/folder/name.png", 9, keep_end=True) == "…name.png"
    assert visible("x" * 10**6 + "name.png", 9, keep_end=True) == "…name.png"


@given(st.text(st.characters(exclude_categories=[])), st.integers(2, 30), st.booleans())
def test_visible_text_is_short_and_can_be_written(text: str, limit: int, keep_end: bool) -> None:
    shown = visible(text, limit, keep_end=keep_end)
    assert len(shown) <= limit
    shown.encode("utf-8")
    assert not set(shown) & set(map(chr, [*range(32), 127, 0x202E, 0x2066, 0xFEFF]))


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (0.12345, "12.3%"),
        (0.99999, ">99.9%"),
        (0.0001, "<0.1%"),
        (None, "–"),
    ],
)
def test_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_duration() -> None:
    times = (1.26, 42, 75, 3600, 3 * 3600 + 125, 50 * 3600)
    shown = ["1.3 s", "42 s", "1 min 15 s", "1 h 0 min", "3 h 2 min", "2 days 2 h"]
    assert [duration(each) for each in times] == shown


def test_facts() -> None:
    values = (5_717_416, 178e9, 1234, 0.00123456, (32, 48), True, None, "a\tb")
    shown = ["5.72 M", "178 G", "1,234", "0.001235", "32 × 48", "yes", "–", r"a\tb"]
    assert [fact(each) for each in values] == shown


def test_flat_settings() -> None:
    values = {"train": {"lr": 1e-3, "ema": False, "size": (32, 48)}, "empty": {}, "none": None}
    assert flat(values) == [
        ("train.lr", "0.001"),
        ("train.ema", "false"),
        ("train.size", "32, 48"),
        ("empty", "{}"),
        ("none", "–"),
    ]
