import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import images_for, tiny_model
from tests.train.helpers import named
from tests.weights.reading import file_bytes
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ConfigError, StorageError, VitrailError, WeightsError
from vitrail.models import Backbone
from vitrail.weights.load import load_model, save_model
from vitrail.weights.tensors import fill, read_tensors, write_tensors

CLASSES = ("ant", "Bär", "c/d", "line\nbreak", "0")


@pytest.fixture
def model() -> Backbone:
    return named(tiny_model(), CLASSES)


@pytest.fixture
def folder(model: Backbone, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "saved")
    return tmp_path / "saved"


def change(folder: Path, **values: Any) -> None:
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(about | values))


def rewrite(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = read_tensors(folder / "model.safetensors")
    edit(tensors)
    write_tensors(folder / "model.safetensors", tensors)


def test_a_model_comes_back_bit_for_bit(model: Backbone, folder: Path) -> None:
    model.name = "mine"
    model.preprocess = Preprocess(size=(32, 48), resize="pad", mean=(0.1, 0.2, 0.3))
    save_model(model, folder)
    back = load_model(str(folder))
    assert not back.training
    assert (back.name, back.classes, back.preprocess) == ("mine", CLASSES, model.preprocess)
    assert back.config == model.config and type(back) is type(model)
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    images = images_for(model)
    assert torch.equal(back(images), model.eval()(images))


def test_equal_models_give_equal_files(model: Backbone, tmp_path: Path, folder: Path) -> None:
    save_model(load_model(folder), tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_model_without_classes_or_preprocessing_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"set model.classes \(names\) and model.preprocess"):
        save_model(tiny_model(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_saving_below_a_file_is_refused(model: Backbone, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"a part of this path is a file"):
        save_model(model, tmp_path / "file" / "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing: no such file or folder; give a folder"),
        ("file", "file: not a weights file; give a folder"),
        (".", "not a trained model; it needs model.json"),
    ],
)
def test_what_is_no_model_folder_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=message):
        load_model(tmp_path / name)


def test_weights_that_are_not_there(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model.safetensors: no such file"):
        load_model(folder)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_description(text: bytes, folder: Path) -> None:
    (folder / "model.json").write_bytes(text)
    with pytest.raises(WeightsError, match=r"model.json: not valid JSON"):
        load_model(folder)


def test_a_description_that_is_a_folder(folder: Path) -> None:
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()
    with pytest.raises(WeightsError, match=r"model.json: Is a directory"):
        load_model(folder)


@pytest.mark.parametrize("text", [b"3", b"[]", b"null", b"{}", b'{"format": 2}'])
def test_another_format(text: bytes, folder: Path) -> None:
    (folder / "model.json").write_bytes(text)
    with pytest.raises(WeightsError, match=r"format must be 1; it was written by another version"):
        load_model(folder)


@pytest.mark.parametrize(
    "kind", ["vitt", "os.system", "vitrail.models.vit", "../x", "", None, 3, ["vit"], {}]
)
def test_the_kind_is_looked_up_and_never_imported(kind: object, folder: Path) -> None:
    sizes = json.loads((folder / "model.json").read_text())["architecture"]
    change(folder, architecture=sizes | {"kind": kind})
    with pytest.raises(WeightsError, match=r"architecture kind .* is not one of vit"):
        load_model(folder)


@pytest.mark.parametrize("architecture", [None, 3, [], "vit"])
def test_no_architecture(architecture: object, folder: Path) -> None:
    change(folder, architecture=architecture)
    with pytest.raises(WeightsError, match=r"architecture kind None is not one of vit"):
        load_model(folder)


def test_wrong_sizes_are_named(folder: Path) -> None:
    sizes = json.loads((folder / "model.json").read_text())["architecture"]
    change(folder, architecture=sizes | {"width": -1})
    with pytest.raises(ConfigError, match=r"model.json: architecture: width=-1: input should be"):
        load_model(folder)
    change(folder, architecture=sizes | {"widht": 32})
    with pytest.raises(ConfigError, match=r"widht: unknown setting; did you mean 'width'"):
        load_model(folder)


@pytest.mark.parametrize(
    "classes",
    [
        None,
        {},
        "abcde",
        ["a", "b"],
        ["a", "b", "c", "d", "a"],
        ["a", "b", "c", "d", 1],
        [[1], [2], [3], [4], [5]],
        [1, "1", 2, 3, 4],
    ],
)
def test_wrong_classes(classes: object, folder: Path) -> None:
    change(folder, classes=classes)
    with pytest.raises(WeightsError, match=r"model.json: classes must be 5 different names"):
        load_model(folder)


@pytest.mark.parametrize("preprocess", [None, 3, {}, {"size": [0, 3]}, {"size": [32, 48], "x": 1}])
def test_wrong_preprocessing(preprocess: object, folder: Path) -> None:
    change(folder, preprocess=preprocess)
    with pytest.raises(ConfigError, match=r"model.json: preprocess: "):
        load_model(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_weights_that_are_cut_short(keep: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"model.safetensors: not a whole safetensors file"):
        load_model(folder)


def test_weights_of_another_format_are_never_executed(folder: Path) -> None:
    torch.save({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"not a whole safetensors file"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value: float, folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors["head.bias"].__setitem__(2, value))
    with pytest.raises(WeightsError, match=r"head.bias holds values that are not finite"):
        load_model(folder)


def lose(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["norm.weight"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["extra"] = torch.zeros(1)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.weight"] = tensors["head.weight"].T.contiguous()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lose, r"lacks 'norm.weight' \(1 tensors missing\)"),
        (add, r"has 'extra', which this architecture lacks \(1 unknown tensors\)"),
        (reshape, r"head.weight is \[32, 5\] for 5 classes"),
    ],
)
def test_tensors_that_do_not_fit(
    edit: Callable[[dict[str, torch.Tensor]], None], message: str, folder: Path
) -> None:
    rewrite(folder, edit)
    with pytest.raises(WeightsError, match=message):
        load_model(folder)


def test_a_refused_fill_changes_nothing(model: Backbone) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    tensors["norm.weight"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"^here: norm.weight holds"):
        fill(model, tensors, "here")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_every_error_is_one_line(folder: Path) -> None:
    for edit in (lose, add, reshape):
        rewrite(folder, edit)
        with pytest.raises(VitrailError) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)


def test_tensors_keep_type_and_shape(tmp_path: Path) -> None:
    tensors = {
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "none": torch.zeros(0, 3),
        "one": torch.tensor(2.5),
        "turned": torch.arange(6.0).view(2, 3).T,
        "whole": torch.tensor([1, 2**40]),
    }
    write_tensors(tmp_path / "x.safetensors", tensors)
    back = read_tensors(tmp_path / "x.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)
    assert file_bytes(tensors) == file_bytes(dict(reversed(tensors.items())))
