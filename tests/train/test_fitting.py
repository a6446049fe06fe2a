from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers import TINY, draw_images, tiny_model
from tests.train.helpers import tiny_config
from vitrail.errors import ConfigError
from vitrail.models import Backbone
from vitrail.train import fitting
from vitrail.train.data import open_training
from vitrail.train.fitting import (
    activation_bytes,
    can_recompute,
    estimate,
    gibibytes,
    require_fit,
)
from vitrail.train.setup import Setup, set_up
from vitrail.train.team import Team

CPU = torch.device("cpu")


def ready(photos: Path, **changes: Any) -> Setup:
    config = tiny_config(photos, **changes)
    return set_up(config, open_training(config, {}), Team(CPU))


def saved(model: Backbone, images: Tensor) -> int:
    """Count what a real forward pass leaves, weights and buffers aside."""
    sizes = {each.untyped_storage().data_ptr(): 0 for each in model.state_dict().values()}
    alive = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes.setdefault(storage.data_ptr(), storage.nbytes())
        alive.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    return sum(sizes.values())


@pytest.mark.parametrize("kind", TINY)
def test_activations_are_counted_as_they_are(kind: str) -> None:
    model = tiny_model(kind, drop_path=0.0)
    images = draw_images(3, model.config.in_channels, *model.config.image_size)
    each = activation_bytes(model, CPU, "float32", recompute=False).each
    assert each == saved(model, images) - saved(model, images[:2].clone())


def test_counting_leaves_no_trace() -> None:
    model = tiny_model("vit")
    before = {name: each.clone() for name, each in model.state_dict().items()}
    state = torch.get_rng_state()
    activation_bytes(model, CPU, "bf16", recompute=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_half_precision_and_frozen_parts_leave_less() -> None:
    model = tiny_model("vit")
    full = activation_bytes(model, CPU, "float32", recompute=False)
    half = activation_bytes(model, CPU, "bf16", recompute=False)
    assert half.each < 0.8 * full.each and half.fixed > full.fixed == 0  # weights in half precision
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    assert activation_bytes(model, CPU, "float32", recompute=False).each < 0.1 * full.each


@pytest.mark.parametrize("depth", [2, 6])
def test_with_recompute_a_block_leaves_its_input(depth: int) -> None:
    model = tiny_model("vit", depth=depth)
    plain = activation_bytes(model, CPU, "float32", recompute=False).each
    again = activation_bytes(model, CPU, "float32", recompute=True).each
    tokens, width = model.config.tokens, model.config.width  # type: ignore[attr-defined]
    block = (plain - again + depth * 4 * tokens * width) / (depth - 1)
    assert block > 8 * 4 * tokens * width  # two norms, attention and an MLP leave far more
    outside = plain - depth * block
    assert 0 <= outside < block


def test_what_a_training_takes_is_added_up(photos: Path) -> None:
    setup = ready(photos, train__accumulate=2)
    count = setup.model.count_parameters()
    need = estimate(setup, Team(CPU))
    one = activation_bytes(setup.model, CPU, "float32", recompute=False)
    assert need == (4 * count, 8 * count, 4 * count, 4 * one.each, 8 * 4 * 3 * 16 * 24)
    assert need.fixed == 16 * count
    sgd = estimate(ready(photos, train__optimizer="sgd", train__ema=0.0), Team(CPU))
    assert (sgd.optimizer, sgd.average) == (4 * count, 0)


def test_what_is_frozen_takes_little(photos: Path) -> None:
    whole = estimate(ready(photos), Team(CPU))
    setup = ready(photos, train__freeze=("blocks", "patch_embed"))
    part = estimate(setup, Team(CPU))
    assert part.gradients < 0.2 * whole.gradients and part.average == whole.average
    assert part.activations < 0.6 * whole.activations  # matrices need no inputs
    assert estimate(setup, Team(CPU)) == part  # once more changes nothing


@pytest.mark.parametrize(("kind", "possible"), [("vit", True), ("bit", True), ("resnet", False)])
def test_batch_norms_cannot_be_computed_twice(kind: str, possible: bool) -> None:
    assert can_recompute(tiny_model(kind)) is possible


def test_ranks_share_a_batch_and_with_fsdp_the_weights(photos: Path) -> None:
    alone = estimate(ready(photos), Team(CPU))
    ddp = estimate(ready(photos), Team(CPU, rank=1, ranks=2))
    fsdp = estimate(ready(photos, team__strategy="fsdp"), Team(CPU, rank=1, ranks=2))
    assert ddp.fixed == alone.fixed and 2 * ddp.activations == alone.activations
    assert 2 * fsdp.fixed == alone.fixed and fsdp.activations == ddp.activations


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            0.9,
            r"needs about .* are free; lower train\.batch_size, or use train\.accumulate above 1",
        ),
        (2.0, None),
    ],
)
def test_a_batch_that_surely_does_not_fit_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, part: float, message: str | None
) -> None:
    setup = ready(photos, train__batch_size=64)
    need = estimate(setup, Team(CPU))
    free = int(part * sum(need) / 1.5)
    assert need.fixed < free

    def given(device: torch.device) -> int:
        return free

    monkeypatch.setattr(fitting, "free_memory", given)
    if message is None:
        require_fit(setup, Team(CPU))
        return
    with pytest.raises(ConfigError, match=rf"^train\.batch_size=64 {message}"):
        require_fit(setup, Team(CPU))


def test_a_model_that_surely_does_not_fit_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = ready(photos)
    fixed = estimate(setup, Team(CPU)).fixed
    monkeypatch.setattr(fitting, "free_memory", lambda device: fixed - 1)
    with pytest.raises(ConfigError, match="gradients, adamw and average need about"):
        require_fit(setup, Team(CPU))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # both take from the same memory
    monkeypatch.setattr(fitting, "free_memory", lambda device: 2 * fixed - 1)
    with pytest.raises(ConfigError, match="gradients, adamw and average need about"):
        require_fit(setup, Team(CPU, ranks=2))
    monkeypatch.setattr(fitting, "free_memory", lambda device: None)
    require_fit(setup, Team(CPU))  # nobody knows


def test_an_ordinary_training_fits(photos: Path) -> None:
    require_fit(ready(photos), Team(CPU))


@pytest.mark.parametrize(
    ("size", "text"), [(3 * 2**29, "1.5 GiB"), (2**29, "512 MiB"), (2**19, "0 MiB")]
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert gibibytes(size) == text
