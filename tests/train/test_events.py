import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.train.helpers import disk_is_full
from vitrail.errors import DivergedError, RunError, StorageError
from vitrail.train.events import Event, Events, read_events
from vitrail.train.guard import Trouble
from vitrail.train.learning import GuardConfig

CONFIG = GuardConfig(skip=4, slow_down=0.5, limit=3, forgive=100)


def spike(step: int) -> Trouble:
    return Trouble("spike", step, 23.5, 4.0, 7.25)


def nan(step: int) -> Trouble:
    return Trouble("loss", step, math.nan, math.inf, None)


def decided(events: Events, trouble: Trouble, newest: int | None = None, **more: Any) -> Event:
    """Decide about a step and write it down."""
    event = events.decide(trouble, 1.25, newest, **more)
    events.record(event, None)
    return event


def taken(events: Events, steps: int) -> list[int]:
    return [step for step in range(steps) if not events.skips(step)]


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    event = decided(events, nan(5), newest=4)
    assert (event.action, event.back_to, event.skip) == ("left out", 6, (5, 5))
    assert taken(events, 8) == [0, 1, 2, 3, 4, 6, 7]
    assert [events.lr_scale(step) for step in (0, 6, 99)] == [1, 1, 1]


@pytest.mark.parametrize(("newest", "first"), [(10, 21), (23, 23), (25, 25)])
def test_a_spike_goes_back_to_the_checkpoint(newest: int, first: int, tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    event = decided(events, spike(25), newest)
    assert (event.action, event.back_to, event.skip) == ("went back", newest, (first, 25))
    assert taken(events, 30) == [*range(first), 26, 27, 28, 29]


def test_a_spike_without_a_checkpoint_is_left_out(tmp_path: Path) -> None:
    event = decided(Events(tmp_path, CONFIG), spike(25))
    assert (event.action, event.back_to, event.skip) == ("left out", 26, (25, 25))


def test_broken_weights_go_back_and_leave_out_nothing(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    event = decided(events, nan(5), 4, broken=True)
    assert (event.action, event.back_to) == ("went back", 4)
    assert taken(events, 8) == list(range(8))
    assert "back to step 4, nothing left out" in event.line()
    with pytest.raises(DivergedError, match="there is no checkpoint"):
        decided(Events(tmp_path / "other", CONFIG, leads=False), nan(5), None, broken=True)


def test_repeats_lower_the_learning_rate_and_stop_in_the_end(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    assert decided(events, spike(40), 36).lr_scale == 1
    assert decided(events, nan(38), 36).lr_scale == 0.5  # on the way that is taken again
    assert events.in_a_row(41) == 2
    assert [events.lr_scale(step) for step in (36, 38, 39, 50)] == [1, 1, 0.5, 0.5]
    event = replace(
        events.decide(spike(60), 2.5, 48),
        module="blocks.3.mlp.fc1 (forward)",
        samples=("a.png", "b\n.png", "c.png", "d.png"),
        bundles=("replays/step-00000060",),
    )
    assert (event.action, event.back_to, event.skip) == ("stopped", 48, (56, 60))
    with pytest.raises(DivergedError) as caught:
        events.record(event, tmp_path / "checkpoints" / "step-00000048")
    said = str(caught.value)
    assert said.startswith(
        "step 60: the loss is 23.5, and a spike above 7.25 (blocks.3.mlp.fc1 (forward)) with the "
        "images a.png, b\\n.png, c.png and 1 more; event 3 in a row, after step 40, 38; the last "
        f"good checkpoint is {tmp_path}/checkpoints/step-00000048; "
    )
    assert f"vitrail replay {tmp_path}/replays/step-00000060;" in said
    assert said.endswith(f"vitrail train --resume {tmp_path}") and said.isprintable()
    assert [events.lr_scale(step) for step in (47, 48)] == [0.5, 0.25]  # when it goes on


def test_events_far_from_each_other_are_not_in_a_row(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    for step in (10, 111, 212, 313):
        assert events.in_a_row(step) == 0
        assert decided(events, nan(step)).lr_scale == 1
    assert events.in_a_row(413) == 1
    decided(events, nan(320))
    assert events.in_a_row(420) == 2 and events.in_a_row(421) == 0


def test_two_events_at_one_step_count_on(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    decided(events, nan(7), 4, broken=True)
    decided(events, nan(7), 4)
    with pytest.raises(DivergedError, match="event 3 in a row, after step 7, 7"):
        decided(events, nan(7), 4)


def test_the_record_is_read_back(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    event = replace(
        decided(events, spike(9), 8), samples=("ä\udcff.png",), module="head", note="why"
    )
    events.record(event, None)
    decided(events, nan(200))
    again = Events(tmp_path, CONFIG)
    assert again.all[:2] == events.all[:2] and again.all[1].samples == ("ä\udcff.png",)
    last = again.all[2]
    assert math.isnan(last.loss) and last.norm == math.inf and last.threshold is None
    assert taken(again, 300) == taken(events, 300)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [23.5, 23.5, "nan"]


def test_a_cut_line_is_passed_over_and_replaced(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    decided(events, nan(3))
    path = tmp_path / "events.jsonl"
    whole = path.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        again = Events(tmp_path, CONFIG)
        assert [event.step for event in again.all] == [3]
        decided(again, nan(200))
        assert [event.step for event in read_events(path)] == [3, 200]


@pytest.mark.parametrize("line", [b"{}", b"garbage", b"[]", b"3", b'{"skip": 3}'])
def test_a_damaged_record_is_refused(line: bytes, tmp_path: Path) -> None:
    decided(Events(tmp_path, CONFIG), nan(3))
    path = tmp_path / "events.jsonl"
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.raises(RunError, match=r"events\.jsonl: damaged .* remove the faulty line"):
        Events(tmp_path, CONFIG)


def test_only_the_leader_writes(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG, leads=False)
    decided(events, nan(3))
    assert events.skips(3) and list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events(tmp_path, CONFIG)
    monkeypatch.setattr(os, "fsync", disk_is_full)
    with pytest.raises(StorageError, match=r"events\.jsonl: no space left"):
        decided(events, nan(3))


def test_names_of_bundles(tmp_path: Path) -> None:
    events = Events(tmp_path, CONFIG)
    first = events.decide(nan(7), 0.0, None)
    assert events.bundle_names(first, [0], 1) == {0: "replays/step-00000007"}
    assert events.bundle_names(first, [1, 3], 4) == {
        1: "replays/step-00000007-rank-1",
        3: "replays/step-00000007-rank-3",
    }
    events.record(replace(first, bundles=("replays/step-00000007",)), None)
    assert events.bundle_names(first, [0], 1) == {0: "replays/step-00000007-2"}
    for step in (200, 400):
        events.record(replace(events.decide(nan(step), 0.0, None), bundles=("x",)), None)
    assert events.bundle_names(events.decide(nan(600), 0.0, None), [0], 1) == {}
