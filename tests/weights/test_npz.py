import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.weights.hostile_archives import archive, npy
from tests.weights.reading import same
from vitrail.errors import StorageError, WeightsError
from vitrail.weights.npz import read_npz, write_npz

NUMBERS = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


def google() -> dict[str, np.ndarray]:
    """Names and layouts as in the checkpoints of the ViT, BiT and big_vision repositories."""
    noise = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype(np.float32)
    return {
        "Transformer/encoderblock_0/LayerNorm_0/scale": noise[0, 0, 0],
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel": noise[0],
        "Transformer/posembed_input/pos_embedding": noise[:1, 0],
        "embedding/kernel": noise,
        "head/bias": np.zeros(0, np.float32),
        "resnet/root_block/standardized_conv2d/kernel": np.asfortranarray(noise),
        "params/img/MAPHead_0/probe": noise[..., 0],
        "opt/step": np.array(7),
    }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read_bit_for_bit(save: object, tmp_path: Path) -> None:
    assert callable(save)
    save(tmp_path / "x.npz", **google())
    tensors = {name: torch.from_numpy(array.copy("C")) for name, array in google().items()}
    assert same(read_npz(tmp_path / "x.npz"), tensors)
    assert all(tensor.is_contiguous() for tensor in read_npz(tmp_path / "x.npz").values())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", NUMBERS)
def test_every_type_in_both_byte_orders(kind: str, order: str, tmp_path: Path) -> None:
    numbers = np.array([[0, 1, 2], [100, 101, 127]]).astype(kind)
    for array in (numbers, np.asfortranarray(numbers), numbers[0, 1:2].reshape(())):
        np.savez(tmp_path / "x.npz", a=array.astype(order + kind))
        back = read_npz(tmp_path / "x.npz")["a"]
        assert same({"a": back}, {"a": torch.from_numpy(array.copy("C"))})


def test_truth_values_are_zero_or_one_whatever_the_bytes(tmp_path: Path) -> None:
    archive(("a.npy", npy("|b1", (4,), b"\0\1\2\xff")))(tmp_path / "x.npz", tmp_path)
    assert read_npz(tmp_path / "x.npz")["a"].tolist() == [False, True, True, True]
    assert read_npz(tmp_path / "x.npz")["a"].view(torch.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("descr", ["|V2", "<V2"])
def test_bfloat16_is_two_bytes_without_a_type(descr: str, fortran: bool, tmp_path: Path) -> None:
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    stored = values.T.contiguous() if fortran else values
    data = stored.view(torch.int16).numpy().tobytes()
    archive(("a/b.npy", npy(descr, (3, 4), data, fortran)))(tmp_path / "x.npz", tmp_path)
    assert same(read_npz(tmp_path / "x.npz"), {"a/b": values})


def test_a_header_of_python_2_and_one_of_version_2(tmp_path: Path) -> None:
    old = npy(shape=(4,)).replace(b"(4,)", b"(4L,)").replace(b"v\0{", b"w\0{")
    length = old.index(b"}") + 1 - 10
    old = old[:8] + length.to_bytes(2, "little") + old[10:]
    newer = npy()[:6] + b"\2\0" + npy()[8:10] + b"\0\0" + npy()[10:]
    archive(("old.npy", old), ("newer.npy", newer))(tmp_path / "x.npz", tmp_path)
    assert same(read_npz(tmp_path / "x.npz"), dict.fromkeys(("old", "newer"), torch.zeros(4)))


def test_an_archive_without_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz")
    assert read_npz(tmp_path / "x.npz") == {}


def tensors() -> dict[str, Tensor]:
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "Transformer/encoderblock_0/LayerNorm_0/scale": noise[0],
        "turned": noise.T,
        "part": noise[1:3, ::2],
        "half": noise.half(),
        "double": noise.double(),
        "whole": torch.tensor([-(2**63), 2**63 - 1]),
        "mask": torch.tensor([True, False]),
        "scalar": torch.tensor(3, dtype=torch.uint8),
        "none": torch.zeros(0, 3),
        "learned": nn.Parameter(noise),
        "Käse": torch.tensor([float("nan"), -0.0]),
    }


def test_what_is_written_is_read_by_us_and_by_numpy(tmp_path: Path) -> None:
    write_npz(tmp_path / "new" / "x.npz", tensors())
    assert same(read_npz(tmp_path / "new" / "x.npz"), tensors())
    with np.load(tmp_path / "new" / "x.npz", allow_pickle=False) as arrays:
        back = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    assert same(back, tensors()) and list(back) == sorted(back)


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    turned = {name: tensor.T.contiguous().T for name, tensor in [("a", torch.rand(3, 4))]}
    write_npz(tmp_path / "one.npz", tensors() | turned)
    write_npz(tmp_path / "two.npz", dict(reversed((tensors() | turned).items())))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as members:
        assert {each.date_time for each in members.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {each.compress_type for each in members.infolist()} == {zipfile.ZIP_STORED}


def test_bfloat16_is_written_as_float32(tmp_path: Path) -> None:
    values = torch.randn(5).bfloat16()
    write_npz(tmp_path / "x.npz", {"a": values})
    assert same(read_npz(tmp_path / "x.npz"), {"a": values.float()})


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_other_types_are_not_written(dtype: torch.dtype, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"x.npz: a is torch\..*, which .npz cannot hold"):
        write_npz(tmp_path / "x.npz", {"a": torch.zeros(2).to(dtype)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "/a", "a//b", "", "a/", "./a", "a\\b", "C:a", "a\nb"])
def test_names_that_lead_elsewhere_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"x.npz: the name .* is not one of an array") as caught:
        write_npz(tmp_path / "x.npz", {name: torch.zeros(2)})
    assert str(caught.value).isprintable() and list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of this path is a file"):
        write_npz(tmp_path / "file" / "x.npz", tensors())


def test_every_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **google())
    whole = buffer.getvalue()
    for keep in range(0, len(whole), 97):
        (tmp_path / "x.npz").write_bytes(whole[:keep])
        with pytest.raises(WeightsError, match=r"x.npz: "):
            read_npz(tmp_path / "x.npz")


def test_every_changed_byte_is_refused_or_changes_nothing_but_a_name(tmp_path: Path) -> None:
    """The checksum of a member covers its header and its values."""
    np.savez(tmp_path / "x.npz", a=np.arange(6, dtype=np.float32))
    whole, good = (tmp_path / "x.npz").read_bytes(), torch.arange(6.0)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x55
        (tmp_path / "x.npz").write_bytes(data)
        try:
            back = read_npz(tmp_path / "x.npz")
        except WeightsError as error:
            assert str(error).isprintable() and " at 0x" not in str(error)
        else:
            assert [*map(torch.Tensor.tolist, back.values())] in ([good.tolist()], [])
