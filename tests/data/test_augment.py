"""Augmentation, against Pillow where it does the same, and against its definition elsewhere."""

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from torch import Tensor

from vitrail.data.augment import (
    AugmentConfig,
    Draw,
    affine_matrices,
    augment,
    policy_layers,
    random_box,
)
from vitrail.data.augmentation.mixing import mix, mixup_weights
from vitrail.data.augmentation.operations import apply
from vitrail.errors import ConfigError

HEIGHT, WIDTH = 33, 48
OFF = AugmentConfig(flip=False)
FULL = AugmentConfig(
    rotate=20.0, translate=0.1, scale=0.3, shear=15.0, warp=0.05, erase=0.6, mixup=0.4
)


def draw_for(samples: NDArray[np.int64] | int, seed: int = 0, epoch: int = 0) -> Draw:
    places = np.arange(samples) if isinstance(samples, int) else samples
    return Draw(seed, np.full(len(places), epoch), places)


def pictures(n: int, channels: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    """Smooth pictures, uint8: what two exact bilinear resamplings agree on."""
    y, x = np.mgrid[: size[0], : size[1]]
    images = [
        127 + 60 * np.sin(x / (3 + i) + c) + 60 * np.cos(y / (4 + c) + i)
        for i, c in itertools.product(range(n), range(channels))
    ]
    return torch.from_numpy(np.array(images).astype(np.uint8)).view(n, channels, *size)


def noise(n: int, channels: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, channels, *size), generator=generator, dtype=torch.uint8)


# --- nothing, and flips ---


def test_identity_when_everything_is_off() -> None:
    images = noise(3)
    result = augment(images, draw_for(3), OFF)
    assert result.dtype == torch.float32
    assert torch.equal(result, images.float())


def test_resampling_without_movement_is_the_identity() -> None:
    images = noise(3)
    tiny = AugmentConfig(flip=False, rotate=1e-9)
    torch.testing.assert_close(
        augment(images, draw_for(3), tiny), images.float(), atol=0.02, rtol=0.0
    )


def test_flip_mirrors_half_of_the_images_left_to_right() -> None:
    images = noise(400, 1, (3, 5))
    result = augment(images, draw_for(400), AugmentConfig())
    mirrored = 0
    for image, each in zip(images, result, strict=True):
        same = torch.equal(each, image.float())
        pillow = Image.fromarray(image[0].numpy()).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert same or (each[0].numpy() == np.asarray(pillow)).all()
        mirrored += not same
    assert 160 < mirrored < 240


def test_flip_changes_from_epoch_to_epoch() -> None:
    image = noise(1)
    results = [augment(image, draw_for(1, epoch=epoch), AugmentConfig()) for epoch in range(20)]
    assert len({result[0, 0, 0].sum().item() for result in results}) in (1, 2)
    assert {torch.equal(result, image.float()) for result in results} == {True, False}


def test_vertical_flip_mirrors_half_of_the_images_top_to_bottom() -> None:
    images = noise(400, 1, (3, 5))
    config = AugmentConfig(flip=False, flip_vertical=True)
    result = augment(images, draw_for(400), config)
    mirrored = 0
    for image, each in zip(images, result, strict=True):
        same = torch.equal(each, image.float())
        pillow = Image.fromarray(image[0].numpy()).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        assert same or (each[0].numpy() == np.asarray(pillow)).all()
        mirrored += not same
    assert 160 < mirrored < 240


def test_the_two_flips_are_independent() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(400, 1, 2, 2)
    result = augment(image.contiguous(), draw_for(400), AugmentConfig(flip_vertical=True))
    corners, counts = result[:, 0, 0, 0].unique(return_counts=True)
    assert corners.tolist() == [1, 2, 3, 4] and counts.min() > 70


# --- levels in floating point, and the policy ---


@pytest.mark.parametrize("channels", [1, 4])
def test_levels_in_floating_point_are_not_rounded(channels: int) -> None:
    images = noise(5, channels).float() * 0.9 + 0.3
    flipped = augment(images, draw_for(5), AugmentConfig(flip_vertical=True))
    for image, each in zip(images, flipped, strict=True):
        ways = [image.flip(axes) for axes in ([], [1], [2], [1, 2])]
        assert any(torch.equal(each, way) for way in ways)
    full = augment(images, draw_for(5), FULL.replace(policy="trivialaugment"))
    assert full.dtype == torch.float32 and full.shape == images.shape
    assert full.min() >= 0 and full.max() <= 255


def test_the_policy_comes_after_the_flips_and_before_the_moves() -> None:
    images, draw = noise(6), draw_for(6)
    config = AugmentConfig(policy="randaugment", jitter=(0.4, 0.4, 0.4, 0.1))
    flipped = augment(images, draw, AugmentConfig()).to(torch.uint8)
    changed = apply(flipped, policy_layers(draw, config, (HEIGHT, WIDTH)))
    assert torch.equal(augment(images, draw, config), changed.float())
    moved = augment(changed, draw, AugmentConfig(flip=False, rotate=9.0))
    assert torch.equal(augment(images, draw, config.replace(rotate=9.0)), moved)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"policy": "autoaugment"}, "policy"),
        ({"layers": 0}, "layers"),
        ({"magnitude": 31}, "magnitude"),
        ({"policy": "randaugment-increasing", "magnitude": 11}, "must be at most 10 with rand"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "jitter"),
        ({"jitter": (0.4, 0.4)}, "jitter"),
        ({"cutmix": -1}, "cutmix"),
        ({"crop_area": (0.5, 0.2)}, "must go from the smaller to the larger"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        AugmentConfig.parse(settings, "augment")


# --- moves ---


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=False, rotate=40.0),
        AugmentConfig(flip=False, translate=0.2),
        AugmentConfig(flip=False, scale=0.5),
        AugmentConfig(flip=False, shear=25.0),
        AugmentConfig(flip=False, rotate=30.0, translate=0.1, scale=0.3, shear=15.0),
    ],
    ids=["rotate", "translate", "scale", "shear", "all"],
)
def test_affine_as_pillow_does_it(config: AugmentConfig) -> None:
    images, draw = pictures(6, 1), draw_for(6)
    result = augment(images, draw, config)[:, 0].numpy()
    matrices = affine_matrices(draw.uniform("affine", 6), (HEIGHT, WIDTH), config)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centred = np.stack([x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2, np.ones_like(x)])
    for image, each, m in zip(images, result, matrices, strict=True):
        origin = np.array([WIDTH, HEIGHT]) / 2 - m[:, :2] @ np.array([WIDTH, HEIGHT]) / 2 + m[:, 2]
        rows = [(*m[axis, :2].tolist(), float(origin[axis])) for axis in (0, 1)]
        source = Image.fromarray(image[0].numpy().astype(np.float32))
        pillow = source.transform(
            (WIDTH, HEIGHT), Image.Transform.AFFINE, rows[0] + rows[1], Image.Resampling.BILINEAR
        )
        places = np.einsum("ij,jyx->iyx", m, centred)
        inside = (np.abs(places[0]) < WIDTH / 2 - 1) & (np.abs(places[1]) < HEIGHT / 2 - 1)
        assert inside.mean() > 0.3
        assert np.abs(each - np.asarray(pillow))[inside].max() < 0.05
        assert np.abs(each - image[0].numpy())[inside].max() > 5  # it did move


def test_what_comes_from_outside_is_the_edge() -> None:
    images = torch.zeros(8, 1, HEIGHT, WIDTH, dtype=torch.uint8)
    images[..., 0] = 200
    images[..., -1] = 200
    images[:, :, 0] = 200
    images[:, :, -1] = 200
    shrunk = augment(images, draw_for(8), AugmentConfig(flip=False, translate=0.3))
    for image in shrunk:
        assert image.max() == pytest.approx(200, abs=0.01)
        corners = [image[0, row, column].item() for row in (0, -1) for column in (0, -1)]
        assert max(corners) == pytest.approx(200, abs=0.01)


def test_moves_stay_within_their_limits() -> None:
    u = draw_for(3000).uniform("affine", 6)
    turned = affine_matrices(u, (HEIGHT, WIDTH), AugmentConfig(rotate=25.0))
    angles = np.degrees(np.arctan2(turned[:, 0, 1], turned[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-25, 50).cdf).pvalue > 1e-4
    assert np.allclose(np.linalg.det(turned[:, :, :2]), 1)

    shifted = affine_matrices(u, (HEIGHT, WIDTH), AugmentConfig(translate=0.1))
    assert (shifted[:, :, :2] == np.eye(2)).all()
    for axis, side in enumerate((WIDTH, HEIGHT)):
        law = stats.uniform(-0.1 * side, 0.2 * side)
        assert stats.kstest(shifted[:, axis, 2], law.cdf).pvalue > 1e-4

    scaled = affine_matrices(u, (HEIGHT, WIDTH), AugmentConfig(scale=0.5))
    sizes = 1 / np.diagonal(scaled[:, :, :2], axis1=1, axis2=2)
    assert sizes.min() > 1 / 1.5 and sizes.max() < 1.5
    assert abs(np.log(sizes).mean()) < 0.02  # as often larger as smaller
    assert abs(np.corrcoef(sizes.T)[0, 1]) < 0.1  # each side by itself

    slanted = affine_matrices(u, (HEIGHT, WIDTH), AugmentConfig(shear=30.0))
    slants = np.degrees(np.arctan(slanted[:, 0, 1]))
    assert stats.kstest(slants, stats.uniform(-30, 60).cdf).pvalue > 1e-4


def test_matrix_product_precision_does_not_matter() -> None:
    """Autocast makes matrix products bf16: positions would be half a pixel wrong at 224."""
    images, config = pictures(2, 1, (96, 224)), FULL.replace(erase=0.0)
    plain = augment(images, draw_for(2), config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment(images, draw_for(2), config), plain)


# --- warp ---


def ramps() -> Tensor:
    """Two channels that say where each pixel came from: its column, its row."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([x, y]).to(torch.uint8)


def test_warp_amplitude_and_smoothness() -> None:
    amount = 0.05
    images = ramps().expand(40, -1, -1, -1).contiguous()
    moved = augment(images, draw_for(40), AugmentConfig(flip=False, warp=amount)) - images
    for channel, side in ((0, WIDTH), (1, HEIGHT)):
        reach = moved[:, channel].abs()
        assert reach.max() < 1.9 * amount * side  # bicubic overshoots by 1.89 at most
        assert reach.max() > 0.6 * amount * side
        assert reach[:, :: HEIGHT - 1, :: WIDTH - 1].max() <= amount * side + 1e-3  # nodes
        steps = moved[:, channel, 4:-4, 4:-4].diff(dim=-1).abs()
        assert steps.max() < 3 * 2 * amount * side / (WIDTH / 3)  # from node to node at most 2
    assert moved.mean().abs() < 0.2


# --- erase ---


def test_erase_share_area_and_level() -> None:
    images = torch.full((3000, 2, 20, 31), 255, dtype=torch.uint8)
    result = augment(images, draw_for(3000), AugmentConfig(flip=False, erase=0.3))
    erased = result < 255
    assert torch.equal(erased[:, 0], erased[:, 1])
    chosen = erased[:, 0].flatten(1).any(dim=1)
    assert abs(chosen.float().mean().item() - 0.3) < 0.04
    areas, levels = [], []
    for image, where in zip(result[chosen], erased[chosen][:, 0], strict=True):
        rows, columns = torch.nonzero(where.any(1))[:, 0], torch.nonzero(where.any(0))[:, 0]
        h, w = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert where.sum() == h * w  # one full rectangle
        areas.append(h * w / (20 * 31))
        values = image[:, where].unique()
        assert len(values) == 1
        levels.append(values.item())
    assert max(areas) < 0.36 and min(areas) < 0.05
    assert 0.1 < np.mean(areas) < 0.2  # uniform from 0.02 to 0.33, less what sticks out
    assert stats.kstest(levels, stats.uniform(0, 255).cdf).pvalue > 1e-4


def test_erase_always_and_never() -> None:
    images = torch.full((50, 1, 9, 14), 255, dtype=torch.uint8)
    always = augment(images, draw_for(50), AugmentConfig(flip=False, erase=1.0))
    assert (always < 255).flatten(1).any(dim=1).all()
    never = augment(images, draw_for(50), AugmentConfig(flip=False, erase=1e-12))
    assert torch.equal(never, images.float())


# --- random crops ---


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 3), (40, 9), (11, 300)])
def test_random_box_is_inside(size: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    edges = [np.array(each) for each in itertools.product((0.0, 1 - 2.0**-53), repeat=4)]
    for u in [*edges, *generator.random((300, 4))]:
        for area in ((1e-6, 1e-3), (0.08, 1.0), (1.0, 1.0)):
            top, left, height, width = random_box(u, size, area, 4 / 3)
            assert 0 <= top and 1 <= height and top + height <= size[0]
            assert 0 <= left and 1 <= width and left + width <= size[1]


def test_random_box_area_aspect_and_place() -> None:
    size, aspect = (1000, 1400), 4 / 3
    draws = np.random.default_rng(0).random((3000, 4))
    boxes = np.array([random_box(u, size, (0.1, 0.3), aspect) for u in draws])
    top, left, height, width = boxes.T
    measured = {
        "area": (height * width / (size[0] * size[1]) - 0.1) / 0.2,
        "aspect": (np.log(width / height) / np.log(aspect) + 1) / 2,
        "top": (top + 0.5) / (size[0] - height + 1),
        "left": (left + 0.5) / (size[1] - width + 1),
    }
    for name, values in measured.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-4, name


def test_random_box_of_the_whole_area_is_the_whole_square() -> None:
    assert random_box(np.array([0.5, 0.5, 0.9, 0.9]), (30, 30), (1.0, 1.0), 1.0) == (0, 0, 30, 30)


# --- purity ---


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_augmented_alike_in_any_batch(channels: int) -> None:
    images, samples = noise(9, channels), np.arange(9) * 7
    together = augment(images, draw_for(samples), FULL)
    for i in range(9):
        alone = augment(images[i : i + 1], draw_for(samples[i : i + 1]), FULL)
        assert torch.equal(alone[0], together[i])
    order = np.array([4, 0, 8, 2, 6, 1, 7, 3, 5])
    shuffled = augment(images[torch.from_numpy(order)], draw_for(samples[order]), FULL)
    assert torch.equal(shuffled, together[torch.from_numpy(order)])
    weights = mixup_weights(draw_for(samples), 0.4)
    assert (mixup_weights(draw_for(samples[order]), 0.4) == weights[order]).all()


RECORDED = {
    "flip": "b4f0bb12cc2c8c40",
    "affine": "db816be8f898a110",
    "warp": "b328c44b59c74ab2",
    "erase": "fa3757bf3e5feebe",
    "all": "3acbffc29d946131",
}
RECORDED_MIXED = ("cd26b93b068af396", "d35ecb1e3a9f53b8")  # weights, and "all" mixed by them
SETTINGS: dict[str, dict[str, Any]] = {
    "flip": {},
    "affine": {"flip": False, "rotate": 20.0, "translate": 0.1, "scale": 0.3, "shear": 15.0},
    "warp": {"flip": False, "warp": 0.05},
    "erase": {"flip": False, "erase": 0.6},
    "all": dict(FULL),
}


def digest(values: Tensor | NDArray[np.float64]) -> str:
    return hashlib.sha256(np.asarray(values).tobytes()).hexdigest()[:16]


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="bits were recorded with the multiply-and-add of these",
)
@pytest.mark.parametrize("name", RECORDED)
def test_results_are_bit_for_bit_those_of_version_0_1(name: str) -> None:
    """A run that is taken up again must go on as it began."""
    images, draw = noise(9), draw_for(9, seed=3, epoch=2)
    result = augment(images, draw, AugmentConfig(**SETTINGS[name]))
    assert digest(result) == RECORDED[name]
    if name == "all":
        weights = mixup_weights(draw, 0.4)
        assert (digest(weights), digest(mix(result, weights))) == RECORDED_MIXED


def test_seed_epoch_and_sample_each_give_another_result() -> None:
    image = noise(1)
    keys = list(itertools.product((0, 1), (0, 1), (0, 1)))
    results = {
        augment(image, draw_for(np.array([sample]), seed, epoch), FULL).numpy().tobytes()
        for seed, epoch, sample in keys
    }
    assert len(results) == len(keys)


def test_the_input_is_left_alone() -> None:
    images = noise(4)
    before = images.clone()
    augment(images, draw_for(4), FULL)
    assert torch.equal(images, before)


def test_random_box_takes_the_shape_that_it_will_become() -> None:
    u = np.array([0.5, 0.5, 0.0, 0.0])
    assert random_box(u, (96, 160), (1.0, 1.0), 1.0, 160 / 96) == (0, 0, 96, 160)
    assert random_box(u, (400, 400), (0.25, 0.25), 1.0, 4.0) == (0, 0, 100, 400)
