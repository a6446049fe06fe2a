"""Time to read one image file at random: from a folder, from Parquet and from Arrow.

    python benchmarks/parquet.py [IMAGES]

Each round reads images of each form in the same shuffled order, one form after the other; the table
gives the median over the rounds of the time for one image, and the median of the ratios to the
folder in the same round. Files are in the page cache. "Decoded" files are compressed, so that a row
group must be decoded for each image; the process may keep a tenth of the set decoded, as with a set
that is far larger than memory.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitrail.data.arrow import parquet_reader
from vitrail.data.arrow.hub import list_hub
from vitrail.data.arrow.parquet import list_parquet
from vitrail.data.arrow.parquet_writer import write_part
from vitrail.data.folder import list_folder

ROUNDS = 7
SIZE = 50_000  # bytes of an image
GROUPS = (16, 100, 1000)  # rows
DECODED = 100  # reads a round where each is slow

Read = Callable[[int], bytes]


def main(n: int) -> None:
    """Write the forms, read them in turns, print the table."""
    random = np.random.default_rng(0)
    files = [random.bytes(int(size)) for size in random.normal(SIZE, SIZE / 5, n)]
    parquet_reader.KEPT = n * SIZE // 10
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        forms = write_forms(Path(folder), files)
        report(forms, [random.permutation(n).tolist() for _ in range(ROUNDS + 1)])


def write_forms(root: Path, files: list[bytes]) -> dict[str, Read]:
    """Write the same files in each form; give what reads them, by name."""
    for i, data in enumerate(files):
        path = root / "folder" / f"{i % 2}" / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    forms: dict[str, Read] = {"folder": list_folder(str(root / "folder")).read}
    labels = [i % 2 for i in range(len(files))]
    samples = ((f"{i}.jpg", data, labels[i], None) for i, data in enumerate(files))
    write_part(root / "packed.parquet", samples, ["a", "b"])
    forms["parquet, vitrail data pack"] = list_parquet(str(root / "packed.parquet")).read
    table = pq.read_table(root / "packed.parquet")
    for rows in GROUPS:
        for what, compression in {"": "none", " decoded": "snappy"}.items():
            path = root / f"{rows}{compression}.parquet"
            pq.write_table(table, path, row_group_size=rows, compression=compression)
            forms[f"parquet,{what} groups of {rows}"] = list_parquet(str(path)).read
    image = pa.array([{"bytes": data, "path": None} for data in files]).to_pylist()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    saved = datasets.Dataset.from_dict({"image": image, "label": labels}, features)
    saved.save_to_disk(root / "arrow")
    forms["arrow, datasets"] = list_hub(str(root / "arrow")).read
    return forms


def report(forms: dict[str, Read], orders: list[list[int]]) -> None:
    """Time all forms in turns; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for order in orders:
        for name, read in forms.items():
            places = order[:DECODED] if "decoded" in name else order
            start = time.perf_counter()
            for i in places:
                read(i)
            times[name].append((time.perf_counter() - start) / len(places) * 1e6)
    print(f"{len(orders[0])} images of {SIZE} bytes, pyarrow {pa.__version__}")
    print("| form | µs an image | x folder | spread |\n|---|---|---|---|")
    for name, each in times.items():
        ratios = [a / b for a, b in zip(each[1:], times["folder"][1:], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        median = statistics.median(each[1:])
        print(f"| {name} | {median:.0f} | {statistics.median(ratios):.2f} | {spread} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
