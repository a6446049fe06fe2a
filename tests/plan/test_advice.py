import pytest

from tests.plan.helpers import MIB, forecast, round_of, settings
from vitrail.plan.advice import advise, fewest_parts, find_bound, seconds
from vitrail.plan.measured import Cache
from vitrail.plan.predict import Forecast
from vitrail.train.fitting import Activations

READING = [round_of(each, wait=0.02 * each) for each in (4, 8, 32)]


def only(lines: tuple[str, ...], begin: str) -> str:
    """Find the one line that begins so."""
    (line,) = [each for each in lines if each.startswith(begin)]
    return line


def too_large(**changes: int) -> Forecast:
    """A batch of 256 needs 3,266 MiB and its copy 50; half of it would fit."""
    return forecast(settings(256), free=2000 * MIB, **changes)


@pytest.mark.parametrize(
    ("found", "bound"),
    [
        (forecast(), "compute"),
        (forecast(settings(), *READING), "data"),
        (too_large(), "memory"),
        (forecast(settings(256), free=None), "compute"),
        (forecast(settings(32, workers=2), *READING[:2], round_of(32, wait=0.05)), "compute"),
        (forecast(settings(32, workers=2), *READING[:2], round_of(32, wait=0.5)), "data"),
    ],
)
def test_what_binds(found: Forecast, bound: str) -> None:
    assert find_bound(found) == bound


def test_too_large_a_batch_is_told_what_fits() -> None:
    found = too_large()
    lines = advise(found)
    assert fewest_parts(found) == 4  # in 2 parts it needs 1,986 MiB: above nine tenths of 2,000
    assert "4 parts needs about 1.3 GiB instead of 3.2 GiB" in only(lines, "train.accumulate=4: ")
    again = only(lines, "recompute=True: ")
    assert (
        "1.7 GiB instead of 3.2 GiB, and fits; a step takes about 3.43 s instead of 2.58 s" in again
    )
    largest = found.largest_batch(1)
    assert largest == 122  # (1,800 - 450) / 11
    assert only(lines, "train.batch_size=122: ")


def test_what_does_not_suffice_alone_is_said() -> None:
    found = forecast(settings(256), free=1000 * MIB)
    assert "does not suffice alone" in only(advise(found), "recompute=True: ")


def test_recomputing_is_no_advice_where_it_is_impossible() -> None:
    each = {"plain": Activations(0, 8 * MIB), "bf16": Activations(0, 4 * MIB)}
    lines = advise(forecast(settings(256), free=2000 * MIB, each=each))
    assert lines and not [line for line in lines if "recompute" in line]


def test_half_precision_is_named_where_the_hardware_has_it() -> None:
    assert only(advise(too_large(native_bf16=True)), "precision=bf16: needs about 2.2 GiB")
    assert not [each for each in advise(too_large()) if "bf16" in each]
    assert only(advise(forecast(native_bf16=True)), "precision=bf16: ")
    assert not [
        each for each in advise(forecast(native_bf16=True, precision="bf16")) if "bf16" in each
    ]


def test_where_nothing_helps_a_smaller_model_does() -> None:
    lines = advise(forecast(settings(32), free=300 * MIB))
    assert lines[-1].startswith("model.name: ")
    assert not [each for each in lines if each.startswith(("train.accumulate", "train.batch_size"))]


def test_waiting_for_images_asks_for_workers_and_a_cache() -> None:
    cache = Cache("none", 100 * MIB, 0, 0, 0, 0.0, 7.0)
    lines = advise(forecast(settings(), *READING, cache=cache))
    assert "data.workers=2: a step takes about 340 ms instead of 980 ms" in lines
    assert "takes 100 MiB" in only(lines, "data.cache=ram: decodes every image once, for 7 s")
    large = advise(forecast(settings(), *READING, cache=cache._replace(total=9000 * MIB)))
    assert only(large, "data.cache=disk: ")
    kept = advise(forecast(settings(), *READING, cache=cache._replace(kind="ram")))
    assert not [each for each in kept if each.startswith("data.cache")]


def test_workers_that_gain_nothing_are_said_too() -> None:
    own = round_of(32, wait=0.25)  # the cores are busy
    found = forecast(settings(32, workers=1), *READING[:2], own, cores=2, busy=2.0)
    assert "data.workers: more than 1 gain little on 2 cores" in advise(found)


def test_idle_cores_are_named() -> None:
    assert "OMP_NUM_THREADS=4: 1 of 4 cores compute" in advise(forecast(threads=1))
    busy = advise(forecast(settings(32, workers=3), threads=1))
    assert not [each for each in busy if each.startswith("OMP")]


def test_recomputing_without_need_is_named() -> None:
    line = only(advise(forecast(settings(recompute=True))), "recompute=False: ")
    assert "a step takes about 260 ms instead of 356 ms" in line
    tight = forecast(settings(recompute=True), free=1000 * MIB)  # 802 as it is, 994 without
    assert not [each for each in advise(tight) if each.startswith("recompute")]


def test_a_step_that_is_mostly_overhead_asks_for_a_larger_batch() -> None:
    rounds = [round_of(each, compute=0.5 + 0.01 * each, wait=0.0) for each in (4, 8, 32)]
    line = only(advise(forecast(settings(), *rounds)), "train.batch_size=64: ")
    assert "about 56 images a second instead of 39, as 500 ms of a step" in line
    assert not [each for each in advise(forecast()) if each.startswith("train.batch_size")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00123, "1.23 ms"),
        (0.25, "250 ms"),
        (0.9996, "1 s"),
        (59.96, "60 s"),
        (200.0, "3 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_times_in_words(value: float, text: str) -> None:
    assert seconds(value) == text
