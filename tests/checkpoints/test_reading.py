"""Which checkpoint is the newest whole one, and what is in it."""

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from tests.checkpoints.driver import tensors_of
from tests.checkpoints.helpers import folder, kept, make_run, newest_whole_step, same
from vitrail.checkpoints.reading import newest_checkpoint, read_checkpoint
from vitrail.errors import RunError, WeightsError
from vitrail.weights.tensors import write_tensors

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


def newest(run: Path) -> tuple[int | None, list[str]]:
    checkpoint, damaged = newest_checkpoint(run / "checkpoints")
    return checkpoint and checkpoint.step, damaged


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(RunError, match=r"checkpoints: cannot be read \(Not a directory\)"):
        newest(tmp_path)


def test_steps_are_compared_as_numbers(tmp_path: Path) -> None:
    make_run(tmp_path, 99_999_999, 100_000_000)
    assert newest(tmp_path) == (100_000_000, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def point_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


@pytest.mark.parametrize("damage", [cut, flip, lose, make_folder, point_to_nothing])
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    make_run(tmp_path, 4, 8)
    damage(folder(tmp_path, 8) / name)
    step, damaged = newest(tmp_path)
    assert step == 4 and len(damaged) == 1
    expected = "step-00000008/" if (name, damage) == ("manifest.json", flip) else name
    assert expected in damaged[0] and ": damaged (" in damaged[0]
    assert newest_whole_step(tmp_path) == 4


def test_what_hides_in_a_folder_does_no_harm(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    (folder(tmp_path, 4) / ".DS_Store").write_text("made by looking at it")
    assert newest(tmp_path) == (4, [])


def test_a_file_too_many_is_damage(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    (folder(tmp_path, 4) / "model-00001-of-00002.safetensors").write_text("")
    step, damaged = newest(tmp_path)
    assert step is None and "does not list model-00001-of-00002" in damaged[0]


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "[]",
        "null",
        "3",
        "{",
        '{"state.json": 3}',
        '{"state.json": {}}',
        '{"../step-00000004/state.json": {"bytes": 3, "sha256": ""}}',
    ],
)
def test_a_manifest_that_lists_nothing_vouches_for_nothing(manifest: str, tmp_path: Path) -> None:
    make_run(tmp_path, 4, 8)
    (folder(tmp_path, 8) / "manifest.json").write_text(manifest)
    step, damaged = newest(tmp_path)
    assert step == 4 and len(damaged) == 1 and "step-00000008/" in damaged[0]


def test_when_all_are_damaged_each_is_named(tmp_path: Path) -> None:
    make_run(tmp_path, 4, 8)
    for name in kept(tmp_path):
        cut(tmp_path / "checkpoints" / name / "state.json")
    step, damaged = newest(tmp_path)
    assert step is None
    assert ["step-00000008" in damaged[0], "step-00000004" in damaged[1]] == [True, True]


def test_damaged_ones_beyond_do_not_push_the_whole_one_out(tmp_path: Path) -> None:
    make_run(tmp_path, 8, 12)
    for name in kept(tmp_path):
        cut(tmp_path / "checkpoints" / name / "state.json")
    make_run(tmp_path, 4, keep=1)
    assert kept(tmp_path) == ["step-00000004"] and newest_whole_step(tmp_path) == 4


def test_a_damaged_one_is_written_anew(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    cut(folder(tmp_path, 4) / "model.safetensors")
    make_run(tmp_path, 4)
    assert newest(tmp_path) == (4, []) and newest_whole_step(tmp_path) == 4


def test_a_given_step_is_opened_without_a_look_at_every_byte(tmp_path: Path) -> None:
    make_run(tmp_path, 4, 8)
    root = tmp_path / "checkpoints"
    flip(folder(tmp_path, 8) / "optimizer.safetensors")
    checkpoint = read_checkpoint(root, 8)
    assert checkpoint.step == 8 and same(checkpoint.tensors["model"], tensors_of(8)["model"])
    cut(folder(tmp_path, 8) / "optimizer.safetensors")
    with pytest.raises(RunError, match=r"optimizer.safetensors: damaged \(\d+ bytes, not \d+\)"):
        read_checkpoint(root, 8)
    with pytest.raises(RunError, match=r"step-00000012: no such checkpoint"):
        read_checkpoint(root, 12)


def test_tensors_stay_when_the_files_go(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    checkpoint = read_checkpoint(tmp_path / "checkpoints", 4)
    weight = checkpoint.tensors["model"]["a"]
    shutil.rmtree(folder(tmp_path, 4))
    assert torch.equal(weight, tensors_of(4)["model"]["a"])
    assert "b" in checkpoint.tensors["model"] and "c" not in checkpoint.tensors["model"]


def test_checkpoints_of_before_load(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    state = folder(tmp_path, 4) / "state.json"  # without a score; files in the library's order
    state.write_text(json.dumps({"step": 4, "seconds": 1.5}))
    files = {name: (folder(tmp_path, 4) / name) for name in FILES}
    for file, tensors in tensors_of(4).items():
        write_tensors(files[f"{file}.safetensors"], tensors)
    entries = {
        name: {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
        for name, path in files.items()
    }
    (folder(tmp_path, 4) / "manifest.json").write_text(json.dumps(entries))
    assert newest_whole_step(tmp_path) == 4
    make_run(tmp_path, 8, keep=2)
    assert kept(tmp_path) == ["step-00000004", "step-00000008"]


def test_a_tensor_in_two_parts_is_damage(tmp_path: Path) -> None:
    make_run(tmp_path, 4)
    whole = folder(tmp_path, 4) / "model.safetensors"
    part = whole.with_name("model-00001-of-00002.safetensors")
    part.write_bytes(whole.read_bytes())
    manifest = json.loads((folder(tmp_path, 4) / "manifest.json").read_text())
    manifest[part.name] = manifest[whole.name]
    (folder(tmp_path, 4) / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"'a' is in another file of the set too"):
        read_checkpoint(tmp_path / "checkpoints", 4)
    step, damaged = newest(tmp_path)
    assert step is None and "'a' is in another file" in damaged[0]
