import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.hostile import BANDS, HARMLESS, REFUSED
from tests.data.images import grey3, noise, pixels, save
from tests.data.samples import photo, samples
from vitrail.data.decode import decode
from vitrail.errors import ImageError

SAMPLES = samples()


def test_colour_jpeg_equals_its_upright_copy() -> None:
    image = photo(64, 48)
    flat = pixels(save(image, "JPEG", quality=95))
    assert flat.shape == (64, 48, 3)
    np.testing.assert_array_equal(pixels(save(image, "JPEG", 8, quality=95)), np.rot90(flat))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    first, second = (Image.fromarray(grey3(noise(9, 7, seed=seed))) for seed in (1, 2))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = save(first, kind, save_all=True, append_images=[second], **options)
    np.testing.assert_array_equal(pixels(data), np.asarray(first))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "x: the file is empty"),
        (b"%PDF-1.7 ...", "unsupported format: PDF;"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b"  <!DOCTYPE html><html>", "HTML"),
        (b"\xd7\xcd\xc6\x9a\0\0", "WMF"),
        (b"\0\0\x01\0\x01\0", "icon"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"SIMPLE  =                    T", "FITS"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"RIFF\x10\0\0\0WAVEfmt ", "unknown, begins with 52 49 46 46"),
        (b"hello", r"JPEG, PNG, WebP, GIF, TIFF, BMP and \.npy are read"),
    ],
)
def test_other_files_are_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=name):
        pixels(data)


def test_too_many_pixels_are_refused_and_the_limit_is_allowed() -> None:
    data = save(photo(20, 30), "PNG")
    assert decode(data, channels=3, where="x", max_pixels=600).shape == (3, 20, 30)
    with pytest.raises(ImageError, match=r"^x: 20x30 = 600 pixels, more than max_pixels=599;"):
        decode(data, channels=3, where="x", max_pixels=599)


WHOLE_UP_TO_ITS_END = [name for name in SAMPLES if not name.startswith(("GIF", "BMP"))]


@pytest.mark.parametrize("name", WHOLE_UP_TO_ITS_END)
def test_every_cut_is_noticed(name: str) -> None:
    data = SAMPLES[name]
    for length in [*range(0, len(data), 1 + len(data) // 300), len(data) - 2, len(data) - 1]:
        with pytest.raises(ImageError):
            pixels(data[:length])


@pytest.mark.parametrize("name", ["GIF", "GIF animated", "BMP", "BMP palette"])
def test_a_cut_is_noticed_or_takes_no_pixel_of_the_first_frame(name: str) -> None:
    data = SAMPLES[name]
    whole = pixels(data)
    for length in range(0, len(data), 1 + len(data) // 300):
        try:
            np.testing.assert_array_equal(pixels(data[:length]), whole)
        except ImageError:
            continue


@pytest.mark.parametrize("name", ["JPEG", "JPEG grey", "JPEG restart"])
def test_jpeg_cut_but_ended_is_noticed(name: str) -> None:
    """Decoders fill what is missing with grey and only warn."""
    data = SAMPLES[name]
    start = data.index(b"\xff\xda") + 20
    for length in range(start, len(data) - 20, 7):
        with pytest.raises(ImageError, match=r"truncated|cut off"):
            pixels(data[:length].rstrip(b"\xff") + b"\xff\xd9")


def test_what_follows_the_end_of_a_jpeg_does_not_matter() -> None:
    data = SAMPLES["JPEG"]
    np.testing.assert_array_equal(pixels(data + b"motion photo" * 9), pixels(data))
    np.testing.assert_array_equal(pixels(data + data), pixels(data))


@pytest.mark.parametrize("damage", [b"\0" * 4, b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0"])
def test_damaged_metadata_of_a_jpeg_does_not_matter(damage: bytes) -> None:
    data = save(photo(), "JPEG")
    segment = b"\xff\xe1" + (len(damage) + 2).to_bytes(2, "big") + damage
    np.testing.assert_array_equal(pixels(data[:2] + segment + data[2:]), pixels(data))


def test_profile_and_comment_are_ignored() -> None:
    image, text = photo(), b"<script>" * 8000
    for kind in ("JPEG", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        plain = pixels(save(image, kind, **options))
        data = save(image, kind, icc_profile=b"broken" * 100, xmp=text[:60000], **options)
        np.testing.assert_array_equal(pixels(data), plain)


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [
        ((100, 60), (100, 60)),
        ((101, 60), (200, 120)),  # half would be one row short
        ((25, 15), (25, 15)),
        ((26, 15), (50, 30)),
        ((1, 1), (25, 15)),
        ((201, 1), (200, 120)),
    ],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpeg_shrinks_while_it_is_enough(
    wanted: tuple[int, int], shape: tuple[int, int], orientation: int
) -> None:
    upright = photo(200, 120)
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose.ROTATE_90)
    data = save(stored, "JPEG", orientation, quality=95)
    small = pixels(data, shrink_to=wanted)
    assert small.shape == (*shape, 3)
    reference = np.asarray(upright.resize(shape[::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(small - reference).mean() < 4
    np.testing.assert_array_equal(
        pixels(save(stored, "PNG", orientation), shrink_to=wanted), np.asarray(upright)
    )


@pytest.mark.parametrize("name", REFUSED)
def test_d2_bomb_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match=r"^x: "):
        pixels(REFUSED[name])


@pytest.mark.parametrize("name", BANDS)
@pytest.mark.parametrize("depth", [8, 16])
def test_d2_bomb_of_many_bands_is_refused(name: str, depth: int) -> None:
    with pytest.raises(ImageError, match=r"^x: (?!.*cannot be decoded)"):  # by a check of ours
        decode(BANDS[name], channels=5, where="x", max_pixels=40_000_000, depth=depth)


@pytest.mark.parametrize("name", HARMLESS)
def test_d2_of_endless_files_only_the_first_frame_is_read(name: str) -> None:
    assert pixels(HARMLESS[name]).shape in ((1, 1, 3), (3, 5, 3))


MEASURE = """
import time
from tests.data.hostile import BANDS, HARMLESS, REFUSED
from tests.data.samples import samples
from vitrail.data.decode import decode
from vitrail.errors import ImageError

def attempt(data, channels):
    start = time.process_time()
    try:
        decode(data, channels=channels, where="x", max_pixels=40_000_000)
    except ImageError:
        pass
    return time.process_time() - start

for data in samples().values():
    attempt(data, 3)
    attempt(data, 5)
def peak():  # not ru_maxrss, which begins with the memory of the process that started this one
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

before = peak()
for group, channels in ((REFUSED, 3), (HARMLESS, 3), (BANDS, 5)):
    for name, data in group.items():
        print(min(attempt(data, channels) for _ in range(3)), name, sep="\\t")
after = peak()
control = b"x" * (100 << 20)
print(after - before, peak() - after)
"""


def measure_bombs() -> tuple[dict[str, float], int]:
    """Give the seconds of processor time of each bomb, and the KiB that all of them took."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""  # no library complains past us
    *lines, last = done.stdout.splitlines()
    growth, control = map(int, last.split())
    assert control > 90 * 1024  # else the peak was reached before, and nothing was measured
    return {name: float(seconds) for seconds, name in (x.split("\t") for x in lines)}, growth


def test_d2_bombs_take_little_memory() -> None:
    times, growth = measure_bombs()
    assert len(times) >= 70 and growth < 50 * 1024


@pytest.mark.slow
def test_d2_bombs_take_little_time() -> None:
    times, _ = measure_bombs()
    assert {name: seconds for name, seconds in times.items() if seconds > 0.05} == {}


def test_a_png_of_a_million_chunks_is_refused() -> None:
    whole = save(photo(9, 13), "PNG")
    empty = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    at = whole.index(b"IDAT") - 4
    few = whole[:at] + empty * 50 + whole[at:]
    assert decode(few, channels=3, where="x", max_pixels=1000).shape == (3, 9, 13)
    with pytest.raises(ImageError, match="x: PNG of more than 100000 chunks"):
        decode(whole[:at] + empty * 100_001 + whole[at:], channels=3, where="x", max_pixels=1000)
