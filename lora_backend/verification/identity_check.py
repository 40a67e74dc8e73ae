"""A rank report that also answers for identity: whether every tensor of the file is where it belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lora_backend.verification.differences import BASE_NOT_COMPARED, Compared, Difference
from lora_backend.verification.rank_documents import DifferenceRecord, LayerRecord, RankReport


def with_identity(report: RankReport, compared: Compared | None, differences: Sequence[Difference] = ()) -> RankReport:
    """`report`, in which any difference is a mismatch, beside those that it has.

    `compared`: what the file was held against, None where nothing was at hand, which the report warns of.
    """
    warnings = [*report.warnings, *dict.fromkeys(difference.code for difference in differences)]
    warnings = [code for code in warnings if code != BASE_NOT_COMPARED]
    if compared is None:
        warnings.append(BASE_NOT_COMPARED)
    said = {(item.code, item.name) for item in report.differences}
    new = [DifferenceRecord(**item.to_dict()) for item in differences if (item.code, item.name) not in said]
    found = report.but(
        compared=compared, differences=[*report.differences, *new], warnings=list(dict.fromkeys(warnings))
    )
    if not differences:
        return found
    wrong = [item.layer or item.name for item in differences]
    return found.but(
        status="mismatch",
        is_consistent=False,
        layers=list(_told_apart(report, differences)),
        mismatched_layers=list(dict.fromkeys([*report.mismatched_layers, *wrong])),
    )


def _told_apart(report: RankReport, differences: Sequence[Difference]) -> Iterator[LayerRecord]:
    """The layers, of which those are not in order whose rank is right and whose tensors are not."""
    codes = {item.layer: item.code for item in reversed(differences) if item.layer}
    wrong = set(report.mismatched_layers)
    for record in report.layers:
        name, state = record.name, record.state
        is_right = state in ("ok", "undetermined") or (state == "not_targeted" and name not in wrong)
        yield record.but(state=codes[name]) if is_right and name in codes else record
