import pytest

from vitrail.plan.rounds import summarise


def test_times_are_medians() -> None:
    steps = [(0.1, 1.0), (0.2, 2.0), (9.0, 90.0)]  # the machine was busy once
    assert summarise(steps, 1) == (0.2, 2.0)


def test_a_burst_of_workers_counts_as_a_whole() -> None:
    burst = [(0.9, 1.0), (0.0, 1.0), (0.0, 1.0)]  # three batches at a time
    assert summarise(burst * 3, 3) == (pytest.approx(0.3), 1.0)
