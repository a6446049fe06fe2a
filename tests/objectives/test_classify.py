"""From a batch of images to the loss."""

import numpy as np
import torch
import torch.nn.functional as F

from tests.objectives.helpers import CLASSES, PREPROCESS, Linear, batch
from vitrail.data.augment import AugmentConfig, Draw, augment
from vitrail.data.augmentation.mixing import draw_mixing, mixup_weights
from vitrail.objectives.classify import Classify
from vitrail.objectives.losses import Loss, smooth_labels, smooth_targets

OFF = AugmentConfig(flip=False)


def objective(augmentation: AugmentConfig = OFF, smoothing: float = 0.0) -> Classify:
    return Classify(
        Linear(), PREPROCESS, augmentation, loss=Loss(CLASSES, smoothing=smoothing), seed=3
    )


def test_without_augmentation_images_are_only_normalised() -> None:
    images, targets = objective(smoothing=0.1).prepare(batch(3, 8, 1))
    assert torch.equal(images, PREPROCESS.normalise(batch(3, 8, 1).images))
    assert torch.equal(targets, smooth_targets(torch.tensor([3, 3, 1]), CLASSES, 0.1))


def test_forward_gives_the_mean_loss() -> None:
    classify = objective(smoothing=0.1)
    loss, parts = classify(*classify.prepare(batch(0, 1, 2, 3)))
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
        loss=Loss(CLASSES, kind="sigmoid", smoothing=0.2),
        seed=3,
    )
    images, targets = classify.prepare(several)
    weight = mixup_weights(Draw(3, several.epochs, several.samples), 0.5)[0]
    smooth = smooth_labels(labels, 0.2)
    torch.testing.assert_close(targets[0], (weight * smooth[0] + (1 - weight) * smooth[1]).float())
    assert torch.equal(targets[2], smooth[2])
    loss, parts = classify(images, targets)
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
