"""A run's points as columns, and few enough of them to draw without losing a spike."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from lora_backend.bounded import load_json
from lora_backend.runs.record.locked_files import read_lines

COLUMNS = ("step", "epoch", "loss", "eval_loss", "eval_token_accuracy", "learning_rate", "grad_norm", "tokens_per_s", "memory_bytes", "time")  # fmt: skip
Column = NDArray[np.float64]
SMOOTHED_SHARE, LEAST_SPAN = 0.07, 3
"""Share of the points that a smoothed curve is an average over, and the fewest points that are."""
POINTS = 2000
"""What a chart shows of one curve at most."""


def read_columns(path: Path) -> dict[str, Column]:
    """The points of a `metrics.jsonl`, a column a figure, NaN where a point lacks it; empty without the file.

    A line that is half written, or is no object, is left out; of a very long file the newest points are taken.
    """
    try:
        data = read_lines(path)
    except OSError:
        return {}
    whole = data[: data.rfind(b"\n") + 1]
    if not whole.strip():
        return {}
    try:
        schema = pa.schema([(name, pa.float64()) for name in COLUMNS])
        table = arrow_json.read_json(
            io.BytesIO(whole),
            parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        return {name: table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in COLUMNS}
    except (pa.ArrowInvalid, ValueError):  # a line of another form; slower, and one by one
        return _read_one_by_one(whole)


def _read_one_by_one(data: bytes) -> dict[str, Column]:
    rows = []
    for line in io.BytesIO(data):
        try:
            row = load_json(line, "metrics.jsonl")
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append([_number(row.get(name)) for name in COLUMNS])
    table = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
    return {name: table[:, index] for index, name in enumerate(COLUMNS)}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:  # a whole number that no float holds
        return float("nan")


def points(columns: dict[str, Column], name: str, over: str = "step") -> tuple[Column, Column]:
    """One curve: where the figure is there, over `step`, `time` (seconds since the run's first point) or `tokens`."""
    if name not in columns:
        return np.array([]), np.array([])
    along = columns["step"] if over == "step" else _seconds(columns) if over == "time" else _tokens(columns)
    there = np.isfinite(columns[name]) & np.isfinite(along)
    return along[there], columns[name][there]


def _seconds(columns: dict[str, Column]) -> Column:
    known = columns["time"][np.isfinite(columns["time"])]
    return columns["time"] - (known[0] if len(known) else 0.0)


def _tokens(columns: dict[str, Column]) -> Column:
    """Tokens trained on until each point: speed × the time since the point before."""
    spent_s = np.diff(columns["time"], prepend=columns["time"][:1])
    return np.cumsum(np.nan_to_num(columns["tokens_per_s"]) * np.nan_to_num(spent_s))


def downsample(x: Column, y: Column, limit: int = POINTS) -> tuple[Column, Column]:
    """At most `limit` points: of each stretch its first, last, lowest and highest, so that no spike is lost."""
    if len(x) <= limit:
        return x, y
    edges = np.linspace(0, len(x), max(limit // 4, 1) + 1).astype(int)
    kept: list[int] = []
    for start, stop in pairwise(edges):
        stretch = y[start:stop]
        kept += sorted({start, stop - 1, start + int(stretch.argmin()), start + int(stretch.argmax())})
    return x[kept], y[kept]


def span_of(num_points: int, share: float = SMOOTHED_SHARE) -> int:
    """Over how many points a curve of `num_points` is smoothed for a share of them; 1, not at all, for none."""
    return max(round(share * num_points), LEAST_SPAN) if share > 0 else 1


def smooth(y: Column, span: int) -> Column:
    """Exponential moving average over about `span` points.

    Without the bias of its beginning: it starts at the first value. A curve that falls or rises steadily is followed
    within half the span.
    """
    if span <= 1:
        return y
    import pandas as pd  # only where a curve is drawn

    return pd.Series(y).ewm(span=span, adjust=True).mean().to_numpy()


def last_value(rows: Sequence[dict[str, object]], name: str) -> float | None:
    """The newest value of a figure that not every point has."""
    found = (_number(row.get(name)) for row in reversed(rows))
    return next((value for value in found if np.isfinite(value)), None)
