import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vitrail.errors import StorageError
from vitrail.runs import Run

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")
PARTS = {
    "model": {"head.weight": torch.tensor([[1.5, -0.0], [3e-41, 7.0]]), "step": torch.tensor(3)},
    "ema": {"head.weight": torch.tensor([1.0], dtype=torch.bfloat16)},
    "optimizer": {"head.weight/exp_avg": torch.arange(6.0).reshape(2, 3)},
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run.create(tmp_path / "run")
    run.write_json("config.json", {})
    return run


def save(run: Run, *steps: int, keep: int = 9) -> None:
    for step in steps:
        run.save_checkpoint(step, PARTS, {"seconds": step / 3}, keep)


def kept(run: Run) -> list[str]:
    return sorted(path.name for path in (run.path / "checkpoints").iterdir())


def test_a_checkpoint_comes_back_bit_for_bit(run: Run) -> None:
    save(run, 12)
    checkpoint, damaged = run.newest_checkpoint()
    assert damaged == [] and checkpoint is not None
    assert (checkpoint.step, checkpoint.state["seconds"]) == (12, 4.0)
    assert checkpoint.tensors.keys() == PARTS.keys()
    for part, tensors in PARTS.items():
        for name, tensor in tensors.items():
            back = checkpoint.tensors[part][name]
            assert back.dtype == tensor.dtype and back.shape == tensor.shape
            assert (
                back.numpy(force=True).tobytes() == tensor.numpy().tobytes()
                if (tensor.dtype != torch.bfloat16)
                else torch.equal(back, tensor)
            )


def test_without_checkpoints_there_is_none(run: Run) -> None:
    assert run.newest_checkpoint() == (None, [])


def test_the_newest_are_kept(run: Run) -> None:
    save(run, 5, 10, 100_000_00, keep=2)
    assert kept(run) == ["step-00000010", "step-10000000"]
    checkpoint, _ = run.newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 100_000_00


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_first(path: Path) -> None:
    flip(path, 0)


def flip_middle(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


def flip_last(path: Path) -> None:
    flip(path, path.stat().st_size - 1)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def lose(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [cut, empty, flip_first, flip_middle, flip_last, lose, make_folder]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(
    name: str, damage: Callable[[Path], None], run: Run
) -> None:
    save(run, 4, 8)
    damage(run.path / "checkpoints" / "step-00000008" / name)
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 4
    assert len(damaged) == 1 and "step-00000008" in damaged[0] and "damaged" in damaged[0]
    if damage not in (lose, make_folder) and name != "manifest.json":
        assert f"step-00000008/{name}: damaged" in damaged[0]
    elif name != "manifest.json":
        assert name in damaged[0] or "manifest.json" in damaged[0]


@pytest.mark.parametrize("manifest", ["{}", "[]", "null", "3", '{"state.json": 3}', "{"])
def test_a_manifest_that_lists_nothing_vouches_for_nothing(manifest: str, run: Run) -> None:
    save(run, 4, 8)
    (run.path / "checkpoints/step-00000008/manifest.json").write_text(manifest)
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 4
    assert len(damaged) == 1 and "step-00000008" in damaged[0]


def test_when_all_are_damaged_each_is_named(run: Run) -> None:
    save(run, 4, 8)
    for folder in kept(run):
        cut(run.path / "checkpoints" / folder / "state.json")
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is None
    assert ["step-00000008" in damaged[0], "step-00000004" in damaged[1]] == [True, True]


def test_what_a_crash_left_half_written_is_no_checkpoint(run: Run) -> None:
    save(run, 4)
    half = run.path / "checkpoints" / "step-00000008.tmp"
    half.mkdir()
    (half / "state.json").write_text("{")
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and (checkpoint.step, damaged) == (4, [])
    save(run, 8)
    assert kept(run) == ["step-00000004", "step-00000008"]


def test_damaged_ones_beyond_do_not_push_the_whole_one_out(run: Run) -> None:
    save(run, 8, 12)
    for folder in kept(run):
        cut(run.path / "checkpoints" / folder / "state.json")
    save(run, 4, keep=1)
    checkpoint, _ = run.newest_checkpoint()
    assert checkpoint is not None and checkpoint.step == 4
    assert kept(run) == ["step-00000004"]


def test_a_damaged_one_is_written_anew(run: Run) -> None:
    save(run, 4)
    cut(run.path / "checkpoints/step-00000004/model.safetensors")
    save(run, 4)
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and damaged == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_checkpoint(
    call: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(run, 4)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageError, match=r"step-00000008: no space left on the disk"):
            save(run, 8, keep=1)
    assert kept(run) == ["step-00000004"]
    checkpoint, damaged = run.newest_checkpoint()
    assert checkpoint is not None and (checkpoint.step, damaged) == (4, [])
