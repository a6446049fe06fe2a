import pytest

from vitrail.train.heartbeat import PLACES, Pulse, find_stalled

NOW, TIMEOUT = 100.0, 8.0
Entry = tuple[list[int], float, float]


def entry(step: int, place: str, *, beaten: float = 0.5, moved: float = 20.0) -> Entry:
    """A rank as it is seen: where it is, and how many seconds ago it beat and moved."""
    return [7, step, PLACES.index(place), 3, 4242], NOW - beaten, NOW - moved


@pytest.mark.parametrize(
    ("ranks", "stalled"),
    [
        ([entry(6, "preparing"), entry(6, "forward")], [0]),
        ([entry(6, "backward"), entry(6, "forward")], [1]),
        ([entry(5, "update"), entry(6, "reading images")], [0]),
        ([entry(6, "measuring"), entry(6, "preparing")], [0]),  # after step 5, before step 6
        ([entry(5, "update"), entry(6, "measuring"), entry(6, "measuring")], [0]),
        ([entry(6, "backward"), entry(6, "backward")], [0, 1]),
        ([entry(6, "forward"), entry(6, "backward", beaten=9.0)], [1]),  # stopped or dead
        ([entry(6, "preparing"), entry(6, "forward", moved=7.0)], []),  # somebody has moved
        ([entry(0, "start"), entry(0, "measuring")], []),  # data may take long
        ([entry(6, "saving"), entry(6, "preparing")], []),  # and so may a disk
        ([entry(0, "start", beaten=9.0), entry(0, "start")], [0]),
        ([], []),
    ],
)
def test_who_stands_still(ranks: list[Entry], stalled: list[int]) -> None:
    assert find_stalled(dict(enumerate(ranks)), NOW, TIMEOUT) == stalled


def test_a_pulse_says_where_it_is() -> None:
    pulse = Pulse()
    assert PLACES[pulse.at[1]] == "start"
    pulse.mark(3, "forward")
    before = pulse.at
    pulse.mark(3, "forward")
    assert pulse.at[:2] == before[:2] == (3, PLACES.index("forward")) and pulse.at != before
    with pytest.raises(ValueError, match=r"not in tuple"):
        pulse.mark(3, "nowhere")
