"""Time from the bytes of a JPEG to a 224x224 training tensor, beside Pillow and timm's transforms.

    python benchmarks/decode.py

One thread. Each round does everything once, one after the other; the table gives the median, and
the median and the spread of the ratios to Vitrail's `load` of the same file in the same round.
The pictures are made: smooth shapes, edges and grain, about as large as photographs of their size.
"""

import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import torchvision_operators

from vitrail.data.augment import random_box
from vitrail.data.preprocess import Preprocess

ROUNDS = 200
LARGE_ROUNDS = 25
SIZE = (224, 224)
AREA = (0.08, 1.0)  # of random crops


def main() -> None:
    """Make the files, time every way in turns, print the tables."""
    torch.set_num_threads(1)
    torchvision_operators.register()
    print(f"torch {torch.__version__}, Pillow {Image.__version__}, 1 thread, to {SIZE}")
    for height, width, rounds in ((375, 500, ROUNDS), (3000, 4000, LARGE_ROUNDS)):
        picture = photograph(height, width)
        for quality in (75, 90):
            data = jpeg(picture, quality)
            report(f"{height}x{width}, quality {quality}, {len(data) >> 10} KiB", data, rounds)


def photograph(height: int, width: int) -> Image.Image:
    """Make shapes of every size, whose contrast falls as in nature, with edges and grain."""
    random = np.random.default_rng(0)
    light = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells < max(height, width):
        rough = random.standard_normal((cells, cells + 1)).astype(np.float32)
        smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
        colour = random.normal(1, 0.3, 3)
        light += np.asarray(smooth)[..., None] * colour.astype(np.float32) * 35 / cells**0.25
        cells *= 2
    rows, columns = np.indices((height, width), sparse=True)
    for _ in range(12):  # half planes, as the edges of things
        angle, offset = random.random() * 6.3, random.random()
        side = rows / height * np.cos(angle) + columns / width * np.sin(angle) > offset
        light[side] += random.normal(0, 25, 3)
    light += random.normal(0, 3, light.shape) + 120
    return Image.fromarray(light.clip(0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, quality: int) -> bytes:
    """Encode with halved chroma."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, subsampling="4:2:0")
    return out.getvalue()


def ways(data: bytes) -> dict[str, Callable[[], object]]:
    """List what is timed: from the bytes to a tensor."""
    from timm.data import create_transform

    contract = Preprocess(size=SIZE)
    evaluation = create_transform((3, *SIZE), crop_pct=1.0, interpolation="bicubic")
    training = create_transform(
        (3, *SIZE), is_training=True, hflip=0, color_jitter=None, interpolation="bicubic"
    )

    def crop() -> torch.Tensor:
        image = contract.decode(data, "x", detail=AREA[0] ** -0.5)
        where = random_box(np.array([0.5, 0.5, 0.5, 0.5]), image.shape[1:], AREA, 4 / 3, 1.0)
        return contract.fit_box(image, where)

    return {
        "vitrail load": lambda: contract.load(data, "x"),
        "vitrail random crop": crop,
        "Pillow, bicubic": lambda: pillow(data, draft=False),
        "Pillow, draft, bicubic": lambda: pillow(data, draft=True),
        "Pillow, decode alone": lambda: Image.open(io.BytesIO(data)).load(),
        "timm evaluation": lambda: evaluation(Image.open(io.BytesIO(data)).convert("RGB")),
        "timm training": lambda: training(Image.open(io.BytesIO(data)).convert("RGB")),
    }


def pillow(data: bytes, draft: bool) -> torch.Tensor:
    """Decode and resize the centre with Pillow alone."""
    image = Image.open(io.BytesIO(data))
    if draft:
        image.draft("RGB", SIZE[::-1])
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BICUBIC, box=box)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def report(title: str, data: bytes, rounds: int) -> None:
    """Time all ways in turns; the first rounds do not count."""
    timed = ways(data)
    seconds: dict[str, list[float]] = {each: [] for each in timed}
    for number in range(rounds + 3):
        for each, run in timed.items():
            start = time.perf_counter()
            run()
            if number >= 3:
                seconds[each].append(time.perf_counter() - start)
    print(f"\n{title}\n\n| way | ms | x vitrail | spread |\n|---|---|---|---|")
    for each, times in seconds.items():
        ratios = sorted(a / b for a, b in zip(times, seconds["vitrail load"], strict=True))
        middle = ratios[len(ratios) // 10 : -(len(ratios) // 10) or None]
        spread = f"{middle[0]:.2f} to {middle[-1]:.2f}"
        milliseconds = statistics.median(times) * 1e3
        print(f"| {each} | {milliseconds:.2f} | {statistics.median(ratios):.2f} | {spread} |")


if __name__ == "__main__":
    main()
