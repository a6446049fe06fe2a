import json
import math
import shutil
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
from vitrail.train.replay import advise, replay


def kept(tmp_path: Path, photos: Path, *faults: Fault, until: int = 6, **changes: Any) -> Path:
    """Train with faults; give the bundle of the first event."""
    walk = begin(tmp_path / "run", guarded_config(photos, **changes))
    with faulty(*faults):
        event = next(walk.go(until))
    return walk.run.path / event.bundles[0]


@pytest.mark.parametrize(
    ("kind", "precision"),
    [("loss", "float32"), ("images", "bf16"), ("module", "fp16"), ("module", "float32")],
)
def test_what_was_not_finite_is_reproduced(
    kind: Any, precision: str, photos: Path, tmp_path: Path
) -> None:
    fault = Fault(kind, (3,))
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
    bundle = kept(tmp_path, photos, spike(5), **changes)
    with faulty(spike(5)):
        found = replay(bundle)
    assert found.reproduced and found.to_the_bit and found.first == ""
    assert found.loss == found.event.loss and found.norm == found.event.norm
    assert "look at the images" in advise(found)


FAULT = Fault("module", (3,))


@pytest.fixture(scope="module")
def bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept(tmp_path_factory.mktemp("kept"), photos, FAULT)


@pytest.fixture
def changed(bundle: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed."""
    return Path(shutil.copytree(bundle, tmp_path / bundle.name))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_does_not_come_again_is_not_reproduced(bundle: Path) -> None:
    found = replay(bundle)
    assert not found.reproduced and not found.to_the_bit
    assert math.isfinite(found.loss) and found.first == ""
    assert "test that machine's memory" in advise(found)


def test_a_spike_that_does_not_come_again(photos: Path, tmp_path: Path) -> None:
    found = replay(kept(tmp_path, photos, spike(5)))
    assert not found.reproduced and "test that machine's memory" in advise(found)
    assert found.expected_loss == pytest.approx(10 * found.loss, rel=1e-6)


def test_another_precision_is_named(bundle: Path) -> None:
    with faulty(FAULT):
        found = replay(bundle, "cpu", "bf16")
    assert found.reproduced and found.precision == "bf16"
    assert found.differences == ["precision float32 then, bf16 now"]


def test_the_threads_of_then_are_used(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    change(changed / "event.json", threads=before + 1)
    used: list[int] = []

    def repeat(*args: Any) -> Any:
        used.append(torch.get_num_threads())
        return blame.repeat(*args)

    monkeypatch.setattr(replaying, "repeat", repeat)
    replay(changed)
    assert used == [before + 1] and torch.get_num_threads() == before


def test_another_machine_is_named(changed: Path) -> None:
    then = {"processor": "abacus", "packages": {"torch": "0.1"}}
    change(changed / "event.json", environment=then, rank=1, ranks=2)
    change(changed / "config.json", compile=True)
    said = replay(changed).differences
    assert said[0].startswith("processor abacus then, ") and said[1].startswith("torch 0.1 then, ")
    assert said[2:] == [
        "the model was compiled then, and is not now",
        "the other ranks are not here; loss and gradient are this rank's own",
    ]


def test_the_answer_is_json(bundle: Path) -> None:
    with faulty(FAULT):
        values = json.loads(json.dumps(replay(bundle).to_json(), allow_nan=False))
    assert (values["reproduced"], values["to_the_bit"], values["loss"]) == (True, True, "nan")
    assert values["first"] == "blocks.1.mlp.fc1 (forward)"
    assert values["event"]["step"] == 3
    assert values["layers"]["blocks.0"]["largest"] > 0
    assert values["layers"]["blocks.1"]["largest"] == "nan"


def test_a_device_that_is_not_here(changed: Path) -> None:
    change(changed / "config.json", device="cuda:7")
    assert replay(changed).device == "cpu"
    with pytest.raises(ConfigError, match="cuda:7"):
        replay(changed, "cuda:7")


@pytest.mark.parametrize(
    ("first", "precision", "advice"),
    [
        ("head.weight (weights)", "float32", "go on from a checkpoint"),
        ("the images", "float32", "mend the images or leave them out (a.png, …)"),
        ("blocks.0 (forward)", "fp16", "with --precision bf16 or float32"),
        ("blocks.0 (forward)", "float32", "lower train.lr"),
    ],
)
def test_advice(first: str, precision: str, advice: str, bundle: Path) -> None:
    found = replay(bundle)
    event = replace(found.event, samples=("a.png",))
    assert advice in advise(replace(found, first=first, precision=precision, event=event))
