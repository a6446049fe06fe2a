import hashlib
from pathlib import Path

import pytest
import torch

from tests.weights.references import ready_model
from vitrail.errors import WeightsError
from vitrail.weights.digest import file_digests, tensor_digest
from vitrail.weights.load import save_model


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_file_that_a_load_reads_is_named(tmp_path: Path) -> None:
    model = ready_model()
    files = {
        "vitrail": {"model.json", "model.safetensors"},
        "huggingface": {"config.json", "model.safetensors", "preprocessor_config.json"},
        "timm": {"config.json", "model.safetensors"},
    }
    for format, names in files.items():
        folder = tmp_path / format
        save_model(model, folder, format=format, quiet=True)
        (folder / "metrics.jsonl").write_text("{}")
        assert file_digests(folder) == {name: sha(folder / name) for name in names}
    alone = tmp_path / "vitrail" / "model.safetensors"
    assert file_digests(alone) == {"model.safetensors": sha(alone)}
    save_model(model, tmp_path / "google.npz", format="google", quiet=True)
    assert set(file_digests(tmp_path / "google.npz")) == {"google.npz", "google.json"}


def test_shards_are_named_with_their_index(tmp_path: Path) -> None:
    names = ["model-1-of-2.safetensors", "model-2-of-2.safetensors", "model.safetensors.index.json"]
    for name in names:
        (tmp_path / name).write_text(name)
    assert list(file_digests(tmp_path)) == names


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none.npz: no such file"):
        file_digests(tmp_path / "none.npz")
    with pytest.raises(WeightsError, match="no weights here"):
        file_digests(tmp_path)


def test_a_digest_of_tensors_sees_name_type_shape_and_bits() -> None:
    tensor = torch.arange(6.0)
    ways = [
        {"a": tensor},
        {"b": tensor},
        {"a": tensor.double()},
        {"a": tensor.reshape(2, 3)},
        {"a": -tensor},  # -0 and 0
        {"a": tensor, "b": torch.empty(0)},
        {"a": tensor.bfloat16()},
        {"a": torch.tensor(3)},
    ]
    assert len({tensor_digest(each) for each in ways}) == len(ways)
    assert tensor_digest({"b": tensor, "a": tensor}) == tensor_digest({"a": tensor, "b": tensor})
    column = torch.stack([tensor, tensor], dim=1)[:, 0]  # the same numbers, laid out otherwise
    assert tensor_digest({"a": column}) == tensor_digest({"a": tensor})
