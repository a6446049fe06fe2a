"""What lies around weights is taken off; what lies beside them is dropped by name, or stays."""

from pathlib import Path

import pytest
import torch

from tests.weights.references import ready_model
from vitrail.errors import WeightsError
from vitrail.weights.adapt import Wanted, adapt
from vitrail.weights.load import read_any
from vitrail.weights.source import Source
from vitrail.weights.wrapped import unwrap


def source(*names: str) -> Source:
    return Source("x.pth", {name: torch.full((1,), i) for i, name in enumerate(names)})


@pytest.mark.parametrize(
    ("name", "around"),
    [
        ("a.b", ()),
        ("model.a.b", ("model",)),
        ("state_dict.a.b", ("state_dict",)),
        ("state_dict.module.a.b", ("state_dict", "module")),
        ("module._orig_mod.a.b", ("module", "_orig_mod")),
        ("_orig_mod.module.a.b", ("_orig_mod", "module")),
        ("module.backbone.a.b", ("module", "backbone")),
        ("model.teacher.backbone.a.b", ("model", "teacher", "backbone")),
        ("student.a.b", ("student",)),
    ],
)
def test_containers_and_prefixes_are_taken_off(name: str, around: tuple[str, ...]) -> None:
    bare = unwrap(source(name))
    assert (list(bare.tensors), bare.wrapped_in, dict(bare.dropped)) == (["a.b"], around, {})
    assert unwrap(bare) == bare


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("model.a", "model_ema.a"), "model_ema"),
        (("state_dict.a", "state_dict_ema.a"), "state_dict_ema"),
        (("state_dict.a", "model.a"), "state_dict"),
        (("student.a", "teacher.a"), "teacher"),
    ],
)
def test_of_several_sets_the_best_is_taken(names: tuple[str, ...], taken: str) -> None:
    given = source(*names)
    bare = unwrap(given)
    other = next(name for name in names if not name.startswith(f"{taken}."))
    assert bare.tensors == {"a": given.tensors[f"{taken}.a"]}
    assert bare.dropped == {other: f"another set of weights; those of {taken} are taken"}
    expected = f"the file holds several sets of weights: {taken} is taken, not {other[:-2]}"
    assert bare.notes == (expected,)


def test_a_student_alone_is_noted() -> None:
    assert unwrap(source("student.a")).notes == (
        "the file holds the student only, which is worse than its teacher",
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("optimizer.state.0.exp_avg", "state of the optimiser"),
        ("optimizer_states.0.state.0.exp_avg", "state of the optimiser"),
        ("lr_scheduler.base", "state of the schedule"),
        ("amp_scaler.scale", "state of mixed precision"),
        ("loss_scaler.scale", "state of mixed precision"),
        ("ibot_patch_loss.center", "state of the loss"),
        ("rng_state", "state of the training"),
        ("epoch", "state of the training"),
        ("callbacks.x.best", "state of the training"),
    ],
)
def test_what_lies_beside_is_dropped(name: str, why: str) -> None:
    bare = unwrap(source("model.a", name))
    assert list(bare.tensors) == ["a"] and bare.dropped == {name: why}


def test_what_is_unknown_stays_under_its_name() -> None:
    bare = unwrap(source("model.a", "centres"))
    assert set(bare.tensors) == {"a", "centres"} and not bare.dropped


def test_a_projection_head_goes_and_a_class_head_stays() -> None:
    given = source("teacher.backbone.a", "teacher.head.mlp.0.bias", "teacher.head.weight")
    bare = unwrap(given)
    assert set(bare.tensors) == {"a", "head.weight"}
    assert bare.dropped == {"teacher.head.mlp.0.bias": "projection head of the pretraining"}


def test_two_tensors_of_one_name_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"x.pth: has two tensors for 'a', one under 'module'"):
        unwrap(source("a", "module.a"))


@pytest.mark.parametrize("name", ["model", "model.", "teacher", "module.", "."])
def test_names_that_lead_nowhere_end(name: str) -> None:
    assert list(unwrap(source(name)).tensors) == [name]


def test_any_format_may_be_wrapped(tmp_path: Path) -> None:
    model = ready_model(image_size=(32, 32))
    state = {f"_orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    worse = {name: tensor + 1 for name, tensor in state.items()}
    beside = {"epoch": 3, "arch": "vit", "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    torch.save({"state_dict": worse, "state_dict_ema": state, **beside}, tmp_path / "x.pth.tar")
    foreign, format = read_any(tmp_path / "x.pth.tar", pickles=True)
    back = adapt(foreign, Wanted(), "x", format)
    assert format == "timm" and "optimizer.state.0.exp_avg" in foreign.dropped
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_unknown_tensors_beside_are_refused(tmp_path: Path) -> None:
    model = ready_model(image_size=(32, 32))
    state = {"state_dict": model.state_dict(), "centres": torch.ones(2)}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x.pth: has 'centres', which this architecture lacks"):
        read_any(tmp_path / "x.pth", pickles=True)
