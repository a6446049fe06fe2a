"""The authors' own ViT checkpoints, as they are published: by torch.save, wrapped, with extras."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import draw_images
from tests.weights.original_vit import (
    SIDE,
    WIDTH,
    Place,
    State,
    a_state,
    encode,
    linear,
    norm,
    place_deit3,
    place_dino,
    place_mae,
    place_registers,
)
from tests.weights.reading import Zygote
from tests.weights.references import assert_same_model, close
from vitrail.data.preprocess import Preprocess
from vitrail.errors import WeightsError
from vitrail.models import Backbone
from vitrail.weights import pickles
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.convert import convert
from vitrail.weights.defaults import IMAGENET
from vitrail.weights.load import load_model, read_any
from vitrail.weights.tensors import write_tensors

NATIVE = (32, 32)
SIZES = (NATIVE, (48, 48), (16, 24), (32, 56), (64, 16))  # the last has as many patches as (32, 32)
LS = ("ls1.gamma", "ls2.gamma")
GAMMA = ("gamma_1", "gamma_2")
HEAD = {f"head.{name}": torch.ones(2, 2) for name in ("mlp.0.weight", "last_layer.weight_g")}
STEPS = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": []}
TRAINING = {"optimizer": STEPS, "epoch": 3, "args": argparse.Namespace(lr=0.1)}
MASK = {"mask_token": (1, WIDTH)}
REGISTERS = MASK | {"register_tokens": (1, 3, WIDTH)}


@dataclass(frozen=True)
class Case:
    """A published layout: the bare weights, the file around them, and what is expected of both."""

    format: str
    state: State
    place: Place
    wrap: Callable[[State], Any] = lambda state: state
    rule: str = "bicubic"
    crop: float = 0.875
    given: str | None = None  # the format that has to be given


def mae_file(state: State) -> Any:
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 17, 8),
        "decoder_embed.weight": torch.zeros(8, WIDTH),
        "decoder_pred.weight": torch.zeros(192, 8),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8),
        "decoder_norm.weight": torch.zeros(8),
    }
    return {"model": state | decoder, "scaler": {"scale": torch.tensor(2.0)}, **TRAINING}


def deit_file(state: State) -> Any:
    other = {name: tensor + 1 for name, tensor in state.items()}
    return {"model": other, "model_ema": state, "lr_scheduler": {"x": torch.ones(2)}, **TRAINING}


def dino_file(state: State) -> Any:
    teacher = {f"backbone.{name}": tensor for name, tensor in state.items()} | HEAD
    student = {f"module.{name}": tensor + 1 for name, tensor in teacher.items()}
    return {
        "student": student,
        "teacher": teacher,
        "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": torch.tensor(2.0)},
        **TRAINING,
    }


def chunked(state: State) -> Any:
    """DINOv2 trains with one group for each block here; the blocks count on."""
    groups = {
        name.replace("blocks.0.", "blocks.0.0.").replace("blocks.1.", "blocks.1.1."): tensor
        for name, tensor in state.items()
    }
    teacher = {f"backbone.{name}": tensor for name, tensor in groups.items()}
    teacher |= {f"dino_{name}": tensor for name, tensor in HEAD.items()}
    teacher |= {f"ibot_{name}": tensor for name, tensor in HEAD.items()}
    return {"teacher": teacher}


def model_only(state: State) -> Any:
    return {"model": state}


PATCHES = SIDE * SIDE
DIST = {"dist_token": (1, 1, WIDTH)}
CASES = {
    "mae": Case("mae", a_state(), place_mae, mae_file),
    "mae-encoder": Case("mae", a_state(), place_mae, model_only, given="mae"),
    "mae-tuned": Case("mae", a_state(norms=("fc_norm",), heads=("head",)), place_mae, model_only),
    "deit": Case("deit", a_state(heads=("head",)), place_mae, deit_file, given="deit"),
    "deit-distilled": Case(
        "deit",
        a_state(rows=PATCHES + 2, tokens=DIST, heads=("head", "head_dist")),
        place_mae,
        deit_file,
    ),
    "deit3": Case(
        "deit",
        a_state(rows=PATCHES, gamma=GAMMA, heads=("head",)),
        place_deit3,
        model_only,
        crop=1.0,
    ),
    "dino": Case("dino", a_state(), place_dino, dino_file, "offset"),
    "dino-backbone": Case("dino", a_state(), place_dino, rule="offset", given="dino"),
    "dinov2": Case("dinov2", a_state(gamma=LS, tokens=MASK), place_dino, rule="offset"),
    "dinov2-chunked": Case("dinov2", a_state(gamma=LS, tokens=MASK), place_dino, chunked, "offset"),
    "dinov2-gated": Case(
        "dinov2", a_state(gamma=LS, tokens=REGISTERS, gated=True), place_registers, rule="antialias"
    ),
    "dinov2-registers": Case(
        "dinov2", a_state(gamma=LS, tokens=REGISTERS), place_registers, chunked, "antialias"
    ),
}
Load = Callable[[str], Backbone]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Save, read and build each case once, the whole way that a file of a user goes."""
    folder, models, zygote = tmp_path_factory.mktemp("originals"), {}, Zygote()

    def load(name: str) -> Backbone:
        if name not in models:
            case, path = CASES[name], folder / f"{name}.pth"
            torch.save(case.wrap(case.state), path)
            foreign, format = read_any(path, pickles=True, format=case.given)
            assert format == case.format
            models[name] = adapt(foreign, Wanted(), str(path), format)
        return models[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickles, "run", zygote.run)
        yield load
    zygote.close()


def answer(case: Case, images: Tensor) -> tuple[Tensor, Tensor]:
    """Give what the authors' code answers: logits (or pooled features), and tokens of patches."""
    state = case.state
    x = encode(state, images, case.place)
    count = (images.shape[2] // 8) * (images.shape[3] // 8)
    if "fc_norm.weight" in state:
        return linear(state, "head", norm(state, "fc_norm", x[:, 1:].mean(dim=1))), x[:, -count:]
    x = norm(state, "norm", x)
    logits = linear(state, "head", x[:, 0]) if "head.weight" in state else x[:, 0]
    if "head_dist.weight" in state:
        logits = (logits + linear(state, "head_dist", x[:, 1])) / 2
    return logits, x[:, -count:]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_authors(name: str, size: tuple[int, int], load: Load) -> None:
    model, images = load(name), draw_images(2, 3, *size)
    logits, tokens = answer(CASES[name], images)
    with torch.no_grad():
        close(model(images), logits)
        close(model.features(images).tokens, tokens)
    assert tokens.std() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_what_is_known_of_them(name: str, load: Load) -> None:
    case, model = CASES[name], load(name)
    config: Any = model.config
    assert config.image_size == NATIVE and config.position_rule == case.rule
    assert config.classes == (5 if "head.weight" in case.state else 0)
    assert config.prefix_positions == (name not in ("deit3", "dinov2-gated", "dinov2-registers"))
    assert config.mlp == ("swiglu" if "gated" in name else "gelu")
    assert model.preprocess == Preprocess(
        size=NATIVE, crop_fraction=case.crop, mean=IMAGENET[0], std=IMAGENET[1]
    )
    assert model.loaded is not None and not model.loaded.of("resized")
    assert any("preprocessing; that of" in note for note in model.loaded.notes)


@pytest.mark.parametrize(
    ("name", "whys"),
    [
        (
            "mae",
            {"decoder of the pretraining", "state of the optimiser", "state of mixed precision"},
        ),
        (
            "dino",
            {
                "another set of weights; those of teacher are taken",
                "projection head of the pretraining",
                "state of the loss",
                "state of the optimiser",
                "state of mixed precision",
            },
        ),
        (
            "deit-distilled",
            {
                "another set of weights; those of model_ema are taken",
                "state of the optimiser",
                "state of the schedule",
            },
        ),
        (
            "dinov2-registers",
            {"projection head of the pretraining", "stands for hidden patches in the pretraining"},
        ),
    ],
)
def test_what_is_left_out_and_why(name: str, whys: set[str], load: Load) -> None:
    report = load(name).loaded
    assert report is not None
    assert {row.why for row in report.of("dropped")} == whys
    several = [note for note in report.notes if "several sets" in note]
    expected = {
        "dino": "teacher is taken, not student",
        "deit-distilled": "model_ema is taken, not",
    }
    assert bool(several) == (name in expected) and expected.get(name, "") in "".join(several)


def test_dropped_tensors_have_their_full_names(load: Load) -> None:
    report = load("dino").loaded
    assert report is not None
    names = {row.name for row in report.of("dropped")}
    assert {"teacher.head.mlp.0.weight", "optimizer.state.0.exp_avg", "dino_loss.center"} <= names
    assert "student.module.backbone.cls_token" in names


@pytest.mark.peer
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].given is None])
def test_answers_are_those_of_timm(name: str, load: Load) -> None:
    model, images = load(name), draw_images(2, 3, *NATIVE)
    theirs = twin(name)
    with torch.no_grad():
        close(model(images), theirs(images))


def twin(name: str) -> torch.nn.Module:
    """Build timm's model and let timm read the authors' dictionary."""
    pytest.importorskip("timm")
    from timm.layers import SwiGLUPacked
    from timm.models import deit, vision_transformer

    case = CASES[name]
    state, filter = dict(case.state), vision_transformer.checkpoint_filter_fn
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 2}
    sizes |= {"num_heads": 2, "mlp_ratio": 1.5, "num_classes": 5 if "head.weight" in state else 0}
    kind: Any = vision_transformer.VisionTransformer
    if name == "deit-distilled":
        kind = deit.VisionTransformerDistilled
    if name == "deit3":
        sizes |= {"no_embed_class": True, "init_values": 1.0}
    if name == "mae-tuned":
        sizes |= {"global_pool": "avg"}
    if case.format == "dinov2":
        sizes |= {"init_values": 1.0}
    if "register_tokens" in state:
        sizes |= {"reg_tokens": 3, "no_embed_class": True}
    if name == "dinov2-gated":
        sizes |= {"mlp_layer": SwiGLUPacked, "mlp_ratio": 3.0, "act_layer": torch.nn.SiLU}
    model = kind(**sizes)
    if name == "deit3":
        state = filter(state, model, adapt_layer_scale=True)
    else:
        state = filter(state, model)
    model.load_state_dict(state)
    return model.eval()  # type: ignore[no-any-return]


def test_a_bare_backbone_says_whose_it_may_be(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", a_state())
    model = load_model(tmp_path / "x.safetensors", quiet=True)
    assert model.loaded is not None and model.loaded.format == "timm"
    assert "tensors of dino or mae have the same names: give format=dino or mae if they are" in (
        model.loaded.notes
    )
    dino = load_model(tmp_path / "x.safetensors", quiet=True, format="dino")
    assert dino.loaded is not None and dino.loaded.format == "dino"
    assert dino.config == model.config.replace(position_rule="offset")
    write_tensors(tmp_path / "y.safetensors", a_state(heads=("head",)))
    model = load_model(tmp_path / "y.safetensors", quiet=True)
    assert model.loaded is not None and "give format=deit" in str(model.loaded.notes)


def test_a_format_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, a_state())
    with pytest.raises(WeightsError, match=r"its tensors are not those of format='swin'; leave"):
        load_model(path, format="swin")
    with pytest.raises(WeightsError, match=r"'dinosaur' is not a format; there is vitrail"):
        load_model(path, format="dinosaur")
    convert(path, tmp_path / "ours", "vitrail")
    with pytest.raises(WeightsError, match=r"is of format vitrail \(model.json\); leave format"):
        load_model(tmp_path / "ours", format="dino")
    assert load_model(tmp_path / "ours", format="vitrail", quiet=True).config.classes == 0


@pytest.mark.parametrize("to", ["vitrail", "timm"])
@pytest.mark.parametrize("name", ["mae", "deit3", "dinov2-gated"])
def test_they_go_to_formats_that_are_written(
    name: str, to: str, load: Load, tmp_path: Path
) -> None:
    path = tmp_path / "x.pth"
    torch.save(CASES[name].wrap(CASES[name].state), path)
    proof = convert(path, tmp_path / "y", to)
    assert proof.tensors_equal and proof.largest_difference == 0
    back = load_model(tmp_path / "y", quiet=True)
    assert_same_model(back, load(name), config=to == "vitrail")


def damaged(change: Callable[[State], None], **state: Any) -> State:
    result = a_state(**state)
    change(result)
    return result


V2: dict[str, Any] = {"gamma": LS, "tokens": REGISTERS}
FAULTS: dict[str, tuple[str, State, str]] = {
    "a class token of another width": (
        "dinov2",
        damaged(lambda s: s.update(cls_token=torch.ones(1, 1, 3)), **V2),
        r"cls_token \[1, 1, 3\] and pos_embed \[1, 17, 128\] must have one width",
    ),
    "a table of one axis": (
        "dinov2",
        damaged(lambda s: s.update(pos_embed=torch.ones(5)), **V2),
        r"pos_embed is \[5\]; it must have 3 axes",
    ),
    "two blocks of one number": (
        "dinov2",
        damaged(lambda s: s.update({"blocks.7.0.norm1.weight": torch.ones(WIDTH)}), **V2),
        r"has two blocks with the same number",
    ),
    "patches of one axis": (
        "deit",
        damaged(
            lambda s: s.update({"patch_embed.proj.weight": torch.ones(3)}), rows=16, gamma=GAMMA
        ),
        r"patch_embed.proj.weight is \[3\]; it must have 4 axes",
    ),
    "parallel branches": (
        "deit",
        damaged(lambda s: s.update({"blocks.0.attn1.qkv.weight": torch.ones(3)}), gamma=GAMMA),
        r"has 'blocks.0.attn1.qkv.weight', which this architecture lacks",
    ),
    "a hole": (
        "deit",
        damaged(lambda s: s.pop("blocks.1.gamma_2"), gamma=GAMMA),
        r"lacks 'blocks.1.gamma_2' \(1 tensors missing\)",
    ),
    "no grid": (
        "mae",
        damaged(lambda s: None, rows=16, norms=("fc_norm",)),
        r"has positions for 15 patches, which is no square grid",
    ),
    "a linear probe with its norm": (
        "mae",
        damaged(lambda s: s.update({"head.0.running_mean": torch.ones(WIDTH)})),
        r"has 'head.0.running_mean', which this architecture lacks",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refusals(name: str, tmp_path: Path) -> None:
    format, state, match = FAULTS[name]
    write_tensors(tmp_path / "x.safetensors", state)
    with pytest.raises(WeightsError, match=match):
        load_model(tmp_path / "x.safetensors", format=format)
