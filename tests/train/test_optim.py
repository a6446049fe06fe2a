import pytest
import torch

from tests.helpers import tiny_model
from vitrail.train.ema import Ema
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import lr_at, make_optimizer, set_lr

CONFIG = OptimConfig(lr=1e-3, final_lr=0.01, weight_decay=0.3, beta2=0.95)


def test_only_matrices_decay() -> None:
    model = tiny_model()
    decayed, kept = make_optimizer(model, CONFIG).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 0.3 and kept["weight_decay"] == 0.0
    assert decayed["betas"] == (0.9, 0.95)
    in_decayed = {names[id(parameter)] for parameter in decayed["params"]}
    in_kept = {names[id(parameter)] for parameter in kept["params"]}
    assert in_decayed | in_kept == set(names.values()) and not in_decayed & in_kept
    assert {"cls_token", "pos_embed", "norm.weight", "head.bias"} < in_kept
    assert in_decayed == {
        "patch_embed.proj.weight",
        "head.weight",
        *(f"blocks.{i}.{part}.weight" for i in (0, 1) for part in ("attn.qkv", "attn.proj")),
        *(f"blocks.{i}.{part}.weight" for i in (0, 1) for part in ("mlp.fc1", "mlp.fc2")),
    }


def test_every_group_gets_the_rate() -> None:
    optimizer = make_optimizer(tiny_model(), CONFIG)
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1e-4),  # the first step of ten already moves
        (4, 5e-4),
        (9, 1e-3),
        (10, 1e-3),  # the cosine begins at the top
        (60, (1e-3 + 1e-5) / 2),  # half way down
        (110, 1e-5),
    ],
)
def test_learning_rate(step: int, expected: float) -> None:
    assert lr_at(step, 110, 10, 0, CONFIG) == pytest.approx(expected, rel=1e-12)


def test_learning_rate_only_falls_after_the_warm_up() -> None:
    rates = [lr_at(step, 50, 5, 0, CONFIG) for step in range(50)]
    assert rates[:5] == sorted(rates[:5]) and rates[5:] == sorted(rates[5:], reverse=True)
    assert max(rates) == 1e-3 and min(rates) > 0
    assert lr_at(0, 1, 0, 0, CONFIG) == 1e-3  # a run of one step


def test_the_average_has_its_closed_form() -> None:
    model = torch.nn.Linear(3, 2)
    ema = Ema(model, 0.8)
    average = model.weight.detach().double().clone()
    for step in range(60):
        with torch.no_grad():
            model.weight += torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
        ema.update(step)
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * model.weight.detach().double()
    torch.testing.assert_close(ema.model.weight.double(), average, rtol=1e-5, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    assert not ema.model.training and model.training


def test_the_average_has_the_running_statistics_of_the_model() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    ema = Ema(model, 0.9)
    for step in range(3):
        model(torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(step)))
        ema.update(step)
    norm = model[1]
    assert norm.num_batches_tracked == 3 and (norm.running_mean != 0).all()
    kept = dict(ema.model.named_buffers())
    assert all(torch.equal(kept[name], buffer) for name, buffer in model.named_buffers())
    assert all(kept[name] is not buffer for name, buffer in model.named_buffers())
    before = kept["1.running_mean"].clone()
    model(torch.randn(2, 3, 5, 7))
    assert torch.equal(kept["1.running_mean"], before)  # only an update copies


def test_without_decay_the_average_is_the_model() -> None:
    model = torch.nn.Linear(3, 2)
    ema = Ema(model, 0.0)
    ema.update(0)
    assert ema.model is model and model.weight.requires_grad
