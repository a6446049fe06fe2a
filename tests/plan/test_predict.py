import math

import pytest

from tests.plan.helpers import (
    BASE,
    EACH,
    IMAGE,
    MIB,
    OVERHEAD,
    READ,
    TIME,
    forecast,
    measured,
    round_of,
    settings,
)
from vitrail.plan.measured import Cache
from vitrail.plan.predict import AGAIN, Forecast

STAGED = 50 * MIB  # the copy of a checkpoint


@pytest.mark.parametrize(("batch", "parts"), [(32, 1), (64, 1), (1, 1), (32, 4), (96, 8)])
def test_memory_is_a_line_over_images_and_parts(batch: int, parts: int) -> None:
    expected = BASE + EACH * batch / parts + IMAGE * batch + STAGED
    assert forecast().peak(batch, parts) == pytest.approx(expected)


def test_the_own_round_counts_though_it_is_off_the_line() -> None:
    own = round_of(32, 2, peak=900 * MIB, compute=0.5, wait=0.1)
    found = forecast(settings(32, 2), round_of(4), round_of(8), own)
    assert found.peak(32, 2) == 900 * MIB + STAGED
    assert found.peak(48, 2) == pytest.approx(900 * MIB + STAGED + 8 * EACH + 16 * IMAGE)
    assert found.step(32, 0) == pytest.approx(0.6)


@pytest.mark.parametrize("parts", [1, 8])
def test_a_batch_that_was_not_tried_follows_from_two_smaller_ones(parts: int) -> None:
    found = forecast(settings(512, parts), round_of(8), round_of(16))
    assert found.own is None
    size = BASE + EACH * 512 / parts + IMAGE * 512 + STAGED
    assert found.peak(512, parts) == pytest.approx(size)
    assert found.step(512, 0) == pytest.approx(OVERHEAD + (TIME + READ) * 512)
    assert found.wait() == pytest.approx(READ * 512)


def test_an_image_takes_at_least_what_is_saved_for_it() -> None:
    flat = [round_of(batch, peak=BASE) for batch in (4, 8)]  # memory that others had left
    found = forecast(settings(64), *flat)
    assert found.activations == 8 * MIB
    assert found.peak(64, 1) == BASE + 56 * 8 * MIB + 56 * IMAGE + STAGED
    assert forecast(settings(4), flat[0]).activations == 8 * MIB  # one round tells no slope


def test_what_recomputing_saves_is_what_is_counted() -> None:
    found = forecast()
    assert found.peak(32, 1) - found.peak(32, 1, "recompute") == 32 * 6 * MIB
    assert found.compute(32, "recompute") == pytest.approx(OVERHEAD + AGAIN * TIME * 32)
    assert found.peak(32, 1) - found.peak(32, 1, "bf16") == 32 * 4 * MIB - 3 * MIB
    again = forecast(settings(recompute=True))
    assert again.peak(32, 1, "plain") - again.peak(32, 1) == 32 * 6 * MIB
    assert again.compute(32, "plain") == pytest.approx(OVERHEAD + TIME * 32 / AGAIN)


def test_the_start_may_take_more_than_a_step() -> None:
    assert forecast(start_peak=900 * MIB).peak(8, 1) == 900 * MIB + STAGED


def test_a_copy_of_the_last_step_alone_may_take_its_room() -> None:
    assert forecast().peak(32, 1) - forecast(checkpoints=2).peak(32, 1) == 30 * MIB


CACHE = Cache("ram", 90 * MIB, 90 * MIB, 90 * MIB, 30 * MIB, 7.0, 7.0)


def test_the_cache_that_is_not_seen_yet_is_added() -> None:
    found = forecast(cache=CACHE, workers_bytes=20 * MIB)
    assert found.peak(32, 1) - forecast().peak(32, 1) == 60 * MIB
    assert found.needed(32, 1) == found.peak(32, 1) + 20 * MIB
    outside = forecast(cache=CACHE._replace(inside=0, seen=0))  # only workers look at it
    assert outside.needed(32, 1) - outside.peak(32, 1) == 90 * MIB
    disk = forecast(cache=CACHE._replace(kind="disk", kept=0))  # its pages can be given back
    assert disk.peak(32, 1) - disk.needed(32, 1) == 90 * MIB


@pytest.mark.parametrize(("normalise", "expected"), [("given", 5 + 3), ("data", 5 + 3 + 7)])
def test_images_are_decoded_before_the_first_step(normalise: str, expected: float) -> None:
    config = settings()
    config = config.replace(input=config.input.replace(normalise=normalise))
    assert forecast(config, cache=CACHE._replace(filling=3.0, decoding=7.0)).start == expected


def test_a_gpu_holds_no_copy_and_no_cache() -> None:
    found = forecast(device="cuda:0", cache=CACHE, workers_bytes=20 * MIB)
    size = BASE + 32 * EACH + 32 * IMAGE
    assert (found.peak(32, 1), found.needed(32, 1)) == (size, size)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_largest_batch_is_the_last_that_fits(parts: int) -> None:
    found = forecast()
    largest = found.largest_batch(parts)
    assert largest is not None and largest % parts == 0
    assert found.needed(largest, parts) <= 0.9 * 4096 * MIB < found.needed(largest + parts, parts)


def test_the_largest_batch_has_its_ends() -> None:
    assert forecast(free=None).largest_batch(1) is None
    assert forecast(free=2**50).largest_batch(1) == 1000  # all images
    assert forecast(free=100 * MIB).largest_batch(1) == 0
    sampling = settings().data.sampling.replace(repeats=3)
    config = settings(30)
    config = config.replace(data=config.data.replace(sampling=sampling))
    largest = forecast(config, round_of(3), round_of(30)).largest_batch(2)
    assert largest is not None and largest > 0 and largest % 6 == 0


def test_workers_read_while_it_computes() -> None:
    own = round_of(32, compute=0.34, wait=0.3)  # reading takes as long as computing
    rounds = [round_of(each, wait=0.01 * each) for each in (4, 8)]
    found = forecast(settings(32, workers=1), *rounds, own)
    assert found.decode == pytest.approx(0.01)
    assert found.step(32, 1) == pytest.approx(0.64)  # as measured
    assert found.step(32, 0) == pytest.approx(0.34 + 0.32)
    assert found.step(32, 2) == pytest.approx(0.34)  # computing is what is left
    assert found.best_workers(32) == 2


def test_workers_cannot_do_more_than_the_cores() -> None:
    rounds = [round_of(each, wait=0.01 * each) for each in (4, 8, 32)]
    found = forecast(settings(), *rounds, cores=2, busy=2.0)
    work = 2 * (OVERHEAD + 32 * TIME) + 0.32
    assert found.step(32, 2) == pytest.approx(work / 2)
    slow = [round_of(each, wait=0.1 * each) for each in (4, 8, 32)]
    assert forecast(settings(), *slow, cores=64).step(32, 2) == pytest.approx(1.6)  # 3.2 s by two


def test_of_equally_fast_numbers_of_workers_the_fewest_is_best() -> None:
    quick = [round_of(each, wait=0.0) for each in (4, 8, 32)]
    assert forecast(settings(), *quick).best_workers(32) == 0


def test_time_of_one_round_is_proportional_to_the_batch() -> None:
    found = forecast(settings(8), round_of(8, compute=0.4, wait=0.0))
    assert found.overhead == 0
    assert found.step(16, 0) == pytest.approx(0.8)


def test_noise_makes_no_negative_time() -> None:
    falling = [round_of(4, compute=0.3), round_of(8, compute=0.1)]
    found = forecast(settings(8), *falling)
    assert 0 <= found.overhead <= 0.1
    assert found.compute(64) >= found.compute(8)


def test_a_machine_that_does_not_say_has_room_without_end() -> None:
    assert math.isinf(Forecast(measured(free=None), settings()).room)
