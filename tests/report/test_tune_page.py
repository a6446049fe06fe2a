"""S6: the page of a search is one inert file, whatever the names."""

from pathlib import Path

import pytest

from tests.report.page import Page
from tests.report.test_html import HOSTILE, assert_inert
from vitrail.report.tune_page import Tried, TuneContent, render_tune, write_tune_page

AUGMENTS = ("base", "none", "light2")


def tried(number: int) -> Tried:
    end = ("finished", "stopped early", "diverged")[number % 3]
    settings = {"lr": 10 ** -(1.0 + number % 5), "weight_decay": 0.02}
    return Tried(
        number=number,
        settings={**settings, "augment": AUGMENTS[number % 3]},
        steps={"finished": 80, "stopped early": 20, "diverged": 0}[end],
        score=None if end == "diverged" else (number % 7) / 7,
        end=end,
    )


def content(trials: int, best: int | None, name: str = "search") -> TuneContent:
    return TuneContent(
        title=name,
        data=name,
        names=("lr", "weight_decay", "augment"),
        logarithmic=("lr",),
        steps=80,
        trials=[tried(number) for number in range(trials)],
        best=best,
    )


def page_of(given: TuneContent, folder: Path) -> Page:
    write_tune_page(folder / "tune.html", given)
    return Page(folder / "tune.html")


@pytest.mark.parametrize("name", HOSTILE)
def test_s6_hostile_names_do_nothing(name: str, tmp_path: Path) -> None:
    page = page_of(content(0, None, name), tmp_path)  # plots hold no names
    assert_inert(page)
    assert "\x1b" not in page.source and "\u202e" not in page.source


def test_the_page_shows_the_best_first_and_every_trial(tmp_path: Path) -> None:
    page = page_of(content(40, 6), tmp_path)
    assert_inert(page)
    assert page.texts["h2"][0] == "The best: trial 0006"
    assert page.texts["h3"] == ["Learning rate", "Weight decay", "Augment", "Best so far"]
    numbers = [text for text in page.texts["th"] if text.isdigit()]
    assert sorted(numbers) == [f"{number:04d}" for number in range(40)]
    assert numbers[0] in ("0006", "0027")  # the best at their end; then those ended early
    assert page.texts["b"] == [f"{6 / 7:.1%}"]
    assert 20_000 < len(page.source) < 400_000


@pytest.mark.parametrize("trials", [0, 1, 3])
def test_few_trials(trials: int, tmp_path: Path) -> None:
    page = page_of(content(trials, 0 if trials else None), tmp_path)
    assert_inert(page)
    assert len(page.tags("img")) == (4 if trials else 0)


def test_nothing_was_trained_to_its_end(tmp_path: Path) -> None:
    given = content(3, None)
    early = [each for each in given.trials if each.end != "finished"]
    page = page_of(TuneContent(**{**vars(given), "trials": early}), tmp_path)
    assert len(page.tags("img")) == 3
    assert [text for text in page.texts["h2"] if "best" in text] == []


def test_the_same_search_gives_the_same_bytes() -> None:
    assert render_tune(content(9, 6)) == render_tune(content(9, 6))
