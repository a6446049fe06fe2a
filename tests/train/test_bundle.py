import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.guarded import ALONE, guarded_config, read_batch
from tests.train.helpers import disk_is_full
from vitrail.errors import RunError, StorageError, VitrailError, WeightsError
from vitrail.models.lora import add_lora
from vitrail.train.bundle import Place, read_bundle, write_bundle
from vitrail.train.data import open_training
from vitrail.train.events import Event
from vitrail.train.learning import LoraConfig
from vitrail.train.setup import Setup, set_up
from vitrail.weights.tensors import read_tensors, write_tensors

EVENT = Event(
    kind="gradient",
    step=5,
    epoch=1.3,
    loss=0.7,
    norm=math.inf,
    threshold=None,
    action="left out",
    back_to=6,
    skip=(5, 5),
    lr_scale=1.0,
    samples=("red/1.png",),
)
PLACE = Place(1, 2, math.nan, None, 1024.0)
FILES = ["batch.safetensors", "config.json", "event.json", "model.json", "model.safetensors"]


def ready(photos: Path, **changes: Any) -> Setup:
    config = guarded_config(photos, **changes)
    return set_up(config, open_training(config, {}), ALONE)


def keep(setup: Setup, folder: Path, event: Event = EVENT) -> Path:
    """Write the bundle of a step."""
    model = setup.model
    batch = read_batch(setup, event.step)
    tensors = model.state_dict()
    write_bundle(folder, setup.config, setup.objective, model, tensors, batch, (event, PLACE))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__pool": "mean", "loss__focal": 2.0, "loss__class_weights": "balanced"},
        {"loss__logit_adjustment": 1.0, "input__depth": 16, "model__registers": 2},
        {"loss__kind": "sigmoid", "train__label_smoothing": 0.0},
    ],
)
def test_a_step_is_kept_whole(changes: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    setup = ready(photos, **changes)
    model = setup.model
    model.get_parameter("blocks.0.attn.qkv.weight").data[0, 0] = math.nan  # may be anything
    frozen = model.get_parameter("pos_embed").requires_grad_(False)
    found = read_bundle(keep(setup, tmp_path / "replays" / "step-00000005"))
    assert found.event == EVENT and found.config == setup.config
    assert str(found.place) == str(PLACE)
    assert found.threads == torch.get_num_threads()
    assert dict(found.environment)["packages"]["torch"] == torch.__version__
    batch = read_batch(setup, 5)
    for mine, theirs in zip(found.batch[:4], batch[:4], strict=True):
        assert (
            mine.dtype == theirs.dtype and (torch.as_tensor(mine) == torch.as_tensor(theirs)).all()
        )
    objective = found.objective
    assert objective.training and objective.model.training
    again = objective.model.state_dict()
    assert all(
        torch.equal(each.nan_to_num(), again[name].nan_to_num())
        for name, each in model.state_dict().items()
    )
    names = [name for name, each in objective.model.named_parameters() if not each.requires_grad]
    assert names == ["pos_embed"] and not frozen.requires_grad
    images, targets = setup.objective.prepare(batch)
    for mine, theirs in zip(objective.prepare(found.batch), (images, targets), strict=True):
        assert torch.equal(mine, theirs)
    logits = torch.randn(len(targets), 3)
    assert torch.equal(objective.loss(logits, targets), setup.objective.loss(logits, targets))


def test_matrices_of_lora_are_kept(photos: Path, tmp_path: Path) -> None:
    setup = ready(photos)
    lora = LoraConfig(rank=4, targets=("mlp.fc1",))
    add_lora(setup.model, lora.rank, lora.alpha, lora.targets, seed=7)
    for parameter in setup.model.parameters():
        parameter.data.add_(0.01)
    setup = replace(setup, config=setup.config.replace(lora=lora))
    found = read_bundle(keep(setup, tmp_path / "step-00000005")).objective.model
    mine, theirs = found.state_dict(), setup.model.state_dict()
    assert "blocks.1.mlp.fc1.lora_b" in mine and mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], each) for name, each in theirs.items())
    trained = {name for name, each in found.named_parameters() if each.requires_grad}
    assert trained == {
        *(f"blocks.{i}.mlp.fc1.lora_{part}" for i in (0, 1) for part in "ab"),
        *("head.weight", "head.bias"),
    }


def test_what_lies_there_is_replaced_whole(photos: Path, tmp_path: Path) -> None:
    setup = ready(photos)
    folder = tmp_path / "step-00000005"
    (tmp_path / "step-00000005.tmp").mkdir()
    (tmp_path / "step-00000005.tmp" / "left").touch()
    for _ in range(2):
        keep(setup, folder)
        assert sorted(os.listdir(tmp_path)) == ["step-00000005"]
        assert sorted(os.listdir(folder)) == FILES


def test_a_full_disk_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = ready(photos)
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(StorageError, match="no space left on the disk"):
        keep(setup, tmp_path / "step-00000005")
    assert os.listdir(tmp_path) == []


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match=r"not a step to take again .*; they lie in RUN/replays"):
            read_bundle(path)


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(ready(photos), tmp_path_factory.mktemp("kept") / "step-00000005")


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "step-00000005"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [None, b"garbage", b"{}"])
def test_a_damaged_file_is_refused(name: str, content: bytes | None, bundle: Path) -> None:
    path = bundle / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    if (name, content) == ("config.json", b"{}"):  # all settings have defaults
        assert read_bundle(bundle).config.seed == 0
        return
    with pytest.raises(VitrailError, match=str(bundle)) as caught:
        read_bundle(bundle)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("rank", "first"),
        ("loss_kind", "hinge"),
        ("event", {}),
        ("threads", None),
        ("frozen", 3),
    ],
)
def test_a_damaged_record_is_refused(name: str, value: object, bundle: Path) -> None:
    path = bundle / "event.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(RunError, match=r"damaged|format must be 1"):
        read_bundle(bundle)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", lambda x: x[:, :2]),
        ("images", lambda x: x[:0]),
        ("labels", lambda x: x + 3),
        ("labels", lambda x: x - 3),
        ("labels", lambda x: x[1:]),
        ("samples", lambda x: x[1:]),
        ("epochs", lambda x: x[:, None]),
    ],
)
def test_a_damaged_batch_is_refused(name: str, change: Any, bundle: Path) -> None:
    path = bundle / "batch.safetensors"
    tensors = read_tensors(path)
    write_tensors(path, tensors | {name: change(tensors[name]).contiguous()})
    with pytest.raises(RunError, match="damaged"):
        read_bundle(bundle)


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    tensors = read_tensors(path)
    write_tensors(path, {name: each for name, each in tensors.items() if name != "head.bias"})
    with pytest.raises((RunError, WeightsError), match="damaged"):
        read_bundle(bundle)
