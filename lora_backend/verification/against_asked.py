"""A rank report held against exactly the layers that a config asks of its model."""

from __future__ import annotations

import math

from lora_backend.verification.asked_layers import Asked
from lora_backend.verification.judgement import CONSISTENT, WRONG
from lora_backend.verification.rank_documents import LayerRecord, RankReport, ReportStatus
from lora_backend.verification.ranks import RankRule
from lora_backend.verification.records import missing_record

UNASKED = "unasked"
"""State of a layer that carries a LoRA although the config asks for none there."""
OF_RANKS = ("ok", "mismatch", "undetermined", "not_targeted")
FOUND_HERE = ("unexpected_layer", "wrong_scaling")
"""Warnings that follow from what is expected."""


def held_against(report: RankReport, asked: Asked, rule: RankRule, *, exact: bool) -> RankReport:
    """The report of a model in memory, with `asked` as what is expected of it; `rule` is the config's.

    `exact`: a layer beyond it counts against the model, as it must where we attached the adapter ourselves.
    """
    if report.status not in ("ok", "mismatch", "undetermined"):
        return report
    ranks, before = asked.ranks, set(report.mismatched_layers)
    records = [_judged(record, asked, rule, exact=exact) for record in report.layers]
    records = [record for record in records if record.name in ranks or record.state != "missing"]
    there = {record.name for record in records}
    records += [missing_record(name, rule, None).but(expected_r=ranks[name]) for name in ranks if name not in there]
    wrong = [
        record.name for record in records if record.state in (*WRONG, UNASKED) or (record.name in before - ranks.keys())
    ]
    undecided = report.status == "undetermined" or any(record.state == "undetermined" for record in records)
    status: ReportStatus = "mismatch" if wrong else "undetermined" if undecided else "ok"
    warnings = [code for code in report.warnings if code not in FOUND_HERE]
    if any(name not in ranks for name in there):
        warnings.append("unexpected_layer")
    if any(record.has_other_scaling for record in records):
        warnings.append("wrong_scaling")
    return report.but(
        status=status,
        is_consistent=CONSISTENT[status],
        layers=records,
        mismatched_layers=list(dict.fromkeys(wrong)),
        warnings=warnings,
    )


def _judged(record: LayerRecord, asked: Asked, rule: RankRule, *, exact: bool) -> LayerRecord:
    name, state, ranks = record.name, record.state, asked.ranks
    if name not in ranks:
        return record.but(expected_r=None, state=UNASKED) if exact and state != "missing" else record
    if state in OF_RANKS and record.a_r == record.b_r is not None:
        state = "ok" if record.a_r == ranks[name] else "mismatch"
    scaling = _scaling(name, asked, rule) or record.expected_scaling
    return record.but(expected_r=ranks[name], state=state, expected_scaling=scaling)


def _scaling(name: str, asked: Asked, rule: RankRule) -> float | None:
    """Of a parameter that is several matrices of the model's files: as each of them is scaled."""
    found = asked.parameters.get(name)
    if found is None or not found.rank or not found.alpha:
        return None
    return found.alpha / (math.sqrt(found.rank) if rule.use_rslora else found.rank)
