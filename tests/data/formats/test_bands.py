"""Images of any number of bands against direct computation in NumPy, and tifffile as a witness."""

import io

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from tests.data import tiffs
from tests.data.images import noise, pixels, save, stored
from tests.data.samples import photo
from vitrail.data.decode import decode
from vitrail.data.preprocess import Preprocess
from vitrail.errors import ImageError

HEIGHT, WIDTH = 23, 17


def values(kind: str, bands: int = 5, seed: int = 0) -> NDArray:
    rng = np.random.default_rng(seed)
    shape = (HEIGHT, WIDTH, bands)
    if kind.startswith("float"):
        return rng.random(shape).astype(kind)
    return rng.integers(0, np.iinfo(kind).max + 1, shape).astype(kind)


def levels(given: NDArray, depth: int = 8) -> NDArray:
    """Compute in float64 what the contract says."""
    if given.dtype == np.uint8:
        exact = given.astype(np.float64)
    else:
        exact = given.astype(np.float64) * (255 if given.dtype.kind == "f" else 1 / 257)
    return np.floor(exact + 0.5).astype(np.uint8) if depth == 8 else exact


def assert_levels(data: bytes, given: NDArray) -> None:
    bands = given.shape[2]
    got = pixels(data, channels=bands)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, levels(given))
    deep = pixels(data, channels=bands, depth=16)
    assert deep.dtype == np.float32
    np.testing.assert_allclose(deep, levels(given, 16), rtol=3e-7, atol=0)


def npy(array: NDArray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


KINDS = ["uint8", "uint16", "float32", "float64", "float16"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bands", [2, 4, 5, 13])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_tiff(kind: str, bands: int, planar: bool, tile: tuple[int, int] | None) -> None:
    given = values(kind, bands)
    for order in "<>":
        data = tiffs.tiff(given, planar=planar, tile=tile, order=order, big=order == ">")
        assert_levels(data, given)
    read = tifffile.imread(io.BytesIO(data))
    np.testing.assert_array_equal(read if not planar else np.moveaxis(read, 0, 2), given)


@pytest.mark.parametrize("compression", [tiffs.LZW, tiffs.DEFLATE, tiffs.OLD_DEFLATE, 32773])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("planar", [False, True])
def test_compressed_tiff(compression: int, kind: str, predictor: bool, planar: bool) -> None:
    given = values(kind)
    way = 1 if not predictor else 3 if kind == "float32" else 2
    for order, tile in (("<", None), (">", None), ("<", (16, 16)), (">", (32, 16))):
        data = tiffs.tiff(
            given, compression=compression, predictor=way, planar=planar, order=order, tile=tile
        )
        assert_levels(data, given)
    one_strip = tiffs.tiff(given, compression=compression, predictor=way, rows=HEIGHT)
    assert_levels(one_strip, given)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 48)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_tifffile_writes(
    compression: str | None, planar: str, tile: tuple[int, int] | None, order: str
) -> None:
    for kind in ("uint8", "uint16", "float32"):
        given, out = values(kind), io.BytesIO()
        tifffile.imwrite(
            out,
            given if planar == "contig" else np.moveaxis(given, 2, 0),
            photometric="minisblack",
            planarconfig=planar,
            compression=compression,
            predictor=2 if compression and kind != "float32" else None,
            tile=tile,
            byteorder=order,
            bigtiff=tile is not None,
        )
        assert_levels(out.getvalue(), given)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_tiff_is_upright(orientation: int, kind: str) -> None:
    given = values(kind)
    data = tiffs.tiff(stored(given, orientation), tags={274: (orientation,)})
    assert_levels(data, given)


def test_bands_of_a_picture_are_taken_as_they_stand() -> None:
    cmyk = noise(HEIGHT, WIDTH, 4)
    assert_levels(tiffs.tiff(cmyk, tags={262: (5,)}), cmyk)
    rgba = tiffs.tiff(cmyk, tags={262: (2,), 338: (2,)})
    assert_levels(rgba, cmyk)
    assert not np.array_equal(pixels(rgba), cmyk[..., :3])  # composited on white for RGB


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("photometric", [1, 2])
def test_three_bands_that_pillow_does_not_know(kind: str, photometric: int) -> None:
    given = values(kind, bands=3)
    for planar in (False, True):
        data = tiffs.tiff(given, planar=planar, tags={262: (photometric,)})
        if (kind, photometric) == ("uint16", 2) and not planar:  # a picture: the high byte
            np.testing.assert_array_equal(pixels(data), given >> 8)
        else:
            np.testing.assert_array_equal(pixels(data), levels(given))
        np.testing.assert_allclose(pixels(data, depth=16), levels(given, 16), rtol=3e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_npy_of_every_layout(kind: str, bands: int) -> None:
    given = values(kind, bands)
    assert_levels(npy(given), given)
    assert_levels(npy(np.moveaxis(given, 2, 0)), given)
    assert_levels(npy(np.asfortranarray(given)), given)
    assert_levels(npy(given.astype(given.dtype.newbyteorder(">"))), given)
    if bands == 1:
        assert_levels(npy(given[..., 0]), given)


def test_versions_and_spelling_of_npy_headers() -> None:
    given, out = values("uint16"), io.BytesIO()
    for version in ((1, 0), (2, 0), (3, 0)):
        out = io.BytesIO()
        np.lib.format.write_array(out, given, version, allow_pickle=False)
        assert_levels(out.getvalue(), given)
    text = b'{"shape":(23,17,5),"fortran_order":False,"descr":"<u2"}'
    data = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + given.tobytes()
    assert_levels(data, given)


@pytest.mark.parametrize(
    ("array", "channels", "match"),
    [
        (np.zeros((5, 7, 5), np.uint8), 5, r"\(5, 7, 5\) is ambiguous: .* both have channels=5"),
        (np.zeros((1, 7, 1), np.uint8), 1, "is ambiguous"),
        (np.zeros((5, 7, 4), np.uint8), 3, r"has 5 or 4 bands, not channels=3"),
        (np.zeros((5, 7), np.uint8), 3, r"\(5, 7\) has 1 band, not channels=3"),
        (np.zeros((2, 5, 7, 3), np.uint8), 3, "an image has 2 or 3 axes"),
        (np.zeros(5, np.uint8), 1, "an image has 2 or 3 axes"),
        (np.zeros((), np.uint8), 1, "an image has 2 or 3 axes"),
        (np.zeros((0, 7), np.uint8), 1, "no pixels: 0x7"),
        (np.zeros((5, 7), np.int16), 1, "array of type '<i2'; uint8, uint16, float16, float32"),
        (np.zeros((5, 7), np.uint32), 1, "array of type '<u4'"),
        (np.zeros((5, 7), bool), 1, r"array of type '\|b1'"),
        (np.zeros((5, 7), complex), 1, "array of type '<c16'"),
        (np.zeros((5, 7), "U3"), 1, "array of type '<U3'"),
        (np.zeros((5, 7), "u1,u1"), 1, "no descr that is read"),
        (np.full((5, 7), 1.5), 1, "floating-point pixels from 1.5 to 1.5"),
        (np.full((5, 7), np.nan), 1, "floating-point pixels from nan to nan"),
        (np.full((5, 7), -0.5, np.float32), 1, "they must lie in 0 to 1"),
    ],
)
def test_npy_without_a_clear_meaning_is_refused(array: NDArray, channels: int, match: str) -> None:
    with pytest.raises(ImageError, match=r"^x: .*" + match):
        pixels(npy(array), channels=channels)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (tiffs.tiff(values("uint8", 4)), r"the TIFF has 4 bands, not channels=5"),
        (tiffs.tiff(values("uint8", 65)), r"the TIFF has 65 bands, not channels=5"),
        (tiffs.tiff(values("uint8").astype(np.int16)), r"of \[16\] bits, sample format \[2\]"),
        (tiffs.tiff(values("uint8"), tags={258: (8, 8, 16, 8, 8)}), r"bands of \[8, 16\] bits"),
        (tiffs.tiff(values("uint8"), tags={259: (7,)}), "compression 7 of this many"),
        (tiffs.tiff(values("uint8"), tags={317: (3,)}), "predictor 3 is not read for uint8"),
        (tiffs.tiff(values("float32"), tags={317: (2,)}), "predictor 2 is not read for float32"),
        (tiffs.tiff(values("uint8"), tags={262: (6,)}), "are coded"),
        (tiffs.tiff(values("uint8"), tags={266: (2,)}), "are coded"),
        (tiffs.tiff(values("float32") * 2), "floating-point pixels"),
        (save(photo(), "PNG"), r"PNG has no 5 bands; .* from TIFF and \.npy"),
        (save(photo(), "JPEG"), r"JPEG has no 5 bands"),
        (tiffs.tiff(values("uint8"), tags={277: (5, 5)}), "no whole number of bands"),
        (b"II*\0\xff\xff\0\0", "no directory"),
    ],
)
def test_other_bands_are_refused(data: bytes, match: str) -> None:
    with pytest.raises(ImageError, match=r"^x: .*" + match):
        pixels(data, channels=5)


def test_three_channels_do_not_take_five_bands() -> None:
    for channels in (1, 3):
        with pytest.raises(ImageError, match=f"the TIFF has 5 bands, not channels={channels}"):
            pixels(tiffs.tiff(values("uint8")), channels=channels)


def test_the_limit_counts_the_bytes_of_bands() -> None:
    given = values("float32", bands=5)
    for data in (tiffs.tiff(given), npy(given)):
        limit = HEIGHT * WIDTH * 20 // 16 + 1
        assert decode(data, channels=5, where="x", max_pixels=limit).shape == (5, HEIGHT, WIDTH)
        with pytest.raises(ImageError, match=r"23x17 pixels of 20 bytes are 7820 bytes, more than"):
            decode(data, channels=5, where="x", max_pixels=limit - 1)
        with pytest.raises(ImageError, match=r"23x17 = 391 pixels, more than max_pixels=390"):
            decode(data, channels=5, where="x", max_pixels=390)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [tiffs.NONE, tiffs.LZW, tiffs.DEFLATE])
def test_every_cut_of_a_band_tiff_is_noticed(planar: bool, compression: int) -> None:
    data = tiffs.tiff(values("uint16"), planar=planar, compression=compression)
    for length in range(0, len(data) - 30, 37):
        with pytest.raises(ImageError):
            pixels(data[:length], channels=5)
    for length in range(len(npy(values("uint16")))):
        if length % 41 == 0:
            with pytest.raises(ImageError):
                pixels(npy(values("uint16"))[:length], channels=5)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("size", [(8, 12), (31, 5), (9, 1), (1, 1)])
def test_a_band_is_fitted_as_if_it_were_alone(
    resize: str, interpolation: str, size: tuple[int, int]
) -> None:
    image = torch.from_numpy(noise(11, HEIGHT, WIDTH))
    options = {"size": size, "resize": resize, "interpolation": interpolation}
    many = Preprocess(channels=11, mean=(0.5,) * 11, std=(0.5,) * 11, **options)
    one = Preprocess(channels=1, mean=(0.5,), std=(0.5,), **options)
    got = many.fit(image)
    assert got.shape == (11, *size) and got.dtype == torch.uint8 and got.is_contiguous()
    for band in range(11):
        assert torch.equal(got[band : band + 1], one.fit(image[band : band + 1]))


def test_load_of_many_bands_and_back() -> None:
    given = values("uint16", bands=7)
    contract = Preprocess(
        size=(HEIGHT, WIDTH), channels=7, depth=16, mean=tuple(np.arange(7) / 10), std=(0.2,) * 7
    )
    got = contract.normalise(contract.load(tiffs.tiff(given), "x"))
    expected = (given / 65535 - np.arange(7) / 10) / 0.2
    np.testing.assert_allclose(got.permute(1, 2, 0), expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(
        contract.denormalise(got).permute(1, 2, 0), np.round(given / 257).astype(np.uint8)
    )
