"""Parquet: a row for each line, replaced as a whole."""

import json
import os

import pyarrow.parquet as parquet

from ipcv.output.parquet import write_parquet


def test_a_row_for_each_line(tmp_path):
    record = {
        "id": "caf\udce9.mp4",
        "question": "What?",
        "answer": "A cat.",
        "finish_reason": "stop",
        "key": "k",
        "video": {"path": "caf\udce9.mp4"},
        "model": {"name": "demo"},
        "start": 0.0,
        "end": 2.5,
        "data": None,
    }
    path = tmp_path / "captions.parquet"
    path.write_text("old")
    write_parquet(path, [record, record | {"id": "b", "data": {"caption": "A"}}])
    first, second = parquet.read_table(path).to_pylist()
    assert (first["id"], first["answer"], first["end"], first["data"]) == ("caf\\udce9.mp4", "A cat.", 2.5, None)
    assert json.loads(first["record"]) == record
    assert json.loads(second["data"]) == {"caption": "A"}
    assert os.listdir(tmp_path) == ["captions.parquet"]  # noqa: PTH208
