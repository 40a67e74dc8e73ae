"""Whether an adapter is this model's: every tensor of its file has its place there, and every place got its tensor.

A rank may be right in an adapter of which half is thrown away at loading, so ranks alone prove nothing of it. Whoever
compares (headers with headers, a file with a module tree, a file with a loaded model) says what differs by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Code = Literal["not_in_model", "not_from_file", "other_shape", "other_values", "unfit_dtype", "overwrites_base"]
"""`not_in_model`: a tensor of the file that the model has no place for. `not_from_file`: an adapter parameter of the
model that the file has no tensor for. `other_shape`, `other_values`: both are there, and differ. `unfit_dtype`: a
tensor of a dtype that no LoRA has, or of another one than the other half of its layer. `overwrites_base`: a weight of
the base model that the adapter's config does not name, and that PEFT would load in the place of the model's."""
Compared = Literal["headers", "module_tree", "loaded"]
BASE_NOT_COMPARED = "base_not_compared"
LOAD_REFUSED = "load_refused"
"""PEFT raises where these tensors are loaded; what differs says why."""


@dataclass(frozen=True)
class Difference:
    """One tensor that is not where it belongs."""

    code: Code
    name: str
    """Canonical, of the tensor; as the file calls it where the model has none."""
    layer: str | None = None
    """Canonical name of the LoRA layer that it is part of, where it is part of one."""
    file_shape: tuple[int, ...] | None = None
    model_shape: tuple[int, ...] | None = None
    dtype: str | None = None
    """Of the file's tensor, where that is what is wrong."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "name": self.name,
            "layer": self.layer,
            "file_shape": None if self.file_shape is None else list(self.file_shape),
            "model_shape": None if self.model_shape is None else list(self.model_shape),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Difference:
        """The other way round."""
        shapes = (data[key] for key in ("file_shape", "model_shape"))
        in_file, in_model = (None if shape is None else tuple(shape) for shape in shapes)
        return cls(data["code"], data["name"], data["layer"], in_file, in_model, data.get("dtype"))
