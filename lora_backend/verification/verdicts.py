"""What a rank report comes to: one sentence and one colour. Every page and command asks here."""

from __future__ import annotations

from lora_backend.i18n import N_, Message, Plural, in_code
from lora_backend.terminal import Tone
from lora_backend.verification.base_words import other_base_words
from lora_backend.verification.differences import BASE_NOT_COMPARED, LOAD_REFUSED
from lora_backend.verification.rank_documents import DifferenceRecord, LayerRecord, RankReport

NO_LORA_FOUND = N_("⚠️  Warning: no LoRA parameters found. Was the model really loaded with its adapter?")
"""Users of the original tool know this line by its words."""
TONES: dict[Tone | None, str] = {
    "good": N_("OK"),
    "doubt": N_("uncertain"),
    "bad": N_("wrong"),
    None: N_("not checked"),
}
"""Each in a word; None for what was not checked."""
HARMLESS = frozenset({"merged", "partitioned", "legacy_merged_linear"})
"""Warnings that say how something was read, and not that it may be wrong."""
NAMED = 3
"""Layers or tensors that a sentence names."""
SENTENCES = {
    "no_lora_layers": NO_LORA_FOUND,
    "no_adapter_here": N_("There is no adapter in this folder: it has no adapter_config.json."),
    "not_peft": N_("The adapter_config.json in this folder is not PEFT's, so the question does not apply."),
    "not_lora": N_("The adapter is not a LoRA, so the question does not apply."),
    "expression_too_slow": N_("A regular expression in the config takes too long to match, so this cannot be checked."),
    "undetermined": N_("Shapes alone do not determine every rank: load the base model and the adapter to decide."),
}
LORA_LAYERS = Plural("{count} LoRA layer", "{count} LoRA layers")
OF_LAYERS = {
    "wrong": Plural(
        "{count} of {layers} has the wrong rank, first {first}.",
        "{count} of {layers} have the wrong rank, first {first}.",
    ),
    "unreadable": Plural(
        "The tensors of {count} LoRA layer cannot be read as LoRA, first {first}.",
        "The tensors of {count} LoRA layers cannot be read as LoRA, first {first}.",
    ),
    "not_targeted": Plural(
        "{count} LoRA layer is not targeted by the config and has another rank than its `r`, first {first}.",
        "{count} LoRA layers are not targeted by the config and have another rank than its `r`, first {first}.",
    ),
    "no_magnitude": Plural(
        "{count} DoRA layer has no magnitude vector, first {first}.",
        "{count} DoRA layers have no magnitude vector, first {first}.",
    ),
    "wrong_magnitude": Plural(
        "{count} DoRA layer has a magnitude vector of the wrong size, first {first}.",
        "{count} DoRA layers have a magnitude vector of the wrong size, first {first}.",
    ),
    "unexpected_magnitude": Plural(
        "{count} LoRA layer has a DoRA magnitude vector although `use_dora` is off, first {first}.",
        "{count} LoRA layers have a DoRA magnitude vector although `use_dora` is off, first {first}.",
    ),
    "missing": Plural(
        "{count} targeted layer has no LoRA, first {first}.", "{count} targeted layers have no LoRA, first {first}."
    ),
    "unasked": Plural(
        "{count} layer has a LoRA that the config does not ask for, first {first}.",
        "{count} layers have a LoRA that the config does not ask for, first {first}.",
    ),
}
OF_TENSORS = {
    "not_in_model": Plural(
        "{count} tensor of the file has no place in the model, first {first}.",
        "{count} tensors of the file have no place in the model, first {first}.",
    ),
    "not_from_file": Plural(
        "{count} adapter parameter of the model is not in the file, first {first}.",
        "{count} adapter parameters of the model are not in the file, first {first}.",
    ),
    "other_shape": Plural(
        "{count} tensor has another shape than in the model (file → model), first {first}.",
        "{count} tensors have another shape than in the model (file → model), first {first}.",
    ),
    "other_values": Plural(
        "{count} tensor has other values than in the model, first {first}.",
        "{count} tensors have other values than in the model, first {first}.",
    ),
    "unfit_dtype": Plural(
        "{count} tensor has a dtype that no LoRA has, or that the other half of the layer does not have, first {first}.",
        "{count} tensors have a dtype that no LoRA has, or that the other half of the layer does not have, first {first}.",
    ),
    "overwrites_base": Plural(
        "{count} tensor of the file replaces a weight of the base model that adapter_config.json does not name, first {first}.",
        "{count} tensors of the file replace weights of the base model that adapter_config.json does not name, first {first}.",
    ),
}


def tone(report: RankReport) -> Tone:
    """Which colour a report deserves: green only where it is consistent and nothing is in doubt."""
    decides = deciding(report)
    if decides.is_consistent is False:
        return "bad"
    return "doubt" if decides.is_consistent is None or doubts(decides) else "good"


def deciding(report: RankReport) -> RankReport:
    """Of a run's report, which has the one of its saved adapter inside, that of the two which is worse.

    The saved adapter needs no other base model to be compared with: it was in its own when it was saved.
    """
    saved = report.saved
    if saved is None or report.is_consistent is False:
        return report
    saved = saved.but(warnings=[code for code in saved.warnings if code != BASE_NOT_COMPARED])
    is_whole = saved.is_consistent is True and not doubts(saved)
    return report if is_whole else saved


def doubts(report: RankReport) -> list[str]:
    """The warning codes for which a consistent report is not green."""
    return [code for code in report.warnings if code not in HARMLESS]


def verdict(report: RankReport) -> Message:
    """The report in one sentence."""
    status = report.status
    if status == "expression_too_slow" and report.expression is not None:
        return report.expression
    if status == "ok":
        return _ok(report)
    if status == "mismatch":
        return Message("{reasons}", {"reasons": _reasons(report)})
    if status == "undetermined" and report.expected_r is None:
        return Message(N_("`r` in the config is not a whole number, so there is no rank to expect. Set `r`."))
    if status == "undetermined" and (wrong := _wrong_values(report)):
        return Message(
            N_("A value of the wrong type makes it impossible to judge the ranks. Fix {values}."),
            {"values": in_code(wrong)},
        )
    return Message(SENTENCES[status])


def _wrong_values(report: RankReport) -> list[str]:
    found = [entry for entry in report.coverage if entry.warning == "wrong_value"]
    return [f"{entry.key}: {entry.entry}" for entry in found[:NAMED]]


def _ok(report: RankReport) -> Message:
    """What is proven of the adapter, as far as it was compared, and whether something is in doubt."""
    layers = report.layers
    extra = sum(record.state == "not_targeted" for record in layers)
    values = {"count": len(layers) - extra, "layers": Message(LORA_LAYERS, {"count": len(layers)})}
    said = [
        Message(
            Plural("{count} of {layers} has the expected rank.", "{count} of {layers} have the expected rank."), values
        )
    ]
    if extra:
        said.append(
            Message(
                Plural("{count} is not targeted by the config.", "{count} are not targeted by the config."),
                {"count": extra},
            )
        )
    other_doubts = len([code for code in doubts(report) if code != BASE_NOT_COMPARED])
    if BASE_NOT_COMPARED in report.warnings:
        said.insert(0, Message(N_("Ranks OK, not compared with a base model.")))
    elif report.compared == "loaded":
        said.append(Message(N_("Every tensor of the file is in the model.")))
    elif report.compared:
        said.append(Message(N_("Every tensor of the file has its place in the base model.")))
    if other_doubts:
        said.append(
            Message(
                Plural("{count} warning needs your attention.", "{count} warnings need your attention."),
                {"count": other_doubts},
            )
        )
    return said[0] if len(said) == 1 else Message("{reasons}", {"reasons": said})


def _reasons(report: RankReport) -> list[Message]:
    """Each kind of thing that is wrong: how often, and where first."""
    bad, wrong = set(report.mismatched_layers), dict[str, list[str]]()
    for record in report.layers:
        if record.name in bad and record.state not in ("ok", "undetermined", *OF_TENSORS):
            kind = record.state if record.state in OF_LAYERS else "wrong"
            wrong.setdefault(kind, []).append(_with_ranks(record))
    for item in report.differences:
        wrong.setdefault(item.code, []).append(_named(item))
    if not wrong and LOAD_REFUSED in report.warnings:
        return [Message(N_("PEFT refuses to load the adapter into this model."))]
    if not wrong:
        wrong["wrong"] = list(report.mismatched_layers)
    layers = Message(LORA_LAYERS, {"count": sum(record.state != "missing" for record in report.layers)})
    reasons = [other_base_words(report)] if report.other_base else []
    return reasons + [
        Message(template, {"count": len(names), "layers": layers, "first": ", ".join(names[:NAMED])})
        for kind, template in (OF_LAYERS | OF_TENSORS).items()
        if (names := wrong.get(kind))
    ]


def _named(item: DifferenceRecord) -> str:
    """A tensor that differs, with its shapes or its dtype where they are what differs."""
    if item.code == "other_shape":
        sides = ("×".join(map(str, side)) if side else "–" for side in (item.file_shape, item.model_shape))
        return f"{item.name} ({' → '.join(sides)})"
    return f"{item.name} ({item.dtype})" if item.code == "unfit_dtype" else item.name


def _with_ranks(record: LayerRecord) -> str:
    """A layer, with the ranks that are what is wrong with it."""
    if record.state == "a_against_b":
        return f"{record.name} (A {_or_none(record.a_r)}, B {_or_none(record.b_r)})"
    return f"{record.name} ({record.a_r} ≠ {record.expected_r})" if record.state == "mismatch" else record.name


def _or_none(rank: int | None) -> str:
    return "–" if rank is None else str(rank)
