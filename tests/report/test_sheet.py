"""The contact sheet shows what the training sees, pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.helpers import paint, tiny_config
from vitrail.data.dataset import Data
from vitrail.data.loader import open_images, train_batches
from vitrail.data.sources import open_data
from vitrail.errors import DataError
from vitrail.explain.panels import table
from vitrail.explain.render import Picture, enlarge, to_picture
from vitrail.report import sheet
from vitrail.report.sheet import CELL, contact_sheet
from vitrail.train.config import RunConfig
from vitrail.train.setup import set_up
from vitrail.train.team import Team


def cells(monkeypatch: pytest.MonkeyPatch) -> list[list[Picture]]:
    """Catch the pictures before they are laid out."""
    caught: list[list[Picture]] = []

    def catch(images: list[list[Picture]], *words: object) -> Picture:
        caught.extend(images)
        return table(images, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(sheet, "table", catch)
    return caught


def settings(photos: Path, crops: bool) -> tuple[RunConfig, Data]:
    config = tiny_config(photos)
    area = (0.4, 1.0) if crops else None
    config = config.replace(augment=config.augment.replace(crop_area=area, cutmix=0.5))
    return config, open_data(str(photos))


@pytest.mark.parametrize("crops", [True, False])
def test_step_0_is_the_first_batch(
    crops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, data = settings(paint(tmp_path / "photos"), crops)
    caught = cells(monkeypatch)
    picture = contact_sheet(config, data, images=4, epochs=2)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    setup = set_up(config, data, Team(torch.device("cpu")))
    images = open_images(data.splits["train"], setup.preprocess, config.augment, 0)
    (batch,) = train_batches(images, seed=config.seed, batch_size=8, steps=range(1), workers=0)
    seen, _ = setup.objective.prepare(batch)
    for row, pixels in zip(caught, setup.preprocess.denormalise(seen), strict=False):
        assert len(row) == 3
        assert np.array_equal(row[1], enlarge(to_picture(pixels), CELL))
    for row, i in zip(caught, batch.samples.tolist(), strict=False):
        plain = setup.preprocess.load(data.splits["train"].read(i), "x")
        assert np.array_equal(row[0], enlarge(to_picture(plain), CELL))
        assert not np.array_equal(row[1], row[2])


def test_broken_images_have_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = paint(tmp_path / "photos")
    config, data = settings(photos, crops=True)
    (photos / data.splits["train"].keys[0]).write_bytes(b"\x89PNG")
    caught = cells(monkeypatch)
    config = config.replace(train=config.train.replace(batch_size=30))
    contact_sheet(config, data, images=30, epochs=1)
    assert len(caught) == 29
    for path in photos.rglob("*.png"):
        path.write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"no readable image in the first batch: .*PNG"):
        contact_sheet(config, data, images=4, epochs=1)
