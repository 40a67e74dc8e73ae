"""The ranks of an adapter: a row for each layer with its state in words, and two adapters side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.i18n import N_, Message
from lora_backend.verification.layer_health import LayerHealth
from lora_backend.verification.rank_documents import LayerRecord, RankReport
from lora_backend.verification.ranks import Rank
from lora_backend.verification.shapes import block_of
from lora_backend.views.table import Cell, Fill, Table

STATES = {
    "ok": N_("OK"),
    "mismatch": N_("wrong rank"),
    "a_against_b": N_("A and B differ"),
    "unreadable": N_("not readable"),
    "missing": N_("missing"),
    "not_targeted": N_("not targeted"),
    "no_magnitude": N_("no DoRA magnitude"),
    "wrong_magnitude": N_("DoRA magnitude of the wrong size"),
    "unexpected_magnitude": N_("DoRA magnitude not asked for"),
    "unasked": N_("not asked for"),
    "undetermined": N_("cannot be told"),
    "not_in_model": N_("not in the model"),
    "not_from_file": N_("not from the file"),
    "other_shape": N_("other shape"),
    "other_values": N_("other values"),
    "unfit_dtype": N_("invalid type"),
}
"""Each state of a layer in a word or two."""
OTHER_SCALING = N_("other scaling")
UNKNOWN_STATE = N_("of another version")
SIGNS: Mapping[Fill, str] = {"ok": "✓", "missing": "?", "changed": "~", "wrong": "✗"}
"""Of each fill, for colour never stands alone."""


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer: what the rank check found, and what its values say where they were read."""

    record: LayerRecord
    health: LayerHealth | None = None

    @property
    def effective_rank(self) -> float | None:
        return None if self.health is None else self.health.effective_rank

    @property
    def norm(self) -> float | None:
        return None if self.health is None else self.health.norm

    @property
    def fill(self) -> Fill:
        if self.record.state == "ok":
            return "changed" if self.record.has_other_scaling else "ok"
        fills: Mapping[str, Fill] = {"undetermined": "missing", "not_targeted": "changed"}
        return fills.get(self.record.state, "wrong")

    @property
    def is_in_order(self) -> bool:
        """Whether the layer is in all that is told of it what it should be."""
        return self.fill == "ok"

    @property
    def state(self) -> Message:
        """A sign and a word."""
        is_scaling = self.record.state == "ok" and not self.is_in_order
        word = OTHER_SCALING if is_scaling else STATES.get(self.record.state, UNKNOWN_STATE)
        return Message("{sign} {word}", {"sign": SIGNS[self.fill], "word": Message(word)})

    def to_dict(self) -> dict[str, Any]:
        """For an export: the record, and the figures of its values, None where they were not read."""
        names = ("dtype", "norm", "effective_rank", "needed_rank", "has_nonfinite", "adds_nothing")
        return self.record.to_json() | {name: getattr(self.health, name, None) for name in names}


Column = tuple[str, Callable[[LayerRow], Cell]]
NAME: Column = (N_("Layer"), lambda row: row.record.name)
PLACE: tuple[Column, ...] = (
    (N_("Block"), lambda row: row.record.block),
    (N_("Module"), lambda row: row.record.module),
)
RANKS: tuple[Column, ...] = (
    (N_("Expected rank"), lambda row: row.record.expected_r),
    ("adapter_config.json", lambda row: row.record.config_r),
    ("A", lambda row: row.record.a_r),
    ("B", lambda row: row.record.b_r),
)
OF_OTHER_SCALING: tuple[Column, ...] = (
    (N_("Expected alpha"), lambda row: row.record.expected_alpha),
    (N_("Alpha"), lambda row: row.record.alpha),
)
SCALING: tuple[Column, ...] = (
    (N_("Expected scaling"), lambda row: row.record.expected_scaling),
    (N_("Scaling"), lambda row: row.record.scaling),
)
OF_VALUES: tuple[Column, ...] = (
    (N_("Effective rank"), lambda row: None if row.effective_rank is None else round(row.effective_rank, 1)),
    (N_("Needed rank"), lambda row: None if row.health is None else row.health.needed_rank),
    (N_("Norm"), lambda row: None if row.norm is None else float(f"{row.norm:.3g}")),
    (N_("Type"), lambda row: None if row.health is None else row.health.dtype),
)


def layer_rows(report: RankReport, health: Mapping[str, LayerHealth]) -> list[LayerRow]:
    """The layers from block to block, those outside of blocks last."""
    rows = (LayerRow(record, health.get(record.name)) for record in report.layers)
    return sorted(rows, key=lambda row: (row.record.block is None, row.record.block or 0))


def rank_table(rows: Sequence[LayerRow], *, narrow: bool = False) -> Table:
    """Expected rank, what PEFT's config says, what A and B are, what is known of the layer's values.

    `narrow`: for a terminal, where a layer's name says its block and its module.
    """
    columns: list[Column] = [NAME, *(() if narrow else PLACE), *RANKS]
    is_scaled_otherwise = any(row.record.has_other_scaling for row in rows)
    if is_scaled_otherwise:
        columns += OF_OTHER_SCALING
    if is_scaled_otherwise or (not narrow and any(row.record.scaling is not None for row in rows)):
        columns += SCALING
    if any(row.norm is not None for row in rows):
        columns += OF_VALUES
    return Table(
        (Message(N_("State")), *(Message(head) for head, _ in columns)),
        tuple((row.state, *(_rounded(value(row)) for _, value in columns)) for row in rows),
        tuple(row.fill for row in rows),
    )


def rank_text(report: RankReport) -> str:
    """The layers of a report for a terminal or a log."""
    return rank_table([LayerRow(record) for record in report.layers], narrow=True).text()


def _rounded(value: Cell) -> Cell:
    return round(value, 3) if isinstance(value, float) else value


def ranks_beside(one: Mapping[str, Rank], other: Mapping[str, Rank]) -> Table:
    """The ranks of two adapters, what differs first, then from block to block.

    A layer that only one of them has is told as missing in the other.
    """

    def place(name: str) -> tuple[bool, int, str]:
        block = block_of(name)
        return name in one and name in other and one[name] == other[name], -1 if block is None else block, name

    rows: list[tuple[Cell, ...]] = []
    fills: list[Fill] = []
    for name in sorted({*one, *other}, key=place):
        state, fill = _beside(name, one, other)
        rows.append((Message(state), name, *(_rank(side[name]) if name in side else "–" for side in (one, other))))
        fills.append(fill)
    heads = (N_("State"), N_("Layer"), N_("This adapter"), N_("The other adapter"))
    return Table(tuple(map(Message, heads)), tuple(rows), tuple(fills))


def _beside(name: str, one: Mapping[str, Rank], other: Mapping[str, Rank]) -> tuple[str, Fill]:
    if name not in one:
        return N_("− missing here"), "missing"
    if name not in other:
        return N_("− missing in the other"), "missing"
    return (N_("= same rank"), "") if one[name] == other[name] else (N_("~ other rank"), "changed")


def _rank(value: Rank) -> Cell:
    return Message(N_("unreadable")) if value is None else str(value)


def in_blocks(rows: Iterable[LayerRow]) -> list[LayerRow]:
    """The layers that stand in blocks, where there are at least two of those: what a heat map is drawn of."""
    found = [row for row in rows if row.record.block is not None]
    return found if len({row.record.block for row in found}) > 1 else []
