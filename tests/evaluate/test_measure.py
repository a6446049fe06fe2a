from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers import tiny_model
from tests.train.helpers import named, paint, png
from vitrail.data.dataset import Data, LabelSets, Split
from vitrail.data.sources import open_data
from vitrail.errors import DataError, ImageError
from vitrail.evaluate import measure
from vitrail.evaluate.measure import final_split, predict_split, relabel, require_split
from vitrail.models import Backbone

CLASSES = ("blue", "green", "red")


@pytest.fixture
def model() -> Backbone:
    return named(tiny_model(classes=3), CLASSES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(paint(tmp_path_factory.mktemp("data") / "photos")))


def broken(data: Data, *places: int) -> Data:
    """Make some images of the train split unreadable."""
    whole = data.splits["train"]

    def read(i: int) -> bytes:
        return b"GIF89a" if i in places else whole.read(i)

    return replace(data, splits={"train": Split(whole.keys, whole.labels, read)})


def test_each_image_is_seen_exactly_once_and_in_order(model: Backbone, data: Data) -> None:
    told: list[int] = []
    predictions = predict_split(model, data, "train", tell=told.append)
    split = data.splits["train"]
    assert predictions.keys == split.keys
    assert predictions.labels.tolist() == list(split.labels)
    assert predictions.logits.shape == (30, 3) and predictions.logits.dtype == torch.float32
    assert (predictions.split, predictions.classes) == ("train", CLASSES)
    assert model.preprocess is not None
    assert predictions.preprocess_hash == model.preprocess.hash  # type: ignore[attr-defined]
    assert sum(told) == 30 and predictions.unreadable == ()


@pytest.mark.parametrize("batch_size", [1, 7, 30, 31])
def test_the_batch_size_does_not_matter(
    batch_size: int, model: Backbone, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict_split(model, data, "train")
    monkeypatch.setattr(measure, "BATCH_SIZE", batch_size)
    predictions = predict_split(model, data, "train")
    assert predictions.keys == expected.keys
    torch.testing.assert_close(predictions.logits, expected.logits, rtol=1e-5, atol=1e-5)


def test_workers_change_nothing(
    model: Backbone, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "BATCH_SIZE", 8)
    alone = predict_split(model, data, "train")
    helped = predict_split(model, data, "train", workers=2)
    assert helped.keys == alone.keys and torch.equal(helped.logits, alone.logits)


def test_the_mode_of_the_model_stays(model: Backbone, data: Data) -> None:
    for training in (True, False):
        predict_split(model.train(training), data, "val")
        assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_drop_path_is_off(data: Data) -> None:
    model = named(tiny_model(classes=3, drop_path=0.9), CLASSES).train()
    first, second = (predict_split(model, data, "train").logits for _ in range(2))
    assert torch.equal(first, second)


def test_classes_are_matched_by_name(model: Backbone, data: Data) -> None:
    turned = named(tiny_model(classes=3), ("red", "blue", "green"))
    predictions = predict_split(turned, data, "train")
    names = [turned.classes[label] for label in predictions.labels]
    assert names == [key.split("/")[0] for key in predictions.keys]
    assert predictions.classes == ("red", "blue", "green")


def test_data_may_lack_classes(model: Backbone, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", classes=("green", "red"))
    predictions = predict_split(model, open_data(str(photos)), "train")
    assert sorted(set(predictions.labels.tolist())) == [1, 2]
    assert predictions.logits.shape[1] == 3


def test_an_unknown_class_is_refused(model: Backbone, data: Data) -> None:
    model.classes = ("blue", "reed", "x")
    with pytest.raises(
        DataError, match=r"class 'green' is unknown to the model, which knows 3 classes"
    ):
        predict_split(model, data, "train")
    model.classes = ("blue", "green", "reed")
    with pytest.raises(DataError, match=r"class 'red' is unknown .* did you mean 'reed'"):
        predict_split(model, data, "train")


def test_an_unreadable_image_is_named_and_not_counted(model: Backbone, data: Data) -> None:
    whole = predict_split(model, data, "train")
    predictions = predict_split(model, broken(data, 0, 17), "train")
    keys = data.splits["train"].keys
    kept = [i for i in range(30) if i not in (0, 17)]
    assert predictions.keys == tuple(keys[i] for i in kept)
    assert [key for key, _ in predictions.unreadable] == [keys[0], keys[17]]
    assert all(keys[0] in reason for key, reason in predictions.unreadable if key == keys[0])
    torch.testing.assert_close(predictions.logits, whole.logits[kept], rtol=1e-5, atol=1e-5)


def test_not_one_readable_image(model: Backbone, data: Data) -> None:
    with pytest.raises(DataError, match=r"no readable image among 30; the first: "):
        predict_split(model, broken(data, *range(30)), "train")


def test_a_file_that_went_missing_is_named(model: Backbone, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos")
    data = open_data(str(photos))
    lost = data.splits["val"].keys[1]
    (photos / lost).unlink()
    predictions = predict_split(model, data, "val")
    assert [key for key, _ in predictions.unreadable] == [lost]
    with pytest.raises(ImageError, match=r"No such file"):
        data.splits["val"].read(1)


def test_splits(data: Data) -> None:
    assert require_split(data, "val") is data.splits["val"]
    with pytest.raises(DataError, match=r"no split 'tests'; did you mean 'test'\?; there is train"):
        require_split(data, "tests")
    assert final_split(data) == "test"
    assert final_split(replace(data, splits={"all": data.splits["train"]})) == "all"


def test_relabel_keeps_keys_and_images() -> None:
    split = Split(("a", "b", "c"), np.array([1, 0, 1]), lambda i: png((i, 0, 0), 0))
    data = Data("x", ("cat", "dog"), {"val": split})
    new = relabel(data, split, ("dog", "emu", "cat"))
    assert (new.keys, new.read) == (split.keys, split.read)
    assert new.labels.tolist() == [0, 2, 0]
    empty = Split((), np.array([], np.int64), split.read)
    assert relabel(data, empty, ("dog", "cat")).labels.tolist() == []


def test_several_labels_are_refused() -> None:
    split = Split(("a",), LabelSets.of([[0, 1]], 2), lambda i: b"")
    with pytest.raises(DataError, match="several labels each"):
        relabel(Data("x", ("cat", "dog"), {"val": split}), split, ("cat", "dog"))
