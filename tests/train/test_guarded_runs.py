"""R7 and R8: what goes wrong in a step never reaches the weights of a run."""

import json
from pathlib import Path

import pytest
import torch

from tests.train.faults import Fault, faulty, spike
from tests.train.helpers import assert_same_run, curve, tiny_config, weights
from vitrail.cli import main
from vitrail.errors import ConfigError, DivergedError
from vitrail.runs import Run
from vitrail.train.config import ModelConfig, RunConfig
from vitrail.train.events import read_events
from vitrail.train.loop import resume, train
from vitrail.train.scaler import Scaler

SPIKE_AT = 28  # after the guard is warm


def calm(photos: Path) -> RunConfig:
    """Settings of a run that is long enough to know what a spike is."""
    return tiny_config(photos, train__epochs=10.0, save_every_epochs=2.0)


@pytest.mark.parametrize("kind", ["loss", "gradient", "images", "module"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_r7_a_bad_step_is_left_out(kind: str, value: float, photos: Path, tmp_path: Path) -> None:
    with faulty(Fault(kind, (6,), value)) as hit:  # type: ignore[arg-type]
        run = train(tiny_config(photos), tmp_path / "run")
    (event,) = read_events(run.path / "events.jsonl")
    assert 6 in hit and (event.step, event.action, event.skip) == (6, "left out", (6, 6))
    assert len(event.samples) == 8 and (run.path / event.bundles[0]).is_dir()
    assert [line["step"] for line in run.history()] == [*range(1, 7), *range(8, 13)]
    # a run that only leaves the step out, as one that goes on does, takes the same way to the bit
    again = tmp_path / "again"
    again.mkdir()
    (again / "config.json").write_bytes((run.path / "config.json").read_bytes())
    (again / "events.jsonl").write_bytes((run.path / "events.jsonl").read_bytes())
    assert_same_run(resume(again), run)


def test_r7_three_in_a_row_end_the_run_with_what_one_needs(photos: Path, tmp_path: Path) -> None:
    with (
        faulty(Fault("loss", (3, 5, 6))),
        pytest.raises(
            DivergedError, match=r"step 6: .* with the images .*event 3 in a row"
        ) as told,
    ):
        train(tiny_config(photos), tmp_path / "run")
    checkpoint, damaged = Run.open(tmp_path / "run").newest_checkpoint()
    assert checkpoint is not None and damaged == []
    assert f"the last good checkpoint is {checkpoint.folder}" in str(told.value)
    assert [event.lr_scale for event in read_events(tmp_path / "run/events.jsonl")] == [1, 0.5, 0.5]
    run = resume(tmp_path / "run")  # goes on past it
    assert run.history()[-1]["step"] == 12 and len(weights(run)) > 0


def test_r8_a_spike_goes_back_and_leaves_steps_out(photos: Path, tmp_path: Path) -> None:
    with faulty(spike(SPIKE_AT)):
        run = train(calm(photos), tmp_path / "run")
    (event,) = read_events(run.path / "events.jsonl")
    assert (event.kind, event.action, event.step) == ("spike", "went back", SPIKE_AT)
    first, last = event.skip
    assert event.back_to <= first <= last == SPIKE_AT
    steps = [int(line["step"]) for line in run.history()]
    assert steps == sorted(set(steps)) and steps[-1] == 38  # nothing is logged twice
    assert not set(range(first + 1, last + 2)) & set(steps)
    with faulty(spike(SPIKE_AT)):  # the same again
        other = train(calm(photos), tmp_path / "other")
    assert curve(other) == curve(run)


def test_r8_a_kill_after_a_spike_changes_no_bit(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitrail.train import loop

    with faulty(spike(SPIKE_AT)):
        run = train(calm(photos), tmp_path / "run")
    real = loop.set_lr
    taken: list[float] = []

    def crash(optimizer: object, lr: float) -> None:
        taken.append(lr)
        if len(taken) == 31:  # some steps after it went back
            raise ZeroDivisionError
        real(optimizer, lr)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, faulty(spike(SPIKE_AT)):
        patch.setattr(loop, "set_lr", crash)
        with pytest.raises(ZeroDivisionError):
            train(calm(photos), tmp_path / "killed")
    assert len(read_events(tmp_path / "killed/events.jsonl")) == 1
    assert_same_run(resume(tmp_path / "killed"), run)


def test_an_event_is_replayed_from_the_command_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(photos, train__lr=1e30, train__clip_norm=1e30, train__warmup_epochs=0)
    with pytest.raises(DivergedError):
        train(config, tmp_path / "run")
    first = read_events(tmp_path / "run/events.jsonl")[0]
    capsys.readouterr()
    assert main(["replay", str(tmp_path / "run" / first.bundles[0]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["reproduced"] is True
    assert told["event"]["step"] == first.step


def test_an_overflow_of_fp16_is_no_event(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scale begins far too high; steps are refused, logged without a norm, and it halves."""
    real = Scaler.__init__

    def high(self: Scaler, precision: str, device: torch.device) -> None:
        real(self, precision, device)
        self.scale.fill_(2.0**24)

    monkeypatch.setattr(Scaler, "__init__", high)
    run = train(tiny_config(photos, precision="fp16"), tmp_path / "run")
    lines = run.history()
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert "grad_norm" not in lines[0] and "grad_norm" in lines[-1]
    assert read_events(run.path / "events.jsonl") == []


def test_batch_norms_and_recompute_exclude_each_other(photos: Path, tmp_path: Path) -> None:
    config = tiny_config(photos).replace(
        model=ModelConfig(name="resnet18", image_size=(32, 32)), recompute=True
    )
    with pytest.raises(ConfigError, match=r"recompute=True: resnet18 has batch norms"):
        train(config, tmp_path / "run")
