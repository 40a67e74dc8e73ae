"""The same rows in every kind of file."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[Mapping[str, Any]]


def _flat(row: Mapping[str, Any]) -> dict[str, str]:
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in row.items()}


def _delimited(rows: Rows, delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(map(_flat, rows))
    return text.getvalue().encode()


def _table(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows])


def _parquet(rows: Rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(_table(rows), out)
    return out.getvalue()


def _arrow(rows: Rows, writer: Any) -> bytes:
    out, table = io.BytesIO(), _table(rows)
    with writer(out, table.schema) as file:
        file.write_table(table)
    return out.getvalue()


WRITERS: dict[str, Callable[[Rows], bytes]] = {
    "jsonl": lambda rows: b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows),
    "json": lambda rows: json.dumps(list(rows), indent=1).encode(),
    "csv": lambda rows: _delimited(rows, ","),
    "tsv": lambda rows: _delimited(rows, "\t"),
    "parquet": _parquet,
    "arrow": lambda rows: _arrow(rows, pa.ipc.new_stream),
    "feather": lambda rows: _arrow(rows, pa.ipc.new_file),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}
KINDS = tuple(WRITERS)


def written(folder: Path, rows: Rows, kind: str, packing: str = "", name: str = "rows") -> Path:
    """A file of that kind in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{kind}{packing}"
    path.write_bytes(PACKERS[packing](WRITERS[kind](rows)))
    return path
