"""mixup and CutMix: pairs, laws, boxes, and targets that follow the pixels."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from vitrail.data.augment import AugmentConfig, Draw
from vitrail.data.augmentation.mixing import (
    Mixing,
    draw_mixing,
    mix,
    mix_images,
    mix_targets,
    mixup_weights,
)

SIZE = (21, 34)


def draw_for(samples: NDArray[np.int64] | int, seed: int = 0, epoch: int = 0) -> Draw:
    places = np.arange(samples) if isinstance(samples, int) else samples
    return Draw(seed, np.full(len(places), epoch), places)


def drawn(draw: Draw, mixup: float, cutmix: float, size: tuple[int, int] = SIZE) -> Mixing:
    mixing = draw_mixing(draw, AugmentConfig(mixup=mixup, cutmix=cutmix), size)
    assert mixing is not None
    return mixing


def numbered(n: int) -> torch.Tensor:
    """Images of one value each, their place in the batch."""
    return torch.arange(n).float().view(n, 1, 1, 1).expand(n, 2, *SIZE).contiguous()


# --- mixup ---


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 5.0])
def test_mixup_weights_follow_the_beta_law(alpha: float) -> None:
    weights = mixup_weights(draw_for(5000), alpha)
    assert weights.min() >= 0.5 and weights.max() <= 1
    law = stats.beta(alpha, alpha)
    assert stats.kstest(weights, lambda w: law.cdf(w) - law.cdf(1 - w)).pvalue > 1e-4


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_mix_pairs_neighbours_and_leaves_an_odd_one(n: int) -> None:
    rows = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(0))
    weights = np.linspace(0.5, 0.95, n)
    mixed = mix(rows, weights)
    for i, weight in enumerate(weights):
        partner = i ^ 1
        if partner < n:
            expected = weight * rows[i] + (1 - weight) * rows[partner]
            torch.testing.assert_close(mixed[i], expected.float())
        else:
            assert torch.equal(mixed[i], rows[i])


def test_mix_keeps_targets_summing_to_one() -> None:
    targets = torch.eye(5)[torch.tensor([0, 3, 3, 1, 4, 2])]
    mixed = mix(targets, mixup_weights(draw_for(6), 0.5))
    torch.testing.assert_close(mixed.sum(1), torch.ones(6))
    assert mixed.argmax(1).tolist() == [0, 3, 3, 1, 4, 2]


def test_mixup_alone_is_that_of_its_weights() -> None:
    draw, images = draw_for(7), numbered(7)
    mixing, weights = drawn(draw, 0.4, 0.0), mixup_weights(draw_for(7), 0.4)
    assert torch.equal(mix_images(images, mixing), mix(images, weights))
    targets = torch.eye(7)
    assert torch.equal(mix_targets(targets, mixing), mix(targets, weights))


def test_nothing_is_mixed_without_a_setting() -> None:
    assert draw_mixing(draw_for(4), AugmentConfig(), SIZE) is None


# --- CutMix ---


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_a_box_of_the_partner_is_pasted_and_weighs_what_it_covers(n: int) -> None:
    mixing = drawn(draw_for(n, seed=4), 0.0, 1.0)
    mixed, targets = mix_images(numbered(n), mixing), mix_targets(torch.eye(n), mixing)
    for i in range(n):
        top, bottom, left, right = mixing.boxes[i].tolist()
        inside = torch.zeros(SIZE, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        partner = i ^ 1 if i ^ 1 < n else i
        expected = torch.where(inside, float(partner), float(i))
        assert torch.equal(mixed[i], expected.expand(2, -1, -1))
        assert bool(mixing.cut[i]) == (partner != i)
        if partner != i:
            assert (mixing.boxes[i] == mixing.boxes[partner]).all()
            covered = inside.float().mean().item()
            assert targets[i, i].item() == pytest.approx(1 - covered, abs=1e-6)
            assert targets[i, partner].item() == pytest.approx(covered, abs=1e-6)
        else:
            assert targets[i, i] == 1
    torch.testing.assert_close(targets.sum(1), torch.ones(n))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_boxes_follow_the_beta_law(alpha: float) -> None:
    size = (500, 700)
    mixing = drawn(draw_for(8000), 0.0, alpha, size)
    top, bottom, left, right = mixing.boxes[::2].T
    clear = (top > 0) & (bottom < 500) & (left > 0) & (right < 700)  # nothing is cut off
    sides = np.stack([(bottom - top) / 500, (right - left) / 700])
    assert np.abs(sides[0] - sides[1])[clear].max() < 0.01  # the shape of the image
    whole = 1 - stats.beta(alpha, alpha).rvs(40000, random_state=0)  # areas before the cut
    side, rng = np.sqrt(whole), np.random.default_rng(1)
    low = [np.clip(rng.random(40000) - side / 2, 0, 1) for _ in range(2)]
    rng = np.random.default_rng(1)
    high = [np.clip(rng.random(40000) + side / 2, 0, 1) for _ in range(2)]
    expected = (high[0] - low[0]) * (high[1] - low[1])
    assert stats.kstest(1 - mixing.weights[::2], expected).pvalue > 1e-4
    assert abs((top + bottom).mean() / 1000 - 0.5) < 0.02
    assert abs((left + right).mean() / 1400 - 0.5) < 0.02


def test_half_of_the_pairs_get_each_where_both_are_set() -> None:
    mixing = drawn(draw_for(4000), 0.8, 1.0)
    assert (mixing.cut[::2] == mixing.cut[1::2]).all()
    assert abs(mixing.cut.mean() - 0.5) < 0.05
    assert (mixing.weights[~mixing.cut] == mixup_weights(draw_for(4000), 0.8)[~mixing.cut]).all()
    assert (mixing.boxes[~mixing.cut] == 0).all()
    images = numbered(4000)[:40]
    part = Mixing(mixing.weights[:40], mixing.cut[:40], mixing.boxes[:40])
    mixed, targets = mix_images(images, part), mix_targets(torch.eye(40), part)
    parts = (targets @ torch.arange(40.0)).view(-1, 1)  # the mean of what was mixed
    torch.testing.assert_close(mixed.mean((2, 3)), parts.expand(-1, 2), atol=1e-3, rtol=1e-4)


# --- purity ---


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_a_pair_is_mixed_alike_in_any_batch(mixup: float, cutmix: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(14, 3, *SIZE, generator=generator)
    samples = np.arange(14) * 5

    def mixed(rows: list[int]) -> torch.Tensor:
        mixing = drawn(draw_for(samples[rows]), mixup, cutmix)
        return mix_images(images[rows], mixing)

    together = mixed(list(range(14)))
    for pairs in ([0, 1], [12, 13], [6, 7, 2, 3], [10, 11, 0, 1, 4, 5]):
        assert torch.equal(mixed(pairs), together[pairs])
    assert not torch.equal(together, images)


def test_seed_epoch_and_first_sample_decide() -> None:
    def box(seed: int, epoch: int, first: int, second: int) -> tuple[int, ...]:
        mixing = drawn(draw_for(np.array([first, second]), seed, epoch), 0.0, 1.0, (900, 900))
        return tuple(mixing.boxes[0].tolist())

    assert box(0, 0, 3, 4) == box(0, 0, 3, 9)
    assert len({box(0, 0, 3, 4), box(1, 0, 3, 4), box(0, 1, 3, 4), box(0, 0, 4, 3)}) == 4
