"""The types of the values that keys of a config take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lora_backend.config.options import Tracker

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[^/\\.\x00][^/\\\x00]*$", max_length=100)]
"""One component of a path (so no slash and no leading dot): it names a folder below `output_dir`."""
Index = Annotated[int, Field(ge=0)]
Rank = Annotated[int, Field(ge=1, le=65536)]
Positive = Annotated[int | float, Field(gt=0)]
Share = Annotated[int | float, Field(ge=0, le=1000)]


class DatasetShare(BaseModel):
    """One of several data sets, and how much of it an epoch trains on."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    path: Text
    """A file or folder of rows, or the id of a data set in the hub's cache."""
    share: Share = 1
    """Times that each of its rows comes in an epoch; 0.5: half of them, and the other half in the next epoch."""
    split: Text | None = None
    """The split of a hub's data set, or the folder within a folder."""


DatasetShares = Annotated[list[DatasetShare], Field(min_length=1)]

Trackers = Annotated[list[Tracker], Field(min_length=1)]
