"""All layers of an adapter held against what its config asks: the status, and by name what is wrong or odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.verification.coverage import Targets, coverage, coverage_entry, targets_of
from lora_backend.verification.rank_documents import CoverageEntry, LayerRecord, RankReport, ReportStatus, empty_report
from lora_backend.verification.ranks import Rank, RankRule, asks_for_adalora, is_undecided
from lora_backend.verification.records import (
    actual_rank,
    is_unexpected,
    layer_record,
    layer_warnings,
    missing_record,
)
from lora_backend.verification.shapes import LoraLayer
from lora_backend.verification.wrong_values import wrong_values

MAGNITUDES = ("no_magnitude", "wrong_magnitude", "unexpected_magnitude")
"""States of a layer, and codes, for what is wrong with DoRA's magnitudes."""
WRONG = frozenset({"mismatch", "a_against_b", "unreadable", "missing", *MAGNITUDES})
"""States of a layer that make a report inconsistent."""
WRONG_VALUE = "wrong_value"
CONSISTENT: Mapping[ReportStatus, bool | None] = {"mismatch": False, "undetermined": None, "ok": True}
"""What the status of a report with layers says of it."""


@dataclass(frozen=True)
class Subject:
    """An adapter's layers, and what they are held against."""

    layers: Sequence[LoraLayer]
    config: Mapping[str, Any]
    own_config: Mapping[str, Any] | None
    expected: RankRule
    """The rule of `config`."""
    configured: RankRule | None
    """The rule of the adapter's own config."""
    targets: Targets
    must_have: Sequence[str]
    """Modules that have a LoRA if they are targeted."""
    base_names: Sequence[str]
    """All modules of the base model; empty where they are not known."""
    saved_whole: Sequence[str]
    warnings: Sequence[str]


def judge(subject: Subject) -> RankReport:
    """The report. Raises `ExpressionError` where an expression takes too long."""
    layers, expected = subject.layers, subject.expected
    missing = _missing(subject)
    if not layers:
        found_none = empty_report("no_lora_layers", False, expected.r)
        return found_none.but(mismatched_layers=missing, warnings=list(dict.fromkeys(subject.warnings)))
    ranks = [actual_rank(layer, expected) for layer in layers]
    extra = {layer.name for layer in layers if _is_extra(layer, subject)}
    records = [
        layer_record(layer, rank, expected, subject.configured, is_targeted=layer.name not in extra)
        for layer, rank in zip(layers, ranks, strict=True)
    ]
    records += [missing_record(name, expected, subject.configured) for name in missing]
    wrong = {record.name for record in records if record.state in WRONG} | _wrong_extra(subject, ranks, extra)
    states = {record.state for record in records}
    own_values, entries = _entries(subject)
    undecided = own_values or "undetermined" in states
    status: ReportStatus = "mismatch" if wrong else "undetermined" if undecided else "ok"
    found = [*subject.warnings, *layer_warnings(layers, ranks, expected)]
    found += [entry.warning for entry in entries if entry.warning]
    found += _oddities(subject, records, extra)
    return RankReport(
        is_consistent=CONSISTENT[status],
        status=status,
        expected_r=expected.r,
        actual_r_values={layer.name: rank for layer, rank in zip(layers, ranks, strict=True)},
        mismatched_layers=list(dict.fromkeys(record.name for record in records if record.name in wrong)),
        warnings=list(dict.fromkeys(found)),
        layers=records,
        coverage=entries,
        compared=None,
        differences=[],
    )


def _missing(subject: Subject) -> list[str]:
    """Modules that the config targets and that have no LoRA."""
    present = {layer.name for layer in subject.layers}
    experts = {layer.name for layer in subject.layers if layer.kind == "experts"}
    return [
        name
        for name in subject.must_have
        if name not in present and subject.targets.matches(name) and name.rpartition(".")[0] not in experts
    ]


def _wrong_extra(subject: Subject, ranks: Sequence[Rank], extra: set[str]) -> set[str]:
    """Of the layers that are not targeted, those that have not even the rank that the config would give them."""
    return {
        layer.name
        for layer, rank in zip(subject.layers, ranks, strict=True)
        if layer.name in extra and not is_undecided(layer) and rank != subject.expected.for_layer(layer.pattern_name)
    }


def _entries(subject: Subject) -> tuple[bool, list[CoverageEntry]]:
    """Whether the adapter's own config has values that PEFT cannot use, and what each entry of the configs matched."""
    config, own = subject.config, subject.own_config
    of_own = [] if own is None else _wrong_values(own, "" if own == config else "adapter_config.json: ")
    of_config = [] if own == config else _wrong_values(config)
    converted = _converted(subject.targets, own)
    matched = coverage(config, subject.targets, subject.layers, subject.saved_whole, converted, subject.base_names)
    return bool(of_own), [*of_own, *of_config, *matched]


def _wrong_values(config: Mapping[str, Any], where: str = "") -> list[CoverageEntry]:
    found = wrong_values(config, is_adalora=asks_for_adalora(config))
    return [coverage_entry(where + key, entry, 0, WRONG_VALUE) for key, entry in found]


def _oddities(subject: Subject, records: Sequence[LayerRecord], extra: set[str]) -> Iterator[str]:
    """Codes for what is odd about layers beside the configs."""
    states = {record.state for record in records}
    yield from (state for state in MAGNITUDES if state in states)
    if any(record.has_other_scaling for record in records):
        yield "wrong_scaling"
    if subject.configured is not None and subject.configured.use_dora != subject.expected.use_dora:
        yield "other_dora"
    if extra:
        yield "unexpected_layer"


def _is_extra(layer: LoraLayer, subject: Subject) -> bool:
    return is_unexpected(layer, subject.targets) and not _is_tied(layer, subject.layers, subject.config)


def _is_tied(layer: LoraLayer, layers: Sequence[LoraLayer], config: Mapping[str, Any]) -> bool:
    """With `ensure_weight_tying` PEFT puts a LoRA on the other end of the tied weight too: the embedding's, transposed."""
    if not config.get("ensure_weight_tying"):
        return False
    if layer.kind == "embedding":
        return True
    embeddings = (other for other in layers if other.kind == "embedding" and other.shape_a and other.shape_b)
    return any(
        (layer.shape_a, layer.shape_b) == (e.shape_b[::-1], e.shape_a[::-1])
        for e in embeddings
        if e.shape_a and e.shape_b
    )


def _converted(targets: Targets, own_config: Mapping[str, Any] | None) -> set[str]:
    """Modules that the config targets and that PEFT's own config has as parameters of experts.

    PEFT: `_convert_peft_config_moe` in peft/utils/transformers_weight_conversion.py.
    """
    own = targets_of(own_config or {})
    if not own.parameters or targets.parameters or not isinstance(targets.modules, tuple):
        return set()
    return set(targets.modules) - set(own.modules or ())
