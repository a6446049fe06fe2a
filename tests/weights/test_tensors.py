from pathlib import Path

import pytest
import safetensors
import torch

from tests.weights.reading import same
from vitrail.errors import WeightsError
from vitrail.weights.tensors import read_metadata, read_tensors, tensor_bytes, write_tensors

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
    assert tensor_bytes(TENSORS, TEXTS) == tensor_bytes(
        dict(reversed(TENSORS.items())), dict(reversed(TEXTS.items()))
    )
    assert len(tensor_bytes(TENSORS, TEXTS)) % 8 == len(tensor_bytes(TENSORS)) % 8


@pytest.mark.parametrize("texts", [None, {}])
def test_no_texts(texts: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, texts)
    assert read_metadata(path) == {} and path.read_bytes() == tensor_bytes(TENSORS)


def test_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {}, {"a": "b"})
    assert read_metadata(path) == {"a": "b"} and read_tensors(path) == {}


def test_texts_that_are_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        tensor_bytes(TENSORS, {"a": "\ud800"})


@pytest.mark.parametrize("content", [b"", b"\1\0\0\0\0\0\0\0[", b"\2\0\0\0\0\0\0\0[]", b"\xff" * 9])
def test_metadata_of_what_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x.safetensors: not a whole safetensors file"):
        read_metadata(tmp_path / "x.safetensors")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.safetensors", tensor_bytes(TENSORS, TEXTS)
    for keep in range(len(whole)):
        path.write_bytes(whole[:keep])
        with pytest.raises(WeightsError, match=r"not a whole safetensors file") as caught:
            read_tensors(path)
        assert str(caught.value).isprintable()


def test_every_changed_byte_of_the_header_is_refused_or_still_a_file(tmp_path: Path) -> None:
    path, whole = tmp_path / "x.safetensors", tensor_bytes(TENSORS)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x15
        path.write_bytes(data)
        try:
            assert len(read_tensors(path)) == 3
        except WeightsError as error:
            assert str(error).isprintable()
