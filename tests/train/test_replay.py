import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.faults import Fault, faulty, spike
from tests.train.guarded import begin, guarded_config
from vitrail.errors import ConfigError
from vitrail.train import blame
from vitrail.train import replay as replaying
from vitrail.train.replay import Replay, advise, replay


def kept(tmp_path: Path, photos: Path, *faults: Fault, until: int = 8, **changes: Any) -> Path:
    """Train with faults; give the bundle of the first event."""
    walk = begin(tmp_path / "run", guarded_config(photos, **changes))
    with faulty(*faults):
        event = next(walk.go(until))
    return walk.run.path / event.bundles[0]


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["loss", "images", "module"])
def test_what_was_not_finite_is_reproduced(
    kind: Any, precision: str, photos: Path, tmp_path: Path
) -> None:
    fault = Fault(kind, (6,))
    bundle = kept(tmp_path, photos, fault, precision=precision)
    with faulty(fault):
        found = replay(bundle)
    assert found.reproduced and found.to_the_bit
    assert found.first and found.first == found.event.module
    assert math.isnan(found.loss) and math.isnan(found.expected_loss)
    assert found.differences == [] and found.precision == precision


@pytest.mark.parametrize("changes", [{}, {"train__accumulate": 2, "model__pool": "mean"}])
def test_a_spike_is_reproduced_to_the_bit(
    changes: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    bundle = kept(tmp_path, photos, spike(10), until=12, **changes)
    with faulty(spike(10)):
        found = replay(bundle)
    assert found.reproduced and found.to_the_bit and found.first == ""
    assert found.loss == found.event.loss and found.norm == found.event.norm
    assert "look at the images" in advise(found)


def test_what_does_not_come_again_is_not_reproduced(photos: Path, tmp_path: Path) -> None:
    bundle = kept(tmp_path, photos, Fault("module", (6,), once=True))
    found = replay(bundle)
    assert not found.reproduced and not found.to_the_bit
    assert math.isfinite(found.loss) and found.first == ""
    assert "test that machine's memory" in advise(found)
    spiked = kept(tmp_path / "other", photos, spike(10), until=12)
    assert not replay(spiked).reproduced


def test_another_precision_is_named(photos: Path, tmp_path: Path) -> None:
    fault = Fault("module", (6,), math.inf)
    bundle = kept(tmp_path, photos, fault)
    with faulty(fault):
        found = replay(bundle, "cpu", "bf16")
    assert found.reproduced and found.precision == "bf16"
    assert found.differences == ["precision float32 then, bf16 now"]


def test_the_threads_of_then_are_used(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = kept(tmp_path, photos, Fault("loss", (6,)))
    path, before = bundle / "event.json", torch.get_num_threads()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threads": before + 1}))
    used: list[int] = []

    def repeat(*args: Any) -> Any:
        used.append(torch.get_num_threads())
        return blame.repeat(*args)

    monkeypatch.setattr(replaying, "repeat", repeat)
    replay(bundle)
    assert used == [before + 1] and torch.get_num_threads() == before


def test_the_answer_is_json(photos: Path, tmp_path: Path) -> None:
    fault = Fault("module", (6,))
    bundle = kept(tmp_path, photos, fault)
    with faulty(fault):
        values = json.loads(json.dumps(replay(bundle).to_json(), allow_nan=False))
    assert (values["reproduced"], values["to_the_bit"], values["loss"]) == (True, True, "nan")
    assert values["first"] == "blocks.1.mlp.fc1 (forward)"
    assert values["event"]["step"] == 6
    assert values["layers"]["blocks.0"]["largest"] > 0
    assert values["layers"]["blocks.1"]["largest"] == "nan"


def test_a_device_that_is_not_here(photos: Path, tmp_path: Path) -> None:
    bundle = kept(tmp_path, photos, Fault("loss", (6,)))
    path = bundle / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda:7"}))
    assert replay(bundle).device == "cpu"
    with pytest.raises(ConfigError, match="cuda:7"):
        replay(bundle, "cuda:7")


@pytest.mark.parametrize(
    ("first", "precision", "advice"),
    [
        ("head.weight (weights)", "float32", "go on from a checkpoint"),
        ("the images", "float32", "mend the images or leave them out (a.png, …)"),
        ("blocks.0 (forward)", "fp16", "with --precision bf16 or float32"),
        ("blocks.0 (forward)", "float32", "lower train.lr"),
    ],
)
def test_advice(first: str, precision: str, advice: str, photos: Path, tmp_path: Path) -> None:
    found = replay(kept(tmp_path, photos, Fault("loss", (6,))))
    event = replace(found.event, samples=("a.png",))
    changed: Replay = replace(found, first=first, precision=precision, event=event)
    assert advice in advise(changed)
