"""What there is to say of an adapter truncated to some ranks, and of the curve that was measured over them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message
from lora_backend.verification.curve_points import RankCurve
from lora_backend.verification.spectrum import AdapterSpectrum
from lora_backend.views.table import Fill, Table

By = Literal["rank", "energy", "size"]
"""By what an adapter is truncated."""
ENERGIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Shares among which a reader chooses."""
STEPS = 40
"""Sizes among which a reader chooses."""


@dataclass(frozen=True)
class Choice:
    """One place of the slider, and the adapter that is made there."""

    by: By
    value: float
    """A rank, a share of the energy, or bytes."""
    ranks: Mapping[str, int]
    energy: float
    """Share that is kept."""
    size_bytes: int
    full_bytes: int
    """As the adapter is."""

    @property
    def highest(self) -> int:
        """The highest rank of a layer."""
        return max(self.ranks.values(), default=0)

    @property
    def lowest(self) -> int:
        """The lowest rank of a layer."""
        return min(self.ranks.values(), default=0)

    @property
    def average(self) -> float:
        """Over all layers."""
        return sum(self.ranks.values()) / max(len(self.ranks), 1)

    @property
    def limits(self) -> dict[str, Any]:
        """As an export is asked for it: `rank`, `energy`, `max_bytes`."""
        return {
            "rank": int(self.value) if self.by == "rank" else None,
            "energy": self.value if self.by == "energy" else None,
            "max_bytes": int(self.value) if self.by == "size" else None,
        }

    @property
    def rank_words(self) -> str:
        """One rank, or from which to which."""
        return str(self.lowest) if self.lowest == self.highest else f"{self.lowest}–{self.highest}"


def choice(spectrum: AdapterSpectrum, by: By, value: float) -> Choice:
    """What a place of the slider means. Raises `ModelError` for a limit that cannot be met."""
    limits: dict[By, dict[str, int]] = {}
    if by == "rank":
        limits[by] = spectrum.at_rank(int(value))
    else:
        limits[by] = spectrum.at_energy(value) if by == "energy" else spectrum.within(int(value))
    ranks = limits[by]
    return Choice(by, value, ranks, spectrum.energy_at(ranks), spectrum.bytes_at(ranks), spectrum.size_bytes)


def places(spectrum: AdapterSpectrum, by: By) -> list[float]:
    """Where the slider can stand, the smallest first."""
    if by == "rank":
        return [float(rank) for rank in range(1, spectrum.highest + 1)]
    if by == "energy":
        return list(ENERGIES)
    least, most = spectrum.least_bytes, spectrum.size_bytes
    steps = min(STEPS, max(most - least, 1))
    return [float(round(least + (most - least) * step / steps)) for step in range(steps + 1)]


def first_place(spectrum: AdapterSpectrum, by: By) -> float:
    """Where it stands at first: where 99 % of the energy is kept."""
    if by == "energy":
        return 0.99
    kept = next(
        (rank for rank in range(1, spectrum.highest + 1) if spectrum.energy_at(spectrum.at_rank(rank)) >= 0.99),
        spectrum.highest,
    )
    if by == "rank":
        return float(kept)
    wanted = spectrum.bytes_at(spectrum.at_rank(kept))
    return min(places(spectrum, by), key=lambda place: abs(place - wanted))


def place_words(by: By, value: float) -> Message:
    """A place of the slider in words."""
    if by == "rank":
        return Message("{rank}", {"rank": int(value)})
    if by == "energy":
        return Message("{percent}%", {"percent": f"{100 * value:g}"})
    return Message("{size}", {"size": size(value)})


@dataclass(frozen=True)
class EnergyLine:
    """Energy and bytes over ranks, known from the singular values alone."""

    ranks: tuple[int, ...]
    energies: tuple[float, ...]
    sizes_bytes: tuple[int, ...]


def energy_line(spectrum: AdapterSpectrum) -> EnergyLine:
    """At every rank up to the highest."""
    at = [spectrum.at_rank(rank) for rank in range(1, spectrum.highest + 1)]
    return EnergyLine(
        tuple(range(1, spectrum.highest + 1)),
        tuple(map(spectrum.energy_at, at)),
        tuple(map(spectrum.bytes_at, at)),
    )


def loss_near(curve: RankCurve, average: float) -> float:
    """The loss at a rank, straight between the two measured ones beside it; of ranks that differ, at their average."""
    points = curve.points
    if average <= points[0].rank:
        return points[0].loss
    for before, after in itertools.pairwise(points):
        if average <= after.rank:
            share = (average - before.rank) / (after.rank - before.rank)
            return before.loss + share * (after.loss - before.loss)
    return points[-1].loss


def knee_message(curve: RankCurve) -> Message:
    """Where the curve bends, and what that means."""
    knee, full = curve.knee, curve.full
    values = {
        "rank": knee.rank, "full": full.rank, "loss": number(knee.loss), "full_loss": number(full.loss),
        "size": size(knee.size_bytes), "full_size": size(full.size_bytes), "base": number(curve.base_loss),
    }  # fmt: skip
    if knee.rank == full.rank:
        return Message(
            N_("Every lower rank that was measured has a higher loss than rank {full}, so the full rank is in use."),
            values,
        )
    return Message(
        N_(
            "Rank {rank} is as good as rank {full} on these rows: loss {loss} against {full_loss}, in {size} instead of {full_size}. The base model alone has {base}."
        ),
        values,
    )


def curve_table(curve: RankCurve) -> Table:
    """A row for each rank that was measured, the knee marked."""
    heads = (
        Message(N_("Rank")), Message(N_("Loss")), Message(N_("Gain kept")), Message(N_("Energy kept")),
        Message(N_("Size")),
    )  # fmt: skip
    knee = curve.knee
    rows = tuple(
        (
            point.rank,
            number(point.loss),
            _percent(curve.gain_kept(point)),
            _percent(point.energy),
            size(point.size_bytes),
        )
        for point in curve.points
    )
    fills: list[Fill] = ["ok" if point == knee else "" for point in curve.points]
    return Table(heads, rows, tuple(fills))


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f}%"


def truncated_table(spectrum: AdapterSpectrum, chosen: Choice) -> Table:
    """Every layer: its rank, the one it would have, and the share of its own energy that this keeps."""
    heads = (
        Message(N_("Layer")), Message(N_("Rank")), Message(N_("Truncated")), Message(N_("Energy kept")),
    )  # fmt: skip
    rows = []
    for layer in spectrum.layers:
        rank, total = chosen.ranks[layer.name], sum(layer.energies)
        kept = sum(layer.energies[:rank]) / total if total else None
        rows.append((layer.name, layer.rank, rank, _percent(kept)))
    fills: list[Fill] = [""] * len(rows)
    return Table(heads, tuple(rows), tuple(fills))


@dataclass(frozen=True)
class RowsAsked:
    """Rows on which a loss can be measured."""

    code: Literal["eval", "held_back", "trained", "file"]
    path: str | None
    """As the config names it; None: whoever asks has to name a file."""
    values: Mapping[str, Any]
    """Keys of the config by which the rows are read."""
    most: int | None = None

    @property
    def is_held_back(self) -> bool:
        """Whether they are a part of the data set that is trained on."""
        return self.code == "held_back"

    @property
    def are_trained(self) -> bool:
        """Whether the adapter has learned them."""
        return self.code == "trained"

    @property
    def label(self) -> Message:
        """For people."""
        path = self.path or ""
        return Message(_ROWS[self.code], {"path": Path(path).name if Path(path).is_absolute() else path})

    def but(self, **changes: Any) -> RowsAsked:
        """The same with other values."""
        return replace(self, **changes)


_ROWS = {
    "eval": N_("The run's evaluation rows: {path}"),
    "held_back": N_("The rows that the run held out of {path}"),
    "trained": N_("The run's training rows: {path}"),
    "file": N_("Another file"),
}
READ_BY = (
    "data_format",
    "data_columns",
    "max_bad_rows",
    "max_length",
    "truncation",
    "train_on",
    "precision",
    "attn_implementation",
)
"""Keys of a run's config by which its rows are read and labelled, and its model computes."""


def rows_to_measure(config: Mapping[str, Any]) -> list[RowsAsked]:
    """What a run's config offers, held-out rows first; a file of one's own always."""
    values = {key: config[key] for key in READ_BY if key in config} | {"device_map": "cpu"}
    found: list[RowsAsked] = []
    dataset, held_out = config.get("dataset"), config.get("eval_dataset")
    if isinstance(held_out, str):
        found.append(RowsAsked("eval", held_out, values))
    if isinstance(dataset, str):
        if config.get("val_size") and not found:
            kept = {key: config[key] for key in ("val_size", "seed") if key in config}
            found.append(RowsAsked("held_back", dataset, values | kept))
        found.append(RowsAsked("trained", dataset, values))
    return [*found, RowsAsked("file", None, values)]
