import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.helpers import assert_same_run, curve, paint, tiny_config, weights
from vitrail.data.sources import open_data
from vitrail.errors import DivergedError
from vitrail.runs import Run
from vitrail.train.environment import environment
from vitrail.train.loop import describe_data, due, train
from vitrail.train.step import seed_step
from vitrail.train.validate import require_finite

STEPS = 12  # 30 training images, 8 a step, 3 passes
CROPS = {"augment__crop_area": (0.4, 1.0)}


def test_the_same_seed_gives_the_same_bits(photos: Path, unbroken: Run, tmp_path: Path) -> None:
    torch.manual_seed(99)  # nothing of the process may matter
    again = train(tiny_config(photos), tmp_path / "again")
    assert_same_run(unbroken, again)
    assert len(curve(again)) == STEPS


def test_another_seed_gives_another_run(photos: Path, unbroken: Run, tmp_path: Path) -> None:
    other = train(tiny_config(photos, seed=4), tmp_path / "other")
    assert curve(other)[0]["train_loss"] != curve(unbroken)[0]["train_loss"] or (
        curve(other)[3] != curve(unbroken)[3]
    )
    assert not torch.equal(weights(other)["head.weight"], weights(unbroken)["head.weight"])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("crops", [{}, CROPS], ids=["whole", "crops"])
def test_workers_change_no_bit(
    precision: str, crops: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    changes = {"precision": precision, "train__epochs": 1.5, **crops}
    alone = train(tiny_config(photos, **changes), tmp_path / "alone")
    helped = train(tiny_config(photos, data__workers=2, **changes), tmp_path / "helped")
    assert_same_run(alone, helped)


def test_what_a_run_leaves(unbroken: Run, photos: Path) -> None:
    names = {path.name for path in unbroken.path.iterdir()}
    assert {"config.json", "data.json", "environment.json", "finished.json"} < names
    assert {"model.json", "model.safetensors", "metrics.jsonl", "checkpoints"} < names
    assert unbroken.read_json("config.json")["precision"] == "float32"
    assert unbroken.read_json("finished.json")["steps"] == STEPS
    kept = sorted(path.name for path in (unbroken.path / "checkpoints").iterdir())
    assert kept == ["step-00000008", "step-00000012"]
    history = unbroken.history()
    assert [line["step"] for line in history] == list(range(1, STEPS + 1))
    measured = [line["step"] for line in history if "val_loss" in line]
    assert measured == [6, 12]
    assert all(line["val_images"] == 3 for line in history if "val_loss" in line)


def test_without_averaging_the_last_weights_are_saved(photos: Path, tmp_path: Path) -> None:
    run = train(tiny_config(photos, train__ema=0.0), tmp_path / "run")
    checkpoint, _ = run.newest_checkpoint()
    assert checkpoint is not None and set(checkpoint.tensors) == {"model", "optimizer", "guard"}
    final = weights(run)
    assert all(
        torch.equal(final[name], value) for name, value in checkpoint.tensors["model"].items()
    )


def test_the_loss_goes_down_on_digits(tmp_path: Path) -> None:
    config = tiny_config(
        "digits",
        model__image_size=(8, 8),
        model__patch_size=2,
        input__channels=1,
        augment=tiny_config("digits").augment.replace(erase=0, mixup=0),
        train__epochs=4,
        train__batch_size=64,
        train__lr=1e-2,
    )
    run = train(config, tmp_path / "run")
    history = run.history()
    assert history[0]["train_loss"] == pytest.approx(2.3026, abs=0.01)  # ln 10: all as likely
    assert history[-1]["train_loss"] < 1.9
    assert history[-1]["val_top1"] > 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(value: float) -> None:
    with pytest.raises(DivergedError, match=rf"step 7: .* is {value}; lower train.lr"):
        require_finite(value, 7)
    assert require_finite(1.5, 7) == 1.5


def test_a_diverging_run_says_so(photos: Path, tmp_path: Path) -> None:
    config = tiny_config(photos, train__lr=1e30, train__clip_norm=1e30, train__warmup_epochs=0)
    with pytest.raises(DivergedError, match=r"^step 3: the loss is nan .* event 3 in a row, "):
        train(config, tmp_path / "run")


def test_broken_images_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = paint(tmp_path / "photos")
    for i in range(4):
        (photos / "red" / f"broken{i}.png").write_bytes(b"\x89PNG" + bytes([i]) * 100)
    run = train(tiny_config(photos, train__epochs=2), tmp_path / "run")
    assert run.history()[-1]["step"] > 0
    said = capsys.readouterr().err.replace("\n", "")
    assert said.count("left out: ") == len(set(said.split("left out: ")[1:])) > 0
    again = train(tiny_config(photos, train__epochs=2), tmp_path / "again")
    assert_same_run(run, again)


def test_drop_path_is_a_function_of_seed_and_step() -> None:
    def draws(seed: int, step: int) -> list[float]:
        seed_step(seed, step)
        return torch.rand(8).tolist()

    first = draws(3, 5)
    torch.rand(17)
    assert draws(3, 5) == first
    assert len({tuple(draws(seed, step)) for seed in (3, 4) for step in range(50)}) == 100


def test_due() -> None:
    assert [done for done in range(1, 11) if due(done, 4, 10)] == [4, 8, 10]


def test_data_and_environment_are_json(photos: Path) -> None:
    described = json.loads(json.dumps(describe_data(open_data(str(photos)), {})))
    assert described["classes"] == ["blue", "green", "red"]
    assert {name: len(keys) for name, keys in described["splits"].items()} == {
        "train": 30,
        "val": 3,
        "test": 3,
    }
    machine = json.loads(json.dumps(environment("cpu")))
    assert machine["packages"]["torch"] == torch.__version__
    assert machine["threads"] == torch.get_num_threads()
