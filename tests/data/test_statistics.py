import numpy as np
import pytest
import torch

from tests.data.images import noise
from vitrail.data.statistics import Sums, channel_statistics, sum_image
from vitrail.errors import ConfigError, DataError
from vitrail.train.config import InputConfig

SIZES = [(7, 5), (1, 1), (13, 40), (3, 9)]


def images(kind: str) -> list[torch.Tensor]:
    made = [torch.from_numpy(noise(4, *size, seed=i)) for i, size in enumerate(SIZES)]
    if kind == "uint8":
        return made
    if kind == "turned":
        return [image.mT for image in made]
    return [image / 1.7 for image in made]


def over_all_pixels(given: list[torch.Tensor]) -> np.ndarray:
    return np.concatenate([image.flatten(1).double().numpy() for image in given], axis=1) / 255


@pytest.mark.parametrize("kind", ["uint8", "turned", "float32"])
def test_statistics_are_those_of_all_pixels_at_once(kind: str) -> None:
    given = images(kind)
    got, pixels = channel_statistics(iter(given)), over_all_pixels(given)
    assert got.count == pixels.shape[1] == sum(height * width for height, width in SIZES)
    np.testing.assert_allclose(got.mean, pixels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(got.std, pixels.std(axis=1), rtol=1e-9)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_parts_join_to_the_same_bits_in_any_order(kind: str) -> None:
    given = images(kind)
    whole = channel_statistics(given)
    assert channel_statistics(reversed(given)) == whole
    first, second = (sum_image(given[i]) + sum_image(given[i + 1]) for i in (0, 2))
    assert (second + first).statistics() == whole


def test_small_deviations_do_not_cancel() -> None:
    image = torch.full((1, 100, 31), 255, dtype=torch.uint8)
    image[0, 3, 5] = 254
    got = channel_statistics([image] * 50)
    pixels = over_all_pixels([image])
    np.testing.assert_allclose(got.std, pixels.std(axis=1), rtol=1e-9)
    flat = channel_statistics([torch.full((2, 3, 4), 77 / 3)] * 3)
    assert max(flat.std) < 1e-7


def test_sums_stay_exact_beyond_float64() -> None:
    part = Sums(1, (3,), (9,))
    assert (Sums(1, (2**70,), (2**80,)) + part).levels == (2**70 + 3,)


def test_no_images_and_other_channels_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        channel_statistics([])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        channel_statistics([torch.zeros(1, 2, 3), torch.zeros(3, 2, 3)])


def test_a_run_takes_the_statistics_of_its_images() -> None:
    config = InputConfig(channels=4, depth=16, normalise="data")
    with pytest.raises(ConfigError, match="mean and std have not been measured yet"):
        config.preprocess((8, 6))
    measured = channel_statistics(images("float32"))
    filled = config.with_statistics(measured.mean, measured.std)
    assert (
        filled.normalise == "given"
        and filled.replace(normalise="data", mean=0.5, std=0.5) == config
    )
    contract = filled.preprocess((8, 6))
    assert (contract.channels, contract.depth) == (4, 16)
    assert (contract.mean, contract.std) == (measured.mean, measured.std)
    with pytest.raises(ConfigError, match=r"channel 1, 3 \(from 0\) has the same value"):
        config.with_statistics((0.1, 0.2, 0.3, 0.4), (0.1, 0.0, 0.2, 1e-9))


def test_settings_of_the_input_are_one_value_or_one_a_channel() -> None:
    assert InputConfig(mean=0.4).preprocess((8, 6)).mean == (0.4,) * 3
    assert InputConfig(channels=2, mean=(0.1, 0.2)).preprocess((8, 6)).mean == (0.1, 0.2)
    for wrong in ({"mean": (0.1, 0.2)}, {"std": (0.1,)}, {"std": 0.0}, {"std": (0.1, 0.2, -1.0)}):
        with pytest.raises(ValueError, match=r"must have channels=3 values, or 1|must be above 0"):
            InputConfig(**wrong)
