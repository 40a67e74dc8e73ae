"""What a report's comparison with a base model comes to, in words."""

from __future__ import annotations

from lora_backend.i18n import N_, Message
from lora_backend.verification.rank_documents import DifferenceRecord, RankReport

WHAT_DIFFERS = {
    "not_in_model": N_("no place in the model"),
    "not_from_file": N_("not in the file"),
    "other_shape": N_("other shape"),
    "other_values": N_("other values"),
    "unfit_dtype": N_("a dtype that no LoRA has, or not the other half's"),
    "overwrites_base": N_("replaces a weight of the base model"),
}
"""Each code of a difference."""
_COMPARED = {
    "headers": N_("Compared with the safetensors headers of {base}."),
    "module_tree": N_("Compared with the modules of {base}, built without its weights."),
}


def comparison_words(report: RankReport) -> list[Message]:
    """What the adapter was held against, or why it was not; none of a report without a folder's comparison."""
    said = []
    base, reason = report.base, report.not_compared
    if report.compared in _COMPARED:
        said.append(Message(_COMPARED[report.compared], {"base": base or "–"}))
    elif reason and base:
        said.append(Message(N_("Not compared with {base}: {reason}"), {"base": base, "reason": reason}))
    elif reason:
        said.append(reason)
    if report.other_base:
        said.append(other_base_words(report))
    return said


def other_base_words(report: RankReport) -> Message:
    """That the adapter was made on another model than the one that it is held against."""
    values = {"other": report.other_base, "base": report.base or "–"}
    return Message(N_("The adapter was trained on {other}, not on {base}."), values)


def difference_line(item: DifferenceRecord) -> Message:
    """One difference: the tensor, what differs, and both shapes."""
    file, model = sides_of(item)
    values = {"name": item.name, "what": Message(WHAT_DIFFERS[item.code]), "file": file, "model": model}
    return Message(N_("{name}: {what} (file {file}, model {model})"), values)


def sides_of(item: DifferenceRecord) -> tuple[str, str]:
    """What the tensor is in the file and in the model: its shape, or the dtype where that is what differs."""
    shapes = (item.file_shape, item.model_shape)
    file, model = ("–" if shape is None else " × ".join(map(str, shape)) for shape in shapes)
    return item.dtype or file, model
