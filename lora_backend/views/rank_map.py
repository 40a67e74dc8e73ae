"""Rank and scaling of every layer against what is expected of it, as cells of a map: blocks to the right, modules downwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lora_backend.formats import number
from lora_backend.i18n import N_, Message, Plural
from lora_backend.views.rank_view import LayerRow, in_blocks

Kind = Literal["known", "missing", "not_targeted", "unknown"]
"""`known`: it has a value, and one is expected of it."""
SIGNS: dict[Kind, str] = {"known": "", "missing": "✗", "not_targeted": "–", "unknown": "?"}
KINDS: dict[Kind, str] = {
    "known": "",
    "missing": N_("missing"),
    "not_targeted": N_("not targeted"),
    "unknown": N_("cannot be told"),
}


@dataclass(frozen=True)
class MapCell:
    """One layer."""

    module: str
    block: int
    kind: Kind
    difference: float | None
    """From what is expected: 0 is as expected, negative is less; None where the kind is not `known`."""
    text: str
    """What stands in the cell."""
    said: Message
    """The same in words, for whoever points at it."""


@dataclass(frozen=True)
class LayerMap:
    """All cells, and what they come to."""

    title: Message
    cells: tuple[MapCell, ...]

    @property
    def is_as_expected(self) -> bool:
        """Whether one colour says it all."""
        return all(cell.difference == 0 for cell in self.cells)

    @property
    def largest(self) -> float:
        """The largest difference, either way; 1 where there is none."""
        return max((abs(cell.difference) for cell in self.cells if cell.difference is not None), default=0) or 1

    @property
    def signs(self) -> list[Message]:
        """What the signs in it mean, those that are there."""
        there = {cell.kind for cell in self.cells}
        return [
            Message("{sign} {word}", {"sign": SIGNS[kind], "word": Message(word)})
            for kind, word in KINDS.items()
            if kind in there and word
        ]


def rank_map(rows: Iterable[LayerRow]) -> LayerMap | None:
    """None where there are no two blocks, or nothing is expected of any layer."""
    cells = tuple(map(_rank_cell, in_blocks(rows)))
    known = [cell for cell in cells if cell.kind == "known"]
    if not known:
        return None
    others = sum(cell.difference != 0 for cell in cells)
    if others:
        said = Plural("Rank: {count} layer is not as expected", "Rank: {count} layers are not as expected")
        return LayerMap(Message(said, {"count": others}), cells)
    ranks = {cell.text for cell in cells}
    if len(ranks) == 1:
        return LayerMap(Message(N_("Rank: every layer has {rank}, as expected"), {"rank": ranks.pop()}), cells)
    return LayerMap(Message(N_("Rank: every layer as expected")), cells)


def scaling_map(rows: Sequence[LayerRow]) -> LayerMap | None:
    """None where every layer is scaled as expected, or it is not known: the table says the numbers."""
    if not any(row.record.has_other_scaling for row in rows):
        return None
    cells = tuple(map(_scaling_cell, in_blocks(rows)))
    others = sum(cell.difference != 0 for cell in cells if cell.kind == "known")
    said = Plural(
        "Scaling: {count} layer is not scaled as expected", "Scaling: {count} layers are not scaled as expected"
    )
    return LayerMap(Message(said, {"count": others}), cells) if others else None


def _rank_cell(row: LayerRow) -> MapCell:
    record = row.record
    module, block, expected = record.module or "", record.block or 0, record.expected_r
    halves = [rank for rank in (record.a_r, record.b_r) if rank is not None]
    kind = _kind(row, is_known=bool(halves) and expected is not None)
    if kind != "known" or expected is None:
        return MapCell(module, block, kind, None, SIGNS[kind], Message(KINDS[kind]))
    actual = max(halves, key=lambda rank: abs(rank - expected))
    difference = actual - expected
    text = str(actual) if not difference else f"{difference:+d}".replace("-", "−")
    if not difference:
        said = Message(N_("rank {rank}, as expected"), {"rank": actual})
    else:
        said = Message(N_("rank {rank}, expected {expected}"), {"rank": actual, "expected": expected})
    return MapCell(module, block, kind, difference, text, said)


def _scaling_cell(row: LayerRow) -> MapCell:
    """How many times the scaling is what is expected: twice and half are as far away."""
    record = row.record
    module, block = record.module or "", record.block or 0
    found, wanted = record.scaling, record.expected_scaling
    is_known = found is not None and wanted is not None and found > 0 and wanted > 0
    kind = _kind(row, is_known=is_known)
    if kind != "known" or not found or not wanted:
        return MapCell(module, block, kind, None, SIGNS[kind], Message(KINDS[kind]))
    if not record.has_other_scaling:
        said = Message(N_("scaling {scaling}, as expected"), {"scaling": number(found)})
        return MapCell(module, block, kind, 0, number(found), said)
    said = Message(N_("scaling {scaling}, expected {expected}"), {"scaling": number(found), "expected": number(wanted)})
    return MapCell(module, block, kind, math.log2(found / wanted), f"×{found / wanted:.3g}", said)


def _kind(row: LayerRow, *, is_known: bool) -> Kind:
    if row.record.state == "missing":
        return "missing"
    if row.record.state == "not_targeted":
        return "not_targeted"
    return "known" if is_known else "unknown"
