"""Rows of Parquet and Arrow files, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from lora_backend.data.raw_rows import RawRow
from lora_backend.errors import DataError, first_line
from lora_backend.i18n import N_

BATCH_ROWS = 256
BUFFER_BYTES = 2**20


def parquet_rows(file: IO[bytes], name: str) -> Iterator[RawRow]:
    """Each row of a Parquet file. Raises `DataError` where it is cut off or damaged."""
    import pyarrow.parquet as pq

    def batches() -> Iterator[Any]:
        with pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False) as table:
            yield from table.iter_batches(batch_size=BATCH_ROWS, use_threads=False)

    return _rows(batches(), name, "Parquet")


def arrow_rows(file: IO[bytes], name: str) -> Iterator[RawRow]:
    """Each row of an Arrow file, with or without a footer (`datasets` writes none). Raises `DataError` as above."""
    import pyarrow as pa

    def batches() -> Iterator[Any]:
        has_footer = file.read(6) == b"ARROW1"
        file.seek(0)
        if has_footer:
            with pa.ipc.open_file(file) as table:
                for index in range(table.num_record_batches):
                    yield table.get_batch(index)
        else:
            with pa.ipc.open_stream(file) as table:
                yield from table

    return _rows(batches(), name, "Arrow")


def _rows(batches: Iterator[Any], name: str, kind: str) -> Iterator[RawRow]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                for row in batch.slice(start, BATCH_ROWS).to_pylist():
                    number += 1
                    yield RawRow(number, None, name, _without_nulls(row))
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            N_(
                "{file} is not a complete {kind} file ({reason}). It was cut off or is damaged; copy or download it again."
            ),
            file=name,
            kind=kind,
            reason=first_line(error),
        ) from error
    except UnicodeDecodeError:
        raise DataError(
            N_("Row {row} of {file} contains text that is not UTF-8. Write the file again."), row=number + 1, file=name
        ) from None


def _without_nulls(value: Any) -> Any:
    """A table gives every row the keys of all others; those without a value are not the row's own."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):  # a map
            return {str(key): _without_nulls(item) for key, item in value if item is not None}
        return [_without_nulls(item) for item in value]
    return value
