"""The authors' own ViT checkpoints, as they are published: by torch.save, wrapped, with extras."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import draw_images
from tests.weights.original_cases import CASES, NATIVE, Case
from tests.weights.original_vit import WIDTH, a_state, encode, linear, norm
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

SIZES = (NATIVE, (48, 48), (16, 24), (32, 56), (64, 16))  # the last has as many patches as (32, 32)
Load = Callable[[str], Backbone]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Iterator[Load]:
    """Save, read and build each case once, the whole way that a file of a user goes."""
    folder, models = tmp_path_factory.mktemp("originals"), {}

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
