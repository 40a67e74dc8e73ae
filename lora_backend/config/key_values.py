"""The types of the values that keys of a config take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[^/\\.\x00][^/\\\x00]*$", max_length=100)]
"""One component of a path (so no slash and no leading dot): it names a folder below `output_dir`."""
Index = Annotated[int, Field(ge=0)]
Rank = Annotated[int, Field(ge=1, le=65536)]
Positive = Annotated[int | float, Field(gt=0)]
