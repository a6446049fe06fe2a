"""What `vitrail plan` predicts, beside what the training then takes.

    OMP_NUM_THREADS=1 nice -n 10 python benchmarks/plan.py [CASE ...]

Each case is planned and trained in turns, `ROUNDS` times. The table gives for each round memory
(the most that the training process had resident), the median time of a step, and how many processes
wanted a core when plan and training ended: more than there are cores disturb the times.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROUNDS = 2
PICTURES, SIZE = 100, (375, 500)  # for each of two classes; height, width

VIT = "--model vit_small_patch16_224 --image-size 224 224 --batch-size 8 --epochs 1".split()
CASES = {
    "glyphs": "--data glyphs --epochs 2".split(),
    "digits": "--data digits --epochs 6".split(),
    "ViT-S/16": VIT,
    "ViT-S/16, recompute": [*VIT, "--recompute"],
    "ViT-S/16, batch 16 in 2 parts": [*VIT, "--batch-size", "16", "--train.accumulate", "2"],
    "ViT-S/16, 2 workers": [*VIT, "--workers", "2"],
    "ResNet-18": "--model resnet18 --image-size 224 224 --batch-size 16 --epochs 2".split(),
    "BiT-R50x1, recompute": "--model resnetv2_50x1_bit --image-size 160 160 --batch-size 8 "
    "--epochs 1 --recompute".split(),
    "Swin-T": "--model swin_tiny_patch4_window7_224 --batch-size 8 --epochs 1".split(),
    "Swin-T, recompute, 2 parts": "--model swin_tiny_patch4_window7_224 --batch-size 8 --epochs 1 "
    "--recompute --train.accumulate 2".split(),
}


def main(names: list[str]) -> None:
    """Plan and train each case in turns; print the table."""
    print("| case | peak GiB: plan | run | error | step s: plan | run | error | load |")
    print("|---" * 8 + "|")
    with tempfile.TemporaryDirectory() as folder:
        paint(Path(folder) / "pictures")
        for name in names or CASES:
            flags = CASES[name]
            if "--data" not in flags:
                flags = ["--data", f"{folder}/pictures", *flags]
            for number in range(ROUNDS):
                planned = plan(flags)
                loads = [os.getloadavg()[0]]
                peak, step = train(flags, Path(folder) / f"{name.replace('/', '-')}-{number}")
                loads.append(os.getloadavg()[0])
                print(
                    f"| {name} | {planned['peak_bytes'] / 2**30:.2f} | {peak / 2**30:.2f} | "
                    f"{planned['peak_bytes'] / peak - 1:+.0%} | "
                    f"{planned['seconds_per_step']:.3f} | {step:.3f} | "
                    f"{planned['seconds_per_step'] / step - 1:+.0%} | "
                    f"{loads[0]:.1f}, {loads[1]:.1f} |",
                    flush=True,
                )


def paint(root: Path) -> None:
    """Make JPEG files of the size of photographs on the web."""
    for name in ("dark", "light"):
        (root / name).mkdir(parents=True)
        for i in range(PICTURES):
            noise = np.random.default_rng(i).integers(0, 120, (SIZE[0] // 5, SIZE[1] // 5, 3))
            picture = Image.fromarray((noise + 120 * (name == "light")).astype(np.uint8))
            picture.resize(SIZE[::-1]).save(root / name / f"{i}.jpg", quality=90)


def plan(flags: list[str]) -> dict[str, float]:
    """Run `vitrail plan`; give its figures."""
    command = [sys.executable, "-m", "vitrail", "plan", *flags, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def train(flags: list[str], out: Path) -> tuple[int, float]:
    """Run `vitrail train`; give the most bytes it had resident, and the median step in seconds."""
    command = [sys.executable, "-m", "vitrail", "train", *flags, "--out", str(out)]
    process = subprocess.Popen([*command, "--log-every", "5"], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_maxrss * 1024, median_step(out)


def median_step(run: Path) -> float:
    """Take the time between logged steps from the rate of images that is logged with them."""
    batch = json.loads((run / "config.json").read_text())["train"]["batch_size"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [each["step"] * batch / each["images_per_second"] for each in lines]
    steps = [each["step"] for each in lines]
    return statistics.median((np.diff(ends) / np.diff(steps)).tolist())


if __name__ == "__main__":
    main(sys.argv[1:])
