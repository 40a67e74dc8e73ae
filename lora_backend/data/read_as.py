"""How a config says that rows are to be read: by the form, its columns, the bad rows that may be left out, the split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from lora_backend.data.forms import DataFormat, why_no_columns
from lora_backend.data.unpacking import MOST_UNPACKED_BYTES


@dataclass(frozen=True)
class ReadAs:
    """The keys of a config about its rows, and what is asked of a folder with several splits."""

    data_format: DataFormat = "auto"
    data_columns: tuple[tuple[str, str], ...] = ()
    """Pairs of a form's part and the column that it is in."""
    max_bad_rows: int | None = 0
    """None: however many."""
    split: str | None = None
    most_bytes: int = MOST_UNPACKED_BYTES
    """That a packed file may unpack to."""

    @classmethod
    def of(cls, values: Mapping[str, Any], split: str | None = None) -> ReadAs:
        """What the values of a config say; what a check refuses in them is passed over."""
        form, columns, bad = (values.get(key) for key in ("data_format", "data_columns", "max_bad_rows"))
        said: DataFormat = next((word for word in get_args(DataFormat) if word == form), "auto")
        named = (
            tuple((str(part), str(column)) for part, column in columns.items()) if isinstance(columns, Mapping) else ()
        )
        return cls(
            said,
            () if why_no_columns(said, dict(named)) else named,
            bad if isinstance(bad, int) and not isinstance(bad, bool) and bad >= 0 else 0,
            split,
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReadAs:
        """What `asdict` gave, for another process."""
        columns = tuple((part, column) for part, column in data["data_columns"])
        return cls(data["data_format"], columns, data["max_bad_rows"], data["split"], data["most_bytes"])


AS_FOUND = ReadAs()
"""Where nobody says anything of the rows."""
