"""From a batch of images to the loss, and from a model to the logits of a split."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.data.augment import AugmentConfig, Draw, augment
from vitrail.data.augmentation.mixing import draw_mixing, mixup_weights
from vitrail.data.loader import Batch
from vitrail.data.preprocess import Preprocess
from vitrail.errors import DataError
from vitrail.objectives.classify import (
    Classify,
    collect_logits,
    sigmoid_cross_entropy,
    smooth_labels,
    smooth_targets,
    soft_cross_entropy,
)

CLASSES = 5
PREPROCESS = Preprocess(size=(6, 10))
OFF = AugmentConfig(flip=False)


class Linear(nn.Module):
    """The smallest classifier; notes the mode and the images of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 6 * 10, CLASSES)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            self.head.weight.copy_(torch.randn(self.head.weight.shape, generator=generator) / 10)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.head(images.flatten(1))


def batch(*samples: int, failures: tuple[tuple[str, str], ...] = (), epoch: int = 0) -> Batch:
    """Images, labels and places that follow from the indexes."""
    shape = (3, 6, 10)
    images = [
        torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(i), dtype=torch.uint8)
        for i in samples
    ]
    return Batch(
        torch.stack(images) if images else torch.empty(0, *shape, dtype=torch.uint8),
        torch.tensor([i % CLASSES for i in samples], dtype=torch.int64),
        np.array(samples, dtype=np.int64),
        np.full(len(samples), epoch, dtype=np.int64),
        failures,
    )


def objective(augmentation: AugmentConfig = OFF, smoothing: float = 0.0) -> Classify:
    return Classify(
        Linear(), PREPROCESS, augmentation, classes=CLASSES, label_smoothing=smoothing, seed=3
    )


# --- targets and loss ---


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_loss_is_that_of_torch(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(9, CLASSES, generator=generator)).requires_grad_()
    labels = torch.randint(0, CLASSES, (9,), generator=generator)
    ours = soft_cross_entropy(logits, smooth_targets(labels, CLASSES, smoothing))
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    (mine,) = torch.autograd.grad(ours, logits)
    (other,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)


def test_loss_of_soft_targets_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, CLASSES, generator=generator)
    targets = torch.rand(7, CLASSES, generator=generator)
    targets = targets / targets.sum(1, keepdim=True)
    ours = soft_cross_entropy(logits, targets)
    torch.testing.assert_close(ours, F.cross_entropy(logits, targets), atol=1e-6, rtol=1e-6)


def test_loss_is_float32_and_finite_for_large_bf16_logits() -> None:
    logits = torch.tensor([[3e4, -3e4, 0.0], [0.0, 0.0, 0.0]], dtype=torch.bfloat16)
    loss = soft_cross_entropy(logits, torch.eye(3)[:2])
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(np.log(3) / 2, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smooth_targets(smoothing: float) -> None:
    labels = torch.tensor([0, 4, 2])
    targets = smooth_targets(labels, CLASSES, smoothing)
    torch.testing.assert_close(targets.sum(1), torch.ones(3))
    own = targets[torch.arange(3), labels]
    torch.testing.assert_close(own, torch.full((3,), 1 - smoothing + smoothing / CLASSES))
    others = targets[F.one_hot(labels, CLASSES) == 0]
    torch.testing.assert_close(others, torch.full((12,), smoothing / CLASSES))


def test_sigmoid_loss_is_the_mean_over_images_and_classes() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(6, CLASSES, generator=generator)
    targets = torch.rand(6, CLASSES, generator=generator)
    p = logits.double().sigmoid()
    each = -(targets * p.log() + (1 - targets) * (1 - p).log())
    ours = sigmoid_cross_entropy(logits, targets)
    assert ours.item() == pytest.approx(each.mean().item(), abs=1e-6)
    half = sigmoid_cross_entropy(logits.bfloat16(), targets)
    assert half.dtype == torch.float32
    far = torch.tensor([[3e4, -3e4]], dtype=torch.bfloat16)
    assert sigmoid_cross_entropy(far, torch.tensor([[1.0, 0.0]])) == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_smooth_labels(dtype: torch.dtype) -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=dtype)
    assert torch.equal(smooth_labels(labels, 0.0), labels.float())
    expected = torch.tensor([[0.9, 0.1, 0.9], [0.1, 0.1, 0.1]])
    torch.testing.assert_close(smooth_labels(labels, 0.2), expected)


# --- a batch ---


def test_without_augmentation_images_are_only_normalised() -> None:
    images, targets = objective(smoothing=0.1).prepare(batch(3, 8, 1))
    assert torch.equal(images, PREPROCESS.normalise(batch(3, 8, 1).images))
    assert torch.equal(targets, smooth_targets(torch.tensor([3, 3, 1]), CLASSES, 0.1))


def test_forward_gives_the_mean_loss() -> None:
    classify = objective(smoothing=0.1)
    loss, parts = classify(batch(0, 1, 2, 3))
    logits = classify.model(PREPROCESS.normalise(batch(0, 1, 2, 3).images))
    expected = F.cross_entropy(logits, torch.arange(4), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    assert parts == {}
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in classify.parameters())


def test_images_and_targets_are_mixed_alike() -> None:
    config = AugmentConfig(rotate=10.0, mixup=0.5)
    samples = (4, 0, 7)
    images, targets = objective(config).prepare(batch(*samples, epoch=2))
    draw = Draw(3, np.full(3, 2), np.array(samples))
    apart = PREPROCESS.normalise(augment(batch(*samples).images, draw, config))
    hot = torch.eye(CLASSES)[[4, 0, 2]]
    first, second, _ = mixup_weights(draw, 0.5).tolist()
    for mixed, own in ((images, apart), (targets, hot)):
        torch.testing.assert_close(mixed[0], first * own[0] + (1 - first) * own[1])
        torch.testing.assert_close(mixed[1], second * own[1] + (1 - second) * own[0])
        assert torch.equal(mixed[2], own[2])


def test_boxes_and_targets_go_together() -> None:
    config = AugmentConfig(cutmix=1.0)
    samples = (4, 0, 7, 1, 2)
    images, targets = objective(config, 0.1).prepare(batch(*samples, epoch=2))
    draw = Draw(3, np.full(5, 2), np.array(samples))
    mixing = draw_mixing(draw, config, (6, 10))
    assert mixing is not None and mixing.cut.tolist() == [True] * 4 + [False]
    apart = PREPROCESS.normalise(augment(batch(*samples).images, draw, config))
    hot = smooth_targets(torch.tensor([4, 0, 2, 1, 2]), CLASSES, 0.1)
    for i, partner in enumerate((1, 0, 3, 2, 4)):
        own = (images[i] == apart[i]).all(0)
        assert torch.equal(images[i][:, ~own], apart[partner][:, ~own])
        weight = own.float().mean()
        expected = weight * hot[i] + (1 - weight) * hot[partner]
        torch.testing.assert_close(targets[i], expected)


def test_several_labels_are_smoothed_mixed_and_scored_by_sigmoid() -> None:
    labels = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    several = batch(4, 0, 7)._replace(labels=labels)
    classify = Classify(
        Linear(),
        PREPROCESS,
        AugmentConfig(flip=False, mixup=0.5),
        classes=CLASSES,
        label_smoothing=0.2,
        seed=3,
        multi_label=True,
    )
    images, targets = classify.prepare(several)
    weight = mixup_weights(Draw(3, several.epochs, several.samples), 0.5)[0]
    smooth = smooth_labels(labels, 0.2)
    torch.testing.assert_close(targets[0], (weight * smooth[0] + (1 - weight) * smooth[1]).float())
    assert torch.equal(targets[2], smooth[2])
    loss, parts = classify(several)
    expected = F.binary_cross_entropy_with_logits(classify.model(images), targets)
    torch.testing.assert_close(loss, expected)
    assert parts == {}


def test_images_of_16_bits_are_prepared() -> None:
    fine = batch(1, 2)._replace(images=batch(1, 2).images.float() * 0.97 + 0.21)
    images, _ = objective().prepare(fine)
    assert torch.equal(images, PREPROCESS.normalise(fine.images))


def test_augmentation_follows_seed_epoch_and_sample() -> None:
    classify = objective(AugmentConfig(rotate=20.0, erase=0.5))
    one, _ = classify.prepare(batch(1, 2, 3))
    again, _ = classify.prepare(batch(3, 1))
    assert torch.equal(again, one[[2, 0]])
    later, _ = classify.prepare(batch(1, 2, 3, epoch=1))
    assert not torch.equal(later, one)


# --- the logits of a split ---


@pytest.mark.parametrize("training", [True, False])
def test_collect_logits(training: bool) -> None:
    model = Linear().train(training)
    broken = (("5.png", "5.png: cut short"), ("6.png", "6.png: empty"))
    parts = [batch(0, 1, 2), batch(failures=broken[:1]), batch(7, 4, failures=broken[1:])]
    told: list[int] = []
    outputs = collect_logits(model, PREPROCESS, parts, tell=told.append)
    assert model.modes == [False, False]
    assert model.training is training
    assert outputs.samples.tolist() == [0, 1, 2, 7, 4]
    assert outputs.labels.tolist() == [0, 1, 2, 2, 4]
    assert outputs.failures == broken
    assert told == [3, 1, 3]
    expected = model(PREPROCESS.normalise(batch(0, 1, 2, 7, 4).images))
    assert outputs.logits.dtype == torch.float32 and not outputs.logits.requires_grad
    torch.testing.assert_close(outputs.logits, expected.detach(), atol=1e-5, rtol=1e-5)


def test_collect_logits_in_bf16_gives_float32() -> None:
    model = Linear()
    full = collect_logits(model, PREPROCESS, [batch(0, 1, 2)]).logits
    short = collect_logits(model, PREPROCESS, [batch(0, 1, 2)], "bf16").logits
    assert short.dtype == torch.float32
    assert torch.equal(short, short.bfloat16().float()) and not torch.equal(short, full)
    torch.testing.assert_close(short, full, atol=0.05, rtol=0.02)


def test_collect_logits_without_an_image() -> None:
    model = Linear().train()
    parts = [batch(failures=(("0.png", "0.png: empty"),)), batch(failures=(("1.png", "x"),))]
    with pytest.raises(DataError, match=r"no readable image among 2; the first: 0\.png: empty"):
        collect_logits(model, PREPROCESS, parts)
    assert model.training


def test_the_mode_comes_back_when_a_batch_fails() -> None:
    def failing() -> Iterator[Batch]:
        yield batch(0, 1)
        raise DataError("the disk is gone")

    model = Linear().train()
    with pytest.raises(DataError, match="the disk is gone"):
        collect_logits(model, PREPROCESS, failing())
    assert model.training
