"""Writes images into a Parquet file as Hugging Face lays them out.

`datasets.load_dataset("parquet", data_files=…)` reads it with features `Image` and `ClassLabel`,
and `parquet.list_parquet` with one seek an image.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.shards.writer import appearing
from vitrail.errors import DataError

GROUP = 2 << 20  # bytes of images in a row group, about; a reader may decode one to read one image
ROWS = 4096  # rows in a row group at most

# Key, file, label or labels, and weight if it has one.
Sample = tuple[str, bytes, int | np.integer | Sequence[int] | NDArray[np.int64], float | None]


def write_part(path: Path, samples: Iterable[Sample], classes: Sequence[str]) -> None:
    """Write samples into one file, which is there whole or not at all.

    The first sample tells whether the data is multi-label, and whether it has weights. The key is
    kept as the `path` of an image. Equal samples give equal bytes, with the same pyarrow. No more
    than one row group is held in memory.

    Args:
        classes: their names in label order.
    Raises:
        DataError: pyarrow is missing, there are no samples, or they are unlike the first.
        StorageError: it cannot be written; what was there before is untouched.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        advice = "needs the extra parquet: pip install 'vitrail[parquet]'"
        raise DataError(f"{path}: {advice}") from None
    rest = iter(samples)
    first = next(rest, None)
    if first is None:
        raise DataError(f"{path}: no samples to write")
    schema = _schema(classes, np.ndim(first[2]) > 0, first[3] is not None)
    # Compression gains nothing on images, and statistics would hold some of them.
    options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    with appearing(path) as file, pq.ParquetWriter(file, schema, **options) as writer:
        for group in _groups(chain([first], rest)):
            writer.write_table(_table(path, group, schema), len(group))


def _schema(classes: Sequence[str], multi_label: bool, weighted: bool) -> Any:
    """Describe the columns as `datasets` does."""
    import pyarrow as pa

    label: dict[str, Any] = {"names": list(classes), "_type": "ClassLabel"}
    fields = [
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("label", pa.list_(pa.int64()) if multi_label else pa.int64()),
    ]
    features = {
        "image": {"_type": "Image"},
        "label": {"feature": label, "_type": "List"} if multi_label else label,
    }
    if weighted:
        fields.append(pa.field("weight", pa.float64()))
        features["weight"] = {"dtype": "float64", "_type": "Value"}
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Gather samples until they fill a row group."""
    group: list[Sample] = []
    size = 0
    for sample in samples:
        group.append(sample)
        size += len(sample[1])
        if size >= GROUP or len(group) == ROWS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _table(path: Path, group: Sequence[Sample], schema: Any) -> Any:
    """Make columns of samples. Raises DataError where one is unlike the first of the file."""
    import pyarrow as pa

    multi_label, weighted = pa.types.is_list(schema.field("label").type), "weight" in schema.names
    for key, _, label, weight in group:
        if (np.ndim(label) > 0) != multi_label or (weight is not None) != weighted:
            raise DataError(
                f"{path}: {key!r} has label {label!r} and weight {weight!r}, unlike the first "
                "sample; give all of them one label, or lists, and all or none a weight"
            )
    keys, files, labels, weights = zip(*group, strict=True)
    image = pa.StructArray.from_arrays(
        [pa.array(files, pa.binary()), pa.array(map(_text, keys), pa.string())],
        fields=list(schema.field("image").type),
    )
    columns = [image, pa.array(labels, schema.field("label").type)]
    if weighted:
        columns.append(pa.array(weights, pa.float64()))
    return pa.table(columns, schema=schema)


def _text(key: str) -> str:
    """Make valid UTF-8 of a file name: bytes that are not become escapes."""
    return key.encode("utf-8", "backslashreplace").decode()
