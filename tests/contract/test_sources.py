"""Every kind of data set gives the same images and labels, and keeps the same promises.

A new entry of SOURCES needs a function in MAKERS that writes the pictures in its own form.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.helpers import COLOURS, paint_splits
from vitrail.data.augment import AugmentConfig
from vitrail.data.dataset import Data, Split
from vitrail.data.loader import FileImages, ordered_batches, train_batches
from vitrail.data.packing.pack import pack
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import (
    SOURCES,
    absolute_source,
    list_source,
    open_data,
    open_to_measure,
)

SIZES = {"train": 15, "val": 15}
PREPROCESS = Preprocess(size=(6, 10))


def make_manifest(folder: Path, root: Path) -> str:
    lines = ["path,label,split"]
    for split in SIZES:
        for path in sorted((folder / split).rglob("*.png")):
            lines.append(f"{path},{path.parent.name},{split}")
    (root / "list.csv").write_text("\n".join(lines))
    return str(root / "list.csv")


def make_hub(folder: Path, root: Path) -> str:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

    features = Features({"image": Image(), "label": ClassLabel(names=list(COLOURS))})
    splits = {}
    for split in SIZES:
        paths = sorted((folder / split).rglob("*.png"))
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
            "label": [path.parent.name for path in paths],
        }
        splits[split] = Dataset.from_dict(columns, features=features)
    DatasetDict(splits).save_to_disk(str(root / "saved"))
    return str(root / "saved")


def make_packed(folder: Path, root: Path, format: str) -> str:
    pack(str(folder), root / "packed", format=format, part_bytes=4000, workers=1)
    return str(root / "packed")


MAKERS: dict[str, Callable[[Path, Path], str]] = {
    "folder": lambda folder, root: str(folder),
    "manifest": make_manifest,
    "hub": make_hub,
    "shards": lambda folder, root: make_packed(folder, root, "shards"),
    "parquet": lambda folder, root: make_packed(folder, root, "parquet"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint_splits(tmp_path_factory.mktemp("data") / "photos", each=5)


@pytest.fixture(scope="module", params=SOURCES)
def source(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    kind = request.param
    return kind, MAKERS[kind](folder, tmp_path_factory.mktemp(kind))


def content(data: Data, split: Split) -> list[tuple[str, bytes]]:
    """Class and bytes of every image, whatever their order and keys."""
    labels = [data.classes[int(label)] for label in np.asarray(split.labels).tolist()]
    return sorted(zip(labels, map(split.read, range(len(split))), strict=True))


def test_the_first_kind_that_matches_is_its_own(source: tuple[str, str]) -> None:
    kind, name = source
    assert next(each for each in SOURCES if SOURCES[each].matches(name)) == kind
    assert absolute_source(absolute_source(name)) == absolute_source(name)


def test_images_classes_and_splits_are_those_of_the_folder(
    source: tuple[str, str], folder: Path
) -> None:
    data, expected = open_data(source[1]), open_data(str(folder))
    assert data.classes == expected.classes == tuple(sorted(COLOURS))
    assert {name: len(split) for name, split in data.splits.items()} == SIZES
    for name, split in data.splits.items():
        assert content(data, split) == content(expected, expected.splits[name])
        assert len(set(split.keys)) == len(split.keys)
        assert not set(split.keys) & {
            key for other in data.splits if other != name for key in data.splits[other].keys
        }


def test_it_is_listed_the_same_each_time(source: tuple[str, str]) -> None:
    one, two = list_source(source[1]), list_source(source[1])
    assert list(one.keys) == list(two.keys)
    assert np.array_equal(np.asarray(one.labels), np.asarray(two.labels))


def test_workers_read_what_the_main_process_reads(source: tuple[str, str]) -> None:
    split = open_data(source[1]).splits["train"]
    images = FileImages(split, PREPROCESS, AugmentConfig(crop_area=(0.3, 1.0)))
    runs = [
        list(train_batches(images, seed=1, batch_size=4, steps=range(6), workers=workers))
        for workers in (0, 2)
    ]
    for one, two in zip(*runs, strict=True):
        assert torch.equal(one.images, two.images) and torch.equal(one.labels, two.labels)
        assert one.samples.tolist() == two.samples.tolist() and one.failures == two.failures == ()


def test_an_evaluation_counts_each_image_once(source: tuple[str, str]) -> None:
    data = open_to_measure(source[1])
    for split in data.splits.values():
        batches = list(ordered_batches(FileImages(split, PREPROCESS), batch_size=4, workers=2))
        seen = np.concatenate([batch.samples for batch in batches])
        assert seen.tolist() == list(range(len(split)))


def test_what_is_left_out_is_in_no_split(source: tuple[str, str]) -> None:
    whole = open_data(source[1])
    out = {whole.splits["train"].keys[3]: "ugly", whole.splits["val"].keys[0]: "copy"}
    data = open_data(source[1], left_out=out)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 14, "val": 14}
    for split in data.splits.values():
        assert not set(split.keys) & out.keys()
    place = list(data.splits["train"].keys).index(whole.splits["train"].keys[4])
    assert data.splits["train"].read(place) == whole.splits["train"].read(4)


def test_any_image_in_any_order(source: tuple[str, str]) -> None:
    split = open_data(source[1]).splits["train"]
    forward = [split.read(i) for i in range(len(split))]
    order = np.random.default_rng(0).permutation(len(split)).tolist()
    assert [split.read(i) for i in order] == [forward[i] for i in order]
    part = split.take(np.array(order[:5]))
    assert [part.read(i) for i in range(5)] == [forward[i] for i in order[:5]]
    assert list(part.keys) == [split.keys[i] for i in order[:5]]
