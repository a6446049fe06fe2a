from pathlib import Path

import pytest
import safetensors
import torch

from tests.weights.reading import file_bytes, same
from vitrail.errors import WeightsError
from vitrail.weights.tensors import (
    TensorFiles,
    read_metadata,
    read_tensors,
    tensor_pieces,
    write_tensors,
)

TENSORS = {"a": torch.ones(3), "byte": torch.tensor([1], dtype=torch.uint8), "b": torch.zeros(0, 2)}
TEXTS = {
    "vitrail": '{"format": 1, "π\\n": "\\ud800"}',
    "": "",
    "shape": "3\n",
    **dict.fromkeys("zyx", "1"),
}


def test_texts_come_back_beside_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, TEXTS)
    assert read_metadata(path) == TEXTS and same(read_tensors(path), TENSORS)
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == TEXTS


def test_equal_texts_give_equal_bytes() -> None:
    assert file_bytes(TENSORS, TEXTS) == file_bytes(
        dict(reversed(TENSORS.items())), dict(reversed(TEXTS.items()))
    )
    assert len(file_bytes(TENSORS, TEXTS)) % 8 == len(file_bytes(TENSORS)) % 8


@pytest.mark.parametrize("texts", [None, {}])
def test_no_texts(texts: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, texts)
    assert read_metadata(path) == {} and path.read_bytes() == file_bytes(TENSORS)


def test_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {}, {"a": "b"})
    assert read_metadata(path) == {"a": "b"} and read_tensors(path) == {}


def test_texts_that_are_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        file_bytes(TENSORS, {"a": "\ud800"})


@pytest.mark.parametrize("content", [b"", b"\1\0\0\0\0\0\0\0[", b"\2\0\0\0\0\0\0\0[]", b"\xff" * 9])
def test_metadata_of_what_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x.safetensors: not a whole safetensors file"):
        read_metadata(tmp_path / "x.safetensors")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.safetensors", file_bytes(TENSORS, TEXTS)
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        with pytest.raises(WeightsError, match=r"not a whole safetensors file") as caught:
            read_tensors(path)
        assert str(caught.value).isprintable()


def test_every_changed_byte_of_the_header_is_refused_or_still_a_file(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.safetensors", file_bytes(TENSORS)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x15
        path.write_bytes(data)
        try:
            assert len(read_tensors(path)) == 3
        except WeightsError as error:
            assert str(error).isprintable()


# --- piece by piece ---

DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


def test_pieces_are_the_file_that_the_library_writes() -> None:
    tensors = {"b": torch.randn(3, 5), "a": torch.randn(7), "ü": torch.zeros(0, 2)}
    assert file_bytes(tensors) == safetensors.torch.save(tensors)
    assert file_bytes({}) == safetensors.torch.save({})


def test_pieces_of_every_type_come_back(tmp_path: Path) -> None:
    tensors = {f"{n}": torch.ones(n % 3 + 1).to(dtype) for n, dtype in enumerate(DTYPES)}
    tensors["number"] = torch.tensor(3)
    (tmp_path / "x").write_bytes(b"".join(tensor_pieces(tensors)))
    back = read_tensors(tmp_path / "x")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert back[name].tolist() == tensor.tolist()


def test_tensors_of_several_files_are_read_one_by_one(tmp_path: Path) -> None:
    write_tensors(tmp_path / "1", {"a": torch.ones(2, 3)}, TEXTS)
    write_tensors(tmp_path / "2", {"b": torch.tensor(4), "c": torch.zeros(0)})
    files = TensorFiles([tmp_path / "1", tmp_path / "2"])
    assert list(files) == ["a", "b", "c"] and len(files) == 3
    assert "b" in files and "d" not in files and 3 not in files
    assert torch.equal(files["a"], torch.ones(2, 3)) and files["b"].item() == 4
    with pytest.raises(KeyError, match="d"):
        files["d"]
    files["a"].zero_()
    assert files["a"].all()  # it was a copy
    assert len(TensorFiles([])) == 0


def test_files_that_cannot_be_read_together_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "1", {"a": torch.ones(2)})
    write_tensors(tmp_path / "2", {"a": torch.ones(2)})
    with pytest.raises(WeightsError, match="2: 'a' is in another file of the set too"):
        TensorFiles([tmp_path / "1", tmp_path / "2"])
    (tmp_path / "2").write_bytes((tmp_path / "2").read_bytes()[:-1])
    with pytest.raises(WeightsError, match="2: not a whole safetensors file"):
        TensorFiles([tmp_path / "2"])
    with pytest.raises(WeightsError, match="3: no such file"):
        TensorFiles([tmp_path / "3"])
