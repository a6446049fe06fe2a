import pytest
import torch
from torch import Tensor, nn

from tests.helpers import TINY, tiny_model
from tests.train.optim.test_make import take
from vitrail.models.lora import add_lora
from vitrail.train.learning import OptimConfig
from vitrail.train.optim import make_groups, make_optimizer, set_lr
from vitrail.train.optim.muon import Muon, mark_hidden, orthogonal

CONFIG = OptimConfig(optimizer="muon", lr=1e-2, weight_decay=0.3)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hidden(model: nn.Module) -> dict[str, int]:
    """Give the matrices that Muon changes, and how many lie in each."""
    return {
        name: parts
        for group in mark_hidden(model, make_groups(model, CONFIG))
        if group["hidden"]
        for name, parts in zip(group["names"], group["parts"], strict=True)
    }


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 7), (7, 1)])
def test_the_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    matrix = draw(*shape)
    found = orthogonal(matrix)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    changed = left.T @ found @ right.T  # the same directions
    torch.testing.assert_close(changed, changed.diagonal().diag(), rtol=0, atol=1e-4)
    sure = values > 0.05 * values.norm()
    assert (changed.diagonal()[sure] > 0.6).all() and (changed.diagonal() < 1.3).all()
    torch.testing.assert_close(orthogonal(1000 * matrix), found, rtol=1e-4, atol=1e-4)


def test_zeros_stay_zeros() -> None:
    assert (orthogonal(torch.zeros(3, 4)) == 0).all()


@pytest.mark.parametrize("shape", [(32, 48), (48, 32), (16, 3, 5, 5)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.bfloat16, 1e-4, 1e-5), (torch.float32, 0.0, 5e-4)]
)
def test_equal_to_torchs(
    shape: tuple[int, ...], weight_decay: float, dtype: torch.dtype, rtol: float, atol: float
) -> None:
    mine, theirs = nn.Parameter(draw(*shape)), nn.Parameter(draw(*shape).flatten(1))
    group = {"params": [mine], "parts": [1], "hidden": True, "weight_decay": weight_decay}
    optimizer = Muon([group], 1e-2, (0.9, 0.999), momentum=0.9)
    optimizer.dtype = dtype  # torch's is bf16
    other = torch.optim.Muon(
        [theirs], 1e-2, weight_decay, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(5):
        mine.grad = draw(*shape, seed=step)
        theirs.grad = mine.grad.flatten(1)
        optimizer.step()
        other.step()
    assert (mine.flatten(1) - draw(*shape).flatten(1)).abs().mean() > 1e-3
    torch.testing.assert_close(mine.flatten(1), theirs, rtol=rtol, atol=atol)


def test_packed_matrices_are_changed_one_by_one() -> None:
    whole, apart = nn.Parameter(draw(12, 7)), [nn.Parameter(each) for each in draw(12, 7).chunk(3)]
    one = {"params": [whole], "parts": [3], "hidden": True, "weight_decay": 0.1}
    three = {"params": apart, "parts": [1, 1, 1], "hidden": True, "weight_decay": 0.1}
    whole.grad = draw(12, 7, seed=1)
    for parameter, gradient in zip(apart, whole.grad.chunk(3), strict=True):
        parameter.grad = gradient
    for group in (one, three):
        Muon([group], 1e-2, (0.9, 0.999), momentum=0.9).step()
    assert torch.equal(whole, torch.cat(list(apart)))


def test_a_step_has_the_size_of_adamws() -> None:
    """Liu et al. 2025, section 2.2: the root mean square of a step is about 0.2 lr."""
    for shape in ((64, 64), (96, 24), (24, 96)):
        matrix = nn.Parameter(torch.zeros(shape))
        group = {"params": [matrix], "parts": [1], "hidden": True, "weight_decay": 0.1}
        matrix.grad = draw(*shape)
        Muon([group], 1e-2, (0.9, 0.999), momentum=0.9).step()
        assert matrix.square().mean().sqrt().item() == pytest.approx(2e-3, rel=0.2)


@pytest.mark.parametrize("kind", TINY)
def test_hidden_are_the_matrices_between_image_and_classes(kind: str) -> None:
    model = tiny_model(kind)
    tables = ("_token", "pos_embed", "latent", "relative_position_bias_table")
    expected = {
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and not name.endswith(tables)
    }
    assert set(hidden(model)) == expected - {model.stem_weight, *model.head_names}


def test_what_lies_in_one_matrix() -> None:
    parts = hidden(tiny_model("vit-dinov2"))
    assert {name.partition("0.")[2]: each for name, each in parts.items() if "s.0" in name} == {
        "attn.qkv.weight": 3,
        "attn.proj.weight": 1,
        "mlp.fc1.weight": 2,  # gate and value
        "mlp.fc2.weight": 1,
    }
    assert hidden(tiny_model("vit"))["blocks.1.mlp.fc1.weight"] == 1
    assert hidden(tiny_model("vit-map"))["attn_pool.kv.weight"] == 2
    assert hidden(tiny_model("swin"))["layers.1.blocks.0.attn.qkv.weight"] == 3
    model = tiny_model()
    add_lora(model, 2, 4.0, ("attn.qkv",))
    assert hidden(model)["blocks.0.attn.qkv.lora_b"] == 3
    assert hidden(model)["blocks.0.attn.qkv.lora_a"] == 1


def test_the_rest_learns_by_adamw() -> None:
    model, other = tiny_model(), tiny_model()
    adamw = make_optimizer(other, CONFIG.replace(optimizer="adamw"))
    muon = make_optimizer(model, CONFIG)
    for step in range(3):
        take(model, muon, step)
        take(other, adamw, step)
    matrices = hidden(model)
    for (name, parameter), expected in zip(
        model.named_parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(parameter, expected) == (name not in matrices), name


def test_only_matrices_may_be_left() -> None:
    model = nn.Linear(4, 3, bias=False)
    optimizer = make_optimizer(model, CONFIG)
    set_lr(optimizer, 0.1)
    before = model.weight.detach().clone()
    model.weight.grad = draw(3, 4)
    optimizer.step()
    length = (model.weight - before).norm().item()
    assert 0.1 * 0.2 * 2 < length < 0.1 * 0.2 * 2 * 2  # sqrt(4) * |o|, |o| about sqrt(3)
