import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.faults import Fault, Kind, faulty, spike
from tests.train.guarded import Walk, begin, guarded_config
from tests.train.helpers import disk_is_full
from vitrail.errors import DivergedError
from vitrail.train import incident
from vitrail.train.bundle import read_bundle
from vitrail.train.events import Event
from vitrail.train.incident import Report, find_guilty

STEPS = 15


def finish(walk: Walk, *faults: Fault, **how: Any) -> list[Event]:
    """Take the steps that are left, with faults."""
    with faulty(*faults):
        return list(walk.go(**how))


def start(path: Path, photos: Path, **changes: Any) -> Walk:
    return begin(path, guarded_config(photos, **changes))


@pytest.mark.parametrize(
    ("kind", "value"),
    [("loss", math.nan), ("gradient", math.inf), ("images", math.nan), ("module", math.inf)],
)
def test_a_bad_step_changes_nothing(  # R7
    kind: Kind, value: float, photos: Path, tmp_path: Path
) -> None:
    walk = start(tmp_path / "run", photos)
    assert finish(walk, until=6) == []
    walk = start(tmp_path / "run", photos)  # from the checkpoint of step 4
    seen: list[str] = []
    real = walk.take

    def take(step: int) -> None:
        before = walk.digest()
        real(step)
        seen.append("same" if walk.digest() == before else "changed")

    walk.take = take  # type: ignore[method-assign]
    (event,) = finish(walk, Fault(kind, (5,), value), until=7)
    assert seen == ["changed", "same", "changed"]  # steps 4, 5, 6
    assert (event.step, event.skip, event.back_to) == (5, (5, 5), 6)
    assert event.kind in ("loss", "gradient") and event.module != ""
    assert len(event.samples) == 8
    assert read_bundle(walk.run.path / event.bundles[0]).event.step == 5


@pytest.mark.parametrize(
    ("fault", "look_every"),  # 1 as on a CPU, 5 as on a GPU
    [(Fault("module", (2, 9)), 5), (spike(10), 1), (spike(9, 13), 5)],
)
def test_a_run_with_events_is_the_one_that_knew_them(
    fault: Fault, look_every: int, photos: Path, tmp_path: Path
) -> None:
    walk = start(tmp_path / "run", photos)
    events = finish(walk, fault, look_every=look_every)
    assert [event.step for event in events] == list(fault.steps)
    foreknown = start(tmp_path / "other", photos)
    (tmp_path / "other" / "events.jsonl").write_bytes(
        (tmp_path / "run" / "events.jsonl").read_bytes()
    )
    foreknown = start(tmp_path / "other", photos)
    assert finish(foreknown) == []
    assert foreknown.digest() == walk.digest()
    taken = [step for step in range(STEPS) if not walk.events.skips(step)]
    assert sorted(foreknown.losses) == taken
    assert [walk.losses[step] for step in taken] == [foreknown.losses[step] for step in taken]


@pytest.mark.parametrize("killed", [2, 11, 14])
def test_a_run_that_is_killed_ends_as_if_it_never_was(
    killed: int, photos: Path, tmp_path: Path
) -> None:
    faults = (Fault("gradient", (2,)), spike(10))
    whole = start(tmp_path / "whole", photos)
    assert len(finish(whole, *faults)) == 2
    finish(start(tmp_path / "run", photos), *faults, until=killed)
    walk = start(tmp_path / "run", photos)
    finish(walk, *faults)
    assert walk.digest() == whole.digest()
    assert list(map(Event.to_json, walk.events.all)) == list(map(Event.to_json, whole.events.all))


def test_a_spike_goes_back_and_repeats_stop_the_run(photos: Path, tmp_path: Path) -> None:  # R8
    spikes = spike(9, 10, 14)
    walk = start(tmp_path / "run", photos)
    with faulty(spikes), pytest.raises(DivergedError) as caught:
        list(walk.go())
    first = list(walk.events.all)
    assert [(e.kind, e.action, e.back_to, e.skip, e.lr_scale) for e in first] == [
        ("spike", "went back", 8, (8, 9), 1.0),
        ("spike", "went back", 8, (8, 10), 0.5),
        ("spike", "stopped", 12, (12, 14), 0.5),
    ]
    newest = tmp_path / "run" / "checkpoints" / "step-00000012"
    assert newest.is_dir() and f"the last good checkpoint is {newest}; " in str(caught.value)
    assert "event 3 in a row, after step 9, 10; " in str(caught.value)
    assert f"vitrail replay {tmp_path}/run/replays/step-00000014; " in str(caught.value)
    again = start(tmp_path / "again", photos)
    with faulty(spikes), pytest.raises(DivergedError):
        list(again.go())
    assert again.events.all == first and again.digest() == walk.digest()
    walk = start(tmp_path / "run", photos)  # going on leaves the third out too
    assert finish(walk, spikes) == [] and walk.losses == {}
    assert walk.events.lr_scale(STEPS) == 0.25


def test_broken_weights_are_taken_back(photos: Path, tmp_path: Path) -> None:
    plain = start(tmp_path / "plain", photos)
    assert finish(plain, until=12) == []
    walk = start(tmp_path / "run", photos)
    (event,) = finish(walk, Fault("weights", (6,), once=True), until=12)
    assert (event.action, event.back_to) == ("went back", 4) and event.skip[0] > event.skip[1]
    assert event.module == "blocks.1.mlp.fc1.weight (weights)" and event.samples == ()
    assert walk.losses == plain.losses and walk.digest() == plain.digest()


def test_weights_that_break_before_a_checkpoint_end_the_run(photos: Path, tmp_path: Path) -> None:
    walk = start(tmp_path / "run", photos)
    with pytest.raises(DivergedError, match=r"fc1\.weight \(weights\)\).* there is no checkpoint"):
        finish(walk, Fault("weights", (2,), once=True))
    assert walk.newest() is None


def test_a_run_that_diverges_stops_itself(photos: Path, tmp_path: Path) -> None:
    walk = start(tmp_path / "run", photos, train__lr=1e30, train__clip_norm=None)
    with pytest.raises(DivergedError, match=r"^step \d: the (loss|length of the gradient) is"):
        finish(walk)


def test_overflows_of_fp16_are_no_events(photos: Path, tmp_path: Path) -> None:
    walk = start(tmp_path / "run", photos, precision="fp16")
    walk.state.scaler.scale.fill_(2.0**30)  # far too large
    before = walk.digest()
    walk.take(0)
    assert walk.state.guard.overflow == 1 and walk.digest() != before  # one overflow is counted
    assert walk.state.guard.look() is None


def test_at_most_so_many_replays_are_kept(photos: Path, tmp_path: Path) -> None:
    walk = start(tmp_path / "run", photos, guard__limit=2, guard__forgive=1)
    events = finish(walk, Fault("loss", (2, 6, 10)), until=12)
    assert [len(event.bundles) for event in events] == [1, 1, 0]
    assert events[2].note == "not kept: there are enough replays of this run"
    assert len(list((walk.run.path / "replays").iterdir())) == 2


def test_a_disk_that_refuses_the_replay_is_no_reason_to_stop(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitrail.train.bundle.write_hashed", disk_is_full)
    walk = start(tmp_path / "run", photos)
    (event,) = finish(walk, Fault("loss", (2,)), until=6)
    assert event.bundles == () and "no space left on the disk" in event.note
    assert "; not kept: " in event.line() and sorted(walk.losses) == [0, 1, 2, 3, 4, 5]


def test_who_is_guilty() -> None:
    def report(first: str = "", loss: float = 1.0, finite: bool = True) -> Report:
        return Report(first, "", loss, 1.0, finite, [])

    assert find_guilty([report(), report("head (forward)", math.nan)]) == [1]
    assert find_guilty([report("a"), report(), report("b")]) == [0, 2]
    assert find_guilty([report("a", math.nan), report("b", finite=False)]) == [1]
    assert find_guilty([report(loss=2.0), report(loss=9.0), report(loss=3.0)]) == [1]
    assert find_guilty([report(loss=math.nan), report(loss=3.0)]) == [1]
    assert find_guilty([report(loss=math.nan)]) == [0]


def test_the_state_of_the_process_does_not_matter(photos: Path, tmp_path: Path) -> None:
    walk = start(tmp_path / "run", photos)
    finish(walk, Fault("loss", (3,)), until=8)
    torch.manual_seed(99)
    other = start(tmp_path / "other", photos)
    torch.rand(5)
    finish(other, Fault("loss", (3,)), until=8)
    assert other.digest() == walk.digest() and incident.NAMED == 256
