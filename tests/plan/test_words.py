from tests.plan.helpers import MIB, measured, round_of, settings
from vitrail.plan.make import draw_up
from vitrail.plan.measured import Cache, Measured
from vitrail.plan.words import describe
from vitrail.train.config import RunConfig


def said(found: Measured, config: RunConfig) -> str:
    lines = describe(draw_up(found, config, None, 1000 * MIB))
    assert all(line.isprintable() for line in lines)
    return "\n".join(lines)


def test_everything_that_was_asked_is_said() -> None:
    text = said(measured(), settings())
    for part in (
        "1,000 images of 3 classes on cpu in float32",
        "802 MiB at most in the training process; 4.0 GiB are free",
        "356 ms for 32 images: 16 ms of waiting for images, 340 ms of computing; "
        "89.9 images and 269.7 G operations a second",
        "2 min: 320 steps, after 5 s of",
        "1 s a pass, 2 times",
        "50 MiB, 4 times: 250 ms of waiting, then 1 s",
        "210 MiB of 1000 MiB that are free",
        "train.batch_size=294 fits",
        "limit       compute: images are there in time",
        "recipe photos",
    ):
        assert part in text, text


def test_memory_beside_the_training_process_is_said() -> None:
    cache = Cache("ram", 30 * MIB, 30 * MIB, 0, 0, 1.0, 1.0)
    text = said(measured(cache=cache, workers_bytes=20 * MIB), settings())
    assert "802 MiB at most in the training process, 852 MiB with workers and cache" in text


def test_what_was_reckoned_is_not_called_measured() -> None:
    text = said(measured(round_of(4), round_of(8)), settings(64))
    assert "for 64 images, reckoned from smaller batches" in text


def test_the_ends_of_the_largest_batch() -> None:
    assert "not even one image at a time fits" in said(measured(free=100 * MIB), settings())
    assert "all images at once" in said(measured(free=2**45), settings())
    assert "largest" not in said(measured(free=None), settings())
