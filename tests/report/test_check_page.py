"""S6: the page of a check is one inert file of bounded size, whatever the names in the data."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.check.pictures import encode, picture, recoded
from tests.data.check.readers import data_of, surveyed
from tests.report.page import Page
from tests.report.test_html import HOSTILE, assert_inert
from vitrail.data.check.record import examine
from vitrail.data.check.report import conclude
from vitrail.data.check.survey import Survey
from vitrail.data.dataset import Data, Split
from vitrail.report.check_page import render_check, write_check_page
from vitrail.report.check_pictures import Thumbnails
from vitrail.report.text import visible


def page_of(data: Data, folder: Path, source: str = "photos") -> Page:
    write_check_page(folder / "check.html", conclude(surveyed(data)), source)
    return Page(folder / "check.html")


def faulty(names: list[str]) -> Data:
    """Every kind of finding, with these names wherever a name can stand."""
    count = len(names)
    train = [(encode(picture(i)), i % count) for i in range(count)]
    val = [(recoded(picture(i)), i % count) for i in range(6)]
    val += [(train[7][0], 7), (train[8][0], 9), (b"broken", 0), (b"", 1)]
    val += [(encode(Image.new("RGB", (50, 40), "red")), 2), (encode(picture(9).convert("L")), 3)]
    data = data_of(tuple(names), train=train, val=val)
    keys = {"train": tuple(names), "val": tuple(f"{name}/val" for name in names[: len(val)])}
    splits = {name: replace(split, keys=keys[name]) for name, split in data.splits.items()}
    return replace(data, name=names[0], splits=splits)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(faulty(HOSTILE), tmp_path_factory.mktemp("hostile"), HOSTILE[1])


def test_s6_hostile_names_do_nothing(hostile: Page) -> None:
    assert_inert(hostile)


def test_s6_hostile_names_are_shown_as_text(hostile: Page) -> None:
    shown = set(hostile.texts["bdi"])
    assert all(visible(name, 60) in shown or visible(name, 80) in shown for name in HOSTILE)
    assert hostile.texts["title"] == [f"{HOSTILE[0]} · Vitrail check"]
    assert "\x1b" not in hostile.source and "\u202e" not in hostile.source


def test_the_policy_allows_this_style_and_pictures_only(hostile: Page) -> None:
    (policy,) = [
        each["content"]
        for each in hostile.tags("meta")
        if each.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = hostile.texts["style"]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "url(" not in style and "@import" not in style


def test_a_reader_without_eyes_can_use_it(hostile: Page) -> None:
    assert all(each["alt"].strip() for each in hostile.tags("img"))
    assert all(each["scope"] in ("col", "row") for each in hostile.tags("th"))
    identifiers = hostile.attributes("id")
    assert len(set(identifiers)) == len(identifiers)
    assert {each.removeprefix("#") for each in hostile.attributes("href")} <= set(identifiers)
    assert set(hostile.attributes("aria-labelledby")) <= set(identifiers)


def test_pairs_stand_side_by_side_with_split_label_and_key(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(20)]
    page = page_of(faulty(names), tmp_path)
    text = " ".join(page.texts["h3"])
    for part in ("across splits", "different labels", "cannot be used", "of one colour"):
        assert part in text
    assert {"train", "val", "class 7", "class 9", "class 7/val"} <= set(page.texts["bdi"])
    assert "the file is empty" in page.texts["bdi"]
    sharp = [each for each in page.tags("img") if each.get("class") == "sharp"]
    assert not sharp and len(page.tags("img")) > 40


def test_nothing_found_is_said(tmp_path: Path) -> None:
    good = [(encode(picture(i).resize((80, 70))), i % 2) for i in range(40)]
    page = page_of(data_of(train=good[:26], val=good[26:]), tmp_path)
    assert "Nothing was found." in page.texts["b"]
    assert_inert(page)


def test_nothing_usable_at_all(tmp_path: Path) -> None:
    page = page_of(data_of(train=[(b"", 0), (b"x", 1)]), tmp_path)
    assert_inert(page)
    assert page.tags("img") == [] and "no usable image" in page.texts["span"]


def test_the_page_stays_small_whatever_the_data() -> None:
    """Noise compresses worst: 300 classes of it, all in findings, 112 pixels each."""
    random = np.random.default_rng(0)
    files = [
        encode(Image.fromarray(random.integers(0, 256, (112, 112, 3)).astype(np.uint8)), 95)
        for _ in range(12)
    ]
    records = np.array([examine(file, "x", 10**8) for file in files])
    count = 6000

    class Turns:
        def __call__(self, i: int) -> bytes:
            return files[i % 12]

    labels = np.arange(count) % 300
    split = Split(tuple(f"{'long' * 20}{i}.jpg" for i in range(count)), labels, Turns())
    survey = Survey(Data("noise", tuple("x" * 60 + str(i) for i in range(300)), {"train": split}))
    survey.table[:] = records[np.arange(count) % 12]
    survey.table["blank"][::2] = True
    survey.table["orientation"] = 6
    html = render_check(conclude(survey), "noise")
    assert 1_000_000 < len(html.encode()) < 3_000_000
    assert "not shown" in html  # the budget was used up


def test_an_image_that_is_gone_since_is_not_shown() -> None:
    survey = surveyed(data_of(train=[(encode(picture(0)), 0), (encode(picture(1)), 1)]))
    survey.splits[0].read.files[1] = b""  # type: ignore[attr-defined]
    thumbnails = Thumbnails(survey)
    assert thumbnails.make(survey.image(0)).uri.startswith("data:image/jpeg;base64,")
    assert thumbnails.make(survey.image(1)).uri == ""


def test_small_images_are_shown_in_squares() -> None:
    tiny = encode(picture(0).resize((8, 9)))
    survey = surveyed(data_of(train=[(tiny, 0)]))
    thumbnail = Thumbnails(survey).make(survey.image(0))
    assert thumbnail.sharp and thumbnail.uri.startswith("data:image/png;base64,")
