"""Parquet files made for the tests; their images are bytes that nothing decodes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NAMES = ("zebra", "ant", "c10", "c9")  # not in natural order
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def content(i: int) -> bytes:
    """The bytes that stand for image i; their length differs."""
    return f"image {i} ".encode() * (i % 5 + 1)


def images(n: int, first: int = 0) -> pa.Array:
    rows = [{"bytes": content(i), "path": f"{i}.png"} for i in range(first, first + n)]
    return pa.array(rows, STRUCT)


def metadata(**features: Any) -> dict[str, str]:
    return {"huggingface": json.dumps({"info": {"features": features}})}


def class_label(names: Sequence[Any] = NAMES) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


def write(path: Path, columns: dict[str, Any], told: dict[str, Any] | None = None, **options: Any):
    """Write columns; what is told about them is the metadata."""
    table = pa.table(columns).replace_schema_metadata(told)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **({"compression": "none"} | options))
    return str(path)


def write_set(path: Path, n: int = 12, first: int = 0, **options: Any) -> str:
    """Write images whose labels the metadata names."""
    columns = {"image": images(n, first), "label": [i % 4 for i in range(first, first + n)]}
    return write(path, columns, metadata(label=class_label()), **options)
