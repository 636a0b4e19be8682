"""Writes all captions of a JSONL file into one Parquet table."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from ipcv.extras import require
from ipcv.files import replaced
from ipcv.output.lines import Record

ROWS = 10_000  # held in memory at a time
TEXT = ("id", "question", "answer", "finish_reason", "key")


def write_parquet(path: Path, records: Iterable[Record]) -> None:
    """Write a row for each line; its column `record` is the whole line as JSON. `path` is replaced at the end, at once.

    Raises `ValueError` without pyarrow, and `OSError`.
    """
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    text, number = arrow.string(), arrow.float64()
    schema = arrow.schema(
        [(name, text) for name in (*TEXT, "video", "model", "data", "record")]
        + [(name, number) for name in ("start", "end")]
    )
    with replaced(path) as file, parquet.ParquetWriter(file, schema) as writer:
        rows = map(_row, records)
        while some := list(islice(rows, ROWS)):
            writer.write_table(arrow.Table.from_pylist(some, schema))


def _row(record: Record) -> dict[str, Any]:
    row = {name: _text(record[name]) for name in TEXT}
    return row | {
        "video": _text(record["video"]["path"]),
        "model": _text(record["model"]["name"]),
        "start": record["start"],
        "end": record["end"],
        "data": None if record["data"] is None else json.dumps(record["data"]),
        "record": json.dumps(record),
    }


def _text(value: str) -> str:
    """Text that UTF-8 can encode: bytes of a file name that are no characters become escapes."""
    return value.encode(errors="backslashreplace").decode()
