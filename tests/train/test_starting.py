"""What a training begins with, from weights of every maker, and how it is found again."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.train.helpers import COLOURS, paint, tiny_config
from tests.weights import test_timm as timm_models
from tests.weights import transformers_models
from tests.weights.references import ready_model
from vitrail.data.dataset import Data
from vitrail.data.preprocess import Preprocess
from vitrail.data.sources import open_data
from vitrail.errors import ConfigError, RunError, WeightsError
from vitrail.models import Backbone
from vitrail.models.lora import adapter_names, lora_layers, merge_lora
from vitrail.train.config import RunConfig
from vitrail.train.fine_tuning import with_weights
from vitrail.train.loop import train
from vitrail.train.starting import describe_start, rebuild, start_model
from vitrail.weights.load import load_model, save_model
from vitrail.weights.lora import load_adapter, save_adapter

Captured = pytest.CaptureFixture[str]
LORA = {"lora__rank": 2}


@pytest.fixture(scope="module")
def data(photos: Path) -> Data:
    return open_data(str(photos))


def base(folder: Path, classes: tuple[str, ...] = (), **sizes: Any) -> Path:
    """Save a tiny model of these classes."""
    model = ready_model(**({"classes": len(classes)} if classes else {}), **sizes)
    if classes:
        model.classes = classes
    model.preprocess = Preprocess(size=model.config.image_size, mean=(0.4, 0.5, 0.6))
    save_model(model, folder / "base", quiet=True)
    return folder / "base"


def settings(source: Path | str, **changes: Any) -> RunConfig:
    """Give tiny settings that begin from weights; `lora__rank` changes a setting of a group."""
    config = with_weights(tiny_config("x"), source)
    for name, value in changes.items():
        group, _, field = name.rpartition("__")
        part = getattr(config, group).replace(**{field: value})
        config = config.replace(**{group: part})
    return config


def test_weights_meet_new_classes_at_another_size(
    data: Data, tmp_path: Path, capsys: Captured
) -> None:
    path = base(tmp_path)
    config = settings(path, model__image_size=(24, 40))
    state = torch.get_rng_state()
    model = start_model(config, data)
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn
    said = capsys.readouterr().err
    assert said.count(f"{path} (vitrail): tensors: 29 loaded, 1 resized, 2 new") == 1
    assert "note: input." not in said
    assert model.training and model.config.image_size == (24, 40)
    assert model.config.drop_path == 0.3  # of the settings
    assert (model.classes, model.multi_label) == (("blue", "green", "red"), False)
    assert model.preprocess == Preprocess(size=(24, 40), mean=(0.4, 0.5, 0.6))
    assert not model.head.weight.any() and not model.head.bias.any()  # type: ignore[operator, union-attr]
    old = load_model(path, image_size=(24, 40), quiet=True).state_dict()
    kept = {name: each for name, each in model.state_dict().items() if not name.startswith("head")}
    assert len(kept) == 30 and all(torch.equal(each, old[name]) for name, each in kept.items())


def test_another_input_than_that_of_the_weights_is_said(
    data: Data, tmp_path: Path, capsys: Captured
) -> None:
    config = settings(base(tmp_path), input__mean=0.5, input__interpolation="bilinear")
    model = start_model(config, data)
    said = capsys.readouterr().err
    assert (
        "note: input.mean=(0.5, 0.5, 0.5), but the weights were trained with (0.4, 0.5, 0.6" in said
    )
    assert "note: input.interpolation=bilinear, but the weights were trained with bicubic" in said
    assert said.count("note: input.") == 2
    assert isinstance(model.preprocess, Preprocess) and model.preprocess.mean == (0.5, 0.5, 0.5)


def test_other_channels_inflate_the_stem(data: Data, tmp_path: Path, capsys: Captured) -> None:
    path = base(tmp_path)
    config = with_weights(tiny_config("x"), path, channels=1)
    model = start_model(config, data)
    assert model.config.in_channels == 1
    expected = load_model(path, in_channels=1, quiet=True).state_dict()["patch_embed.proj.weight"]
    assert torch.equal(model.state_dict()["patch_embed.proj.weight"], expected)
    assert "note: input." not in capsys.readouterr().err


@pytest.mark.parametrize("head", ["auto", "keep"])
def test_the_head_is_kept_for_the_same_names_in_another_order(
    head: str, data: Data, tmp_path: Path
) -> None:
    path = base(tmp_path, ("red", "grey", "blue", "green"))
    model = start_model(settings(path, weights__head=head), data)
    old = load_model(path, quiet=True).state_dict()
    assert torch.equal(model.state_dict()["head.weight"], old["head.weight"][[2, 3, 0]])
    assert torch.equal(model.state_dict()["head.bias"], old["head.bias"][[2, 3, 0]])


def test_the_head_is_new_where_it_is_asked_for_or_names_are_missing(
    data: Data, tmp_path: Path
) -> None:
    known = base(tmp_path / "known", tuple(COLOURS))
    other = base(tmp_path / "other", ("red", "blue", "grey"))
    for config in (settings(known, weights__head="new"), settings(other)):
        model = start_model(config, data)
        assert not model.state_dict()["head.weight"].any() and model.classes == data.classes
    with pytest.raises(WeightsError, match=r"class 'green' is not one of its 3 classes.*head=new"):
        start_model(settings(other, weights__head="keep"), data)


@pytest.mark.peer
@pytest.mark.parametrize("maker", ["timm", "transformers"])
def test_weights_of_other_makers(maker: str, data: Data, tmp_path: Path) -> None:
    if maker == "timm":
        sizes = {"img_size": (32, 48), "num_classes": 5, "depth": 2, "embed_dim": 48}
        twin = timm_models.reference("vit_tiny_patch16_224", **sizes)
        path = timm_models.timm_folder(twin, tmp_path / "weights")
        config = settings(path, model__image_size=(48, 32))
    else:
        twin = transformers_models.reference("vit")
        path = transformers_models.saved(twin, tmp_path / "weights")
        config = settings(path, model__image_size=(48, 32), model__patch_size=8)
    run = train(
        config.replace(data=config.data.replace(source=data_path(tmp_path))), tmp_path / "r"
    )
    model = load_model(run.path, quiet=True)
    assert (model.classes, model.config.image_size) == (("blue", "green", "red"), (48, 32))
    history = run.history()
    assert history[0]["train_loss"] == pytest.approx(1.0986, abs=0.01)  # ln 3: a head of zeros
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def data_path(folder: Path) -> str:
    return str(paint(folder / "photos"))


def stripes(root: Path, names: Sequence[str], seed: int, each: int) -> str:
    """Make pictures of level and upright stripes, of any colour, width and place."""
    for axis, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            draw = np.random.default_rng([seed, axis, i])
            place = np.indices((16, 24))[axis] / draw.uniform(4, 6) + draw.uniform()
            wave = np.sin(2 * np.pi * place)[..., None] * draw.uniform(30, 90, 3)
            Image.fromarray((128 + wave).astype(np.uint8)).save(root / name / f"{i}.png")
    return str(root)


def test_a_run_begins_from_a_run_and_is_ahead(tmp_path: Path) -> None:
    seen = stripes(tmp_path / "seen", ("level", "upright"), 0, each=48)
    fresh = stripes(tmp_path / "fresh", ("lying", "standing"), 1, each=24)
    known = stripes(tmp_path / "known", ("level", "upright"), 2, each=24)
    calm = tiny_config("x").augment.replace(erase=0, mixup=0, rotate=0)
    long = {"train__epochs": 12, "train__batch_size": 16, "eval_every_epochs": 100}
    config = tiny_config(seen, augment=calm, model__drop_path=0.0, **long)
    first = train(config, tmp_path / "first").path

    def loss(source: str, name: str, begin: bool, rank: int = 0) -> float:
        short = config.replace(
            data=config.data.replace(source=source),
            train=config.train.lasting(4.0),
            lora=config.lora.replace(rank=rank),
            seed=8,
        )
        run = train(with_weights(short, first) if begin else short, tmp_path / name)
        assert run.history()[-1]["step"] == 9
        return run.history()[-1]["val_loss"]

    scratch = loss(fresh, "scratch", begin=False)
    assert loss(fresh, "tuned", begin=True) < 0.9 * scratch  # with a head of zeros
    assert loss(fresh, "lora", begin=True, rank=4) < 0.9 * scratch
    assert loss(known, "kept", begin=True) < 0.5 * scratch  # with the head


def test_lora_trains_what_it_adds_and_nothing_else(data: Data, tmp_path: Path) -> None:
    path = base(tmp_path)
    model = start_model(settings(path, model__drop_path=0.1, **LORA), data)
    names = set(adapter_names(model))
    assert {name for name, each in model.named_parameters() if each.requires_grad} == names
    before = {name: each.clone() for name, each in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    images = torch.randn(6, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(images), torch.tensor([0, 1, 2, 0, 1, 2]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    changed = {n for n, each in model.state_dict().items() if not torch.equal(each, before[n])}
    assert changed == names  # each of them, and every other tensor is as it was, to the bit
    save_adapter(model, tmp_path / "adapter.safetensors", source=str(path))
    whole = merge_lora(model).eval()
    back = load_adapter(load_model(path, quiet=True), tmp_path / "adapter.safetensors")
    assert torch.equal(back(images), whole(images))
    assert back.preprocess == model.preprocess and back.classes == data.classes


def test_the_seed_decides_the_first_matrices(data: Data, tmp_path: Path) -> None:
    path = base(tmp_path)

    def first(seed: int) -> torch.Tensor:
        model = start_model(settings(path, **LORA).replace(seed=seed), data)
        return lora_layers(model)["blocks.0.attn.qkv"].lora_a.detach()

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


def test_lora_without_weights_is_refused(data: Data) -> None:
    config = tiny_config("x", lora__rank=4)
    with pytest.raises(ConfigError, match=r"lora.rank=4 needs weights.source"):
        start_model(config, data)


def test_a_mistake_in_lora_is_said_alone(data: Data, tmp_path: Path, capsys: Captured) -> None:
    config = settings(base(tmp_path), **LORA, lora__targets=("attn.qvk",))
    with pytest.raises(ConfigError, match=r"did you mean 'attn.qkv'"):
        start_model(config, data)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("lora", [{}, LORA], ids=["whole", "lora"])
def test_a_run_is_rebuilt_without_its_source(
    lora: dict[str, int], data: Data, tmp_path: Path
) -> None:
    path = base(tmp_path)
    config = settings(path, model__image_size=(24, 40), **lora)
    model = start_model(config, data)
    recorded = json.loads(json.dumps(describe_start(model, config)))
    assert set(recorded["weights"]["sha256"]) == {"model.json", "model.safetensors"}
    assert recorded["weights"]["report"].endswith("29 loaded, 1 resized, 2 new")
    shutil.rmtree(path)
    again = rebuild(recorded, config, data)
    assert_same_frame(again, model)
    again.load_state_dict(model.state_dict())  # as a checkpoint does
    images = torch.randn(1, 3, 24, 40)
    assert torch.equal(again.eval()(images), model.eval()(images))
    with pytest.raises(WeightsError, match="no such file"):
        start_model(config, data, recorded)


def assert_same_frame(one: Backbone, other: Backbone) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name in ("config", "name", "classes", "preprocess", "multi_label", "training"):
        assert getattr(one, name) == getattr(other, name), name
    learns = [[p.requires_grad for p in each.parameters()] for each in (one, other)]
    assert learns[0] == learns[1]


def test_a_run_from_random_weights_is_described_too(data: Data) -> None:
    config = tiny_config("x")
    model = start_model(config, data)
    recorded = json.loads(json.dumps(describe_start(model, config)))
    assert recorded["weights"] is None
    assert_same_frame(rebuild(recorded, config, data), model)
    assert torch.equal(
        start_model(config, data, recorded).state_dict()["pos_embed"],
        model.state_dict()["pos_embed"],
    )


def test_a_run_does_not_begin_again_from_other_weights(data: Data, tmp_path: Path) -> None:
    path = base(tmp_path)
    config = settings(path)
    model = start_model(config, data)
    recorded = describe_start(model, config)
    again = start_model(config, data, recorded)
    assert all(torch.equal(each, model.state_dict()[n]) for n, each in again.state_dict().items())
    save_model(ready_model(seed=1), path, quiet=True)
    with pytest.raises(RunError, match=r"base: model\.\w+ is not what the run began with \(sha256"):
        start_model(config, data, recorded)
    with pytest.raises(RunError, match="does not say the weights that the run began with"):
        start_model(config, data, {"model": recorded["model"]})


def test_a_damaged_description_is_refused(data: Data, photos: Path) -> None:
    config = tiny_config("x")
    recorded = describe_start(start_model(config, data), config)
    with pytest.raises(RunError, match=r"start.json: has no model"):
        rebuild({}, config, data)
    with pytest.raises(WeightsError, match=r"start.json: architecture kind 'vt' is not one of"):
        rebuild({"model": recorded["model"] | {"architecture": {"kind": "vt"}}}, config, data)
    names = ["a", "b", "c"]
    with pytest.raises(RunError, match=r"start.json: the classes of the data have changed"):
        rebuild({"model": recorded["model"] | {"classes": names}}, config, data)


def test_one_rank_speaks(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("RANK", "1")
    start_model(settings(base(tmp_path)), data)
    assert capsys.readouterr().err == ""
