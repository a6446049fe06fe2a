"""Time from a weights file to a model that is ready, beside timm and transformers.

    python benchmarks/loading.py [MODEL]

Each round loads the same ViT once with every library, one after the other; the table gives the
median of the ratios to Vitrail in the same round, and their spread. Files are in the page cache.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import torchvision_operators

import vitrail

ROUNDS = 7


def main(name: str) -> None:
    """Write the files, load them in turns, print the table."""
    torchvision_operators.register()
    import timm
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        model = vitrail.create_model(name)
        torch.nn.init.normal_(model.head.weight)
        model.classes = tuple(map(str, range(model.config.classes)))
        model.preprocess = vitrail.Preprocess(size=model.config.image_size)
        paths = {each: f"{folder}/{each}" for each in ("vitrail", "timm", "huggingface")}
        for each, path in paths.items():
            vitrail.save_model(model, path, format=each, quiet=True)
        loaders: dict[str, Callable[[], object]] = {
            "vitrail": lambda: vitrail.load_model(paths["vitrail"], quiet=True),
            "vitrail, timm's file": lambda: vitrail.load_model(paths["timm"], quiet=True),
            "vitrail, transformers' folder": lambda: vitrail.load_model(
                paths["huggingface"], quiet=True
            ),
            "timm": lambda: timm.create_model(f"local-dir:{paths['timm']}", pretrained=True),
            "transformers": lambda: transformers.AutoModelForImageClassification.from_pretrained(
                paths["huggingface"]
            ),
        }
        report(name, loaders)


def report(name: str, loaders: dict[str, Callable[[], object]]) -> None:
    """Time all loaders in turns; the first round does not count."""
    seconds: dict[str, list[float]] = {each: [] for each in loaders}
    for _ in range(ROUNDS + 1):
        for each, load in loaders.items():
            start = time.perf_counter()
            load()
            seconds[each].append(time.perf_counter() - start)
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| loader | seconds | x vitrail | spread |\n|---|---|---|---|")
    for each, times in seconds.items():
        ratios = [a / b for a, b in zip(times[1:], seconds["vitrail"][1:], strict=True)]
        median = statistics.median(times[1:])
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {each} | {median:.2f} | {statistics.median(ratios):.2f} | {spread} |")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "vit_base_patch16_224")
