import json
from pathlib import Path

import pytest

from tests.cli.helpers import Captured, refused
from tests.train.faults import Fault, faulty, spike
from tests.train.guarded import begin, guarded_config
from vitrail.cli import main


@pytest.fixture(scope="module")
def bundles(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A step whose loss was not a number, and a spike."""
    walk = begin(tmp_path_factory.mktemp("runs") / "run", guarded_config(photos))
    with faulty(Fault("module", (6,)), spike(10)):
        return [walk.run.path / event.bundles[0] for event in walk.go(until=12)]


def test_a_step_is_taken_again(bundles: list[Path], capsys: Captured) -> None:
    with faulty(Fault("module", (6,))):
        assert main(["replay", str(bundles[0])]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "step 6: the loss is nan (blocks.1.mlp.fc1 (forward)): step 6 left out"
    assert lines[1] == "reproduced, to the bit: loss nan (nan then), gradient nan (nan then)"
    assert lines[2] == "first not finite: blocks.1.mlp.fc1 (forward)"
    rows = [line.split() for line in lines if line.startswith("│")]
    assert [row[1] for row in rows] == [
        *("patch_embed", "blocks.0", "blocks.1.mlp.fc1", "blocks.1", "norm", "fc_norm", "head"),
    ]
    assert rows[1][3] != "nan" and rows[2][3] == "nan"
    assert lines[-1].startswith("what to do: ")
    assert said.err == ""


def test_what_is_not_reproduced_is_said(bundles: list[Path], capsys: Captured) -> None:
    assert main(["replay", str(bundles[0]), "--precision", "bf16", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].startswith("not reproduced: loss ")
    assert said.err == "note: precision float32 then, bf16 now\n"


def test_json(bundles: list[Path], capsys: Captured) -> None:
    assert main(["replay", str(bundles[1]), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reproduced"] is False and values["event"]["kind"] == "spike"
    assert values["expected_loss"] == pytest.approx(10 * values["loss"], rel=1e-6)
    with faulty(spike(10)):
        assert main(["replay", str(bundles[1]), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["reproduced"] is True and values["to_the_bit"] is True


def test_what_is_refused(bundles: list[Path], tmp_path: Path, capsys: Captured) -> None:
    assert "is missing" in refused(capsys, "replay")
    assert "not a step to take again" in refused(capsys, "replay", tmp_path)
    assert "device='tpu'" in refused(capsys, "replay", bundles[0], "--device", "tpu")
    assert "precision" in refused(capsys, "replay", bundles[0], "--precision", "fp8")
