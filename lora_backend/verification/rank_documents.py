"""A rank report as a type: what the check of an adapter found, layer by layer, and what `rank_report.json` holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import from_json

from lora_backend.typed_json import Document, Part, Sentence

ReportStatus = Literal[
    "ok",
    "mismatch",
    "no_lora_layers",
    "no_adapter_here",
    "not_peft",
    "not_lora",
    "undetermined",
    "expression_too_slow",
]
"""Words for what a rank report found."""
Halves = Annotated[tuple[int | None, int | None], Field(strict=False)]
"""The ranks of A and of B, where they are not the same."""
HEAD_BYTES = 200
"""Of a report's file: what was found stands there, and the rest is a record of every layer."""


class LayerRecord(Part):
    """One LoRA layer, held against what the config asks of it. Ranks are None where there is none to tell."""

    name: str
    """Canonical: as the base model calls the module."""
    block: int | None
    """The decoder block that it is part of, counted from 0."""
    module: str | None
    """What it is called in its block, as in `q_proj`."""
    expected_r: int | None
    """Asked by the config; None for a layer that it does not target."""
    config_r: int | None
    """Asked by the adapter's own PEFT config (method 1)."""
    layer_r: int | None = None
    """What a loaded layer says of itself."""
    a_r: int | None
    """By the shape of A (method 2)."""
    b_r: int | None
    """By the shape of B, which has to be the same (method 3)."""
    shape_a: list[int] | None = None
    """Of the tensor A, as it is stored."""
    shape_b: list[int] | None = None
    """Of the tensor B."""
    alpha: int | float | None = None
    """By the adapter's own config."""
    expected_alpha: int | float | None = None
    """By the config that it is held against."""
    scaling: int | float | None = None
    """What the layer's update is multiplied by."""
    expected_scaling: int | float | None = None
    """What it should be multiplied by."""
    state: str
    """`ok`, or what is wrong or in doubt, as a code."""

    @property
    def has_other_scaling(self) -> bool:
        """Whether it is scaled by something else than what is expected of it."""
        found, wanted = self.scaling, self.expected_scaling
        return found is not None and wanted is not None and abs(found - wanted) > 1e-6 * abs(wanted)


class CoverageEntry(Part):
    """One entry of a config (`target_modules: [q_proj, …]` has several) and what it matched."""

    key: str
    """Of the config."""
    entry: Any
    """As the config has it."""
    layers: int = 0
    """How many it matched."""
    near: str | None = None
    """A name that may have been meant, where it matched none."""
    warning: str | None = None
    """Code of what there is to warn of; None where the entry matched."""


class DifferenceRecord(Part):
    """One tensor that is not where it belongs."""

    code: str
    """As in `lora_backend.verification.differences.Code`."""
    name: str
    """Canonical, of the tensor; as the file calls it where the model has none."""
    layer: str | None = None
    """The LoRA layer that it is part of, where it is part of one."""
    file_shape: list[int] | None = None
    """In the adapter's file."""
    model_shape: list[int] | None = None
    """In the model."""
    dtype: str | None = None
    """Of the file's tensor, where that is what is wrong."""


class RankReport(Document):
    """Whether an adapter carries the ranks that were asked for. The trainer writes it when the adapter is attached, and
    once more when it is saved."""

    is_consistent: bool | None
    """None: the question does not apply, or cannot be decided."""
    status: ReportStatus
    """What was found, as a code."""
    expected_r: int | None
    """`r` of the config that the adapter is held against."""
    actual_r_values: dict[str, int | Halves | None] = {}
    """Layer → its rank; two numbers where A and B have different ones."""
    mismatched_layers: list[str]
    """Names of what makes the report inconsistent."""
    warnings: list[str]
    """Codes of what is odd, whatever the ranks are."""
    layers: list[LayerRecord]
    """Every LoRA layer, and every one that is missing."""
    coverage: list[CoverageEntry] = []
    """Every entry of the config, and what it matched."""
    compared: str | None = None
    """What the tensors were held against: `headers`, `module_tree`, `loaded`; None: nothing."""
    differences: list[DifferenceRecord] = []
    """Tensors that are not where they belong."""
    base: str | None = None
    """The base model that the adapter was held against, as config or adapter name it."""
    other_base: str | None = None
    """The base model that the adapter was made on, where that is another."""
    not_compared: Sentence | None = None
    """Why it was held against no base model."""
    expression: Sentence | None = None
    """Which expression took too long to be matched."""
    subfolders: list[str] = []
    """Folders below the one that was asked about that hold an adapter."""
    saved: RankReport | None = None
    """The same for the files of the finished adapter."""

    def to_dict(self) -> dict[str, Any]:
        """The dict that `check_lora_r_consistency` promises; what was not asked has no key."""
        return self.model_dump(exclude_unset=True)


def empty_report(status: ReportStatus, is_consistent: bool | None, expected_r: int | None) -> RankReport:
    """A report without layers."""
    return RankReport(
        is_consistent=is_consistent,
        status=status,
        expected_r=expected_r,
        actual_r_values={},
        mismatched_layers=[],
        warnings=[],
        layers=[],
        coverage=[],
        compared=None,
        differences=[],
    )


def consistency_in(head: bytes) -> tuple[bool, bool | None]:
    """Whether the beginning of a report's file says what the check found, and what that is."""
    try:
        said = from_json(head, allow_partial=True)
    except ValueError:
        return False, None
    if not isinstance(said, dict) or "is_consistent" not in said:
        return False, None
    found = said["is_consistent"]
    return True, found if isinstance(found, bool) else None
