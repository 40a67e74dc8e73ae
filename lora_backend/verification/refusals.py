"""What a config asks for and no adapter can be: why, and the nearest config that can."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.patch import DELETE, Patch
from lora_backend.i18n import N_, Message
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.asked_layers import Asked
from lora_backend.verification.coverage import is_all_linear

CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
"""PEFT: `ModulesToSaveWrapper.check_module` in peft/utils/other.py."""
STARTS_OF_PARAMETERS = (True, False, "gaussian")
"""Values of `init_lora_weights` that PEFT's layer for parameters knows."""
FROM_WEIGHTS = ("pissa", "olora")
OF_OTHER_SHAPE = ("Embedding", "Linear4bit")
"""An embedding starts by itself; a loaded 4-bit layer holds its weights packed, and was looked at before it was loaded."""


@dataclass(frozen=True)
class Refusal:
    """Why a config cannot be attached as it says."""

    code: str
    key: str
    message: Message
    remedy: Message
    changes: tuple[Patch, ...] = ()
    """What makes it a config near it that can, the nearest first."""


def refusals(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> list[Refusal]:
    """All that keeps `asked` from being attached exactly; empty where it can be."""
    rules = (
        _single_experts,
        _unfit,
        _nothing_matched,
        _not_in_layers,
        _towers_alone,
        _refused_by_peft,
        _halves,
        _uneven,
        _of_parameters,
        _narrow_start,
    )
    found = [refusal for rule in rules for refusal in rule(config, asked, tree)]
    return [*found, *_saved_whole(config, asked, tree)]


def nearest(entry: str, names: Iterable[str]) -> str | None:
    """The name that `entry` may have meant: another module of its ending, else one that is spelled alike."""
    last = entry.rpartition(".")[2]
    endings: dict[str, str] = {}
    for name in names:
        endings.setdefault(name.rpartition(".")[2], name)
    if last in endings:
        return ".".join(endings[last].split(".")[-2:]) if "." in entry else last
    alike = difflib.get_close_matches(last, endings, n=1) or [name for name in endings if name.startswith(last)]
    return next(iter(alike), None)


def _nothing_matched(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    if asked.chosen.places or not asked.chosen.unmatched:
        return
    near = [found for entry in asked.chosen.unmatched if (found := nearest(entry, tree.targetable))]
    values = {
        "names": ", ".join(asked.chosen.unmatched),
        "known": ", ".join(_endings(tree.all_linear)),
        "near": ", ".join(dict.fromkeys(near)),
    }
    yield Refusal(
        "unmatched_target",
        "target_modules",
        Message(N_("`target_modules` names {names}, which matches no module of the model. Its linear layers are: {known}."), values),
        Message(N_("Did you mean {near}?") if near else N_("Name some of its linear layers, or set `target_modules: all-linear`."), values),
        (Patch({"target_modules": list(dict.fromkeys(near)) or "all-linear"}),),
    )  # fmt: skip


def _unfit(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    """A block, a norm: PEFT refuses it whatever else is named."""
    for entry, modules in asked.chosen.unfit.items():
        inside = _endings(name for name in tree.targetable if any(name.startswith(f"{module}.") for module in modules))
        values = {"entry": entry, "kind": tree.modules[modules[0]], "inside": ", ".join(inside)}
        yield Refusal(
            "unfit_target",
            "target_modules",
            Message(N_("`target_modules` names {entry}, a {kind}: LoRA cannot be put on it."), values),
            Message(N_("Name the layers inside it: {inside}.") if inside else N_("Remove it, or put it in `modules_to_save` to train it whole."), values),
            _replaced(config, [entry], inside),
        )  # fmt: skip


def _single_experts(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    entries = asked.chosen.single_experts
    if entries:
        parts = list(dict.fromkeys(entry.rpartition(".")[2] for entry in entries))
        together = [
            part for name in tree.experts for part in tree.experts[name] if set(parts) & set(tree.experts[name])
        ]
        values = {"entry": ", ".join(entries), "parts": ", ".join(dict.fromkeys(together or parts))}
        yield Refusal(
            "single_experts",
            "target_modules",
            Message(N_("`target_modules` names single experts ({entry}), but the model keeps all experts of a block in one tensor."), values),
            Message(N_("Name the matrices of all experts: {parts}."), values),
            _replaced(config, entries, list(dict.fromkeys(together or parts))),
        )  # fmt: skip


def _not_in_layers(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    layers = config.get("target_layers")
    if asked.ranks or not layers or not asked.chosen.places:
        return
    blocks = {tree.block_of(place.name) for place in asked.chosen.places}
    found = sorted(block for block in blocks if block is not None)
    values = {"layers": ", ".join(map(str, layers)), "blocks": ", ".join(map(str, found))}
    yield Refusal(
        "no_target_in_layers",
        "target_layers",
        Message(N_("None of the blocks in `target_layers` ({layers}) has a module that `target_modules` names."), values),
        Message(N_("These blocks have some: {blocks}.") if found else N_("Remove `target_layers`."), values),
        (Patch({"target_layers": found or DELETE}),),
    )  # fmt: skip


def _towers_alone(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    """Rows of text pass through no tower, so an adapter there alone gets no gradient, and the step fails."""
    trained = [*asked.ranks, *asked.saved_whole]
    towers = dict.fromkeys(tree.tower_of(name) for name in trained)
    if not asked.ranks or None in towers or config.get("bias") not in (None, "none"):
        return
    values = {"towers": ", ".join(str(tower) for tower in towers), "known": ", ".join(_endings(tree.all_linear))}
    yield Refusal(
        "unfit_target",
        "target_modules",
        Message(N_("`target_modules` names modules of {towers} alone. Rows of text do not pass through there, so nothing would train."), values),
        Message(N_("Name layers of the text model as well: {known}."), values),
        (Patch({"target_modules": "all-linear"}),),
    )  # fmt: skip


def _refused_by_peft(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    refused = [name for name in asked.modules if name in set(tree.refused)]
    if refused:
        kept = _endings(name for name in asked.modules if name not in refused)
        kept = [name for name in kept if name not in _endings(refused)]
        values = {"names": ", ".join(_endings(refused)), "family": tree.model_type, "kept": ", ".join(kept)}
        yield Refusal(
            "refused_target",
            "target_modules",
            Message(N_("PEFT puts no LoRA on {names} of {family} models: Mamba's kernels read these weights directly."), values),
            Message(N_("Name the other layers: `target_modules: [{kept}]`."), values),
            (Patch({"target_modules": kept}),) if kept else (),
        )  # fmt: skip


def _halves(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    for (named, missing), name in {pair: name for name, pair in asked.halves.items()}.items():
        values = {"named": ", ".join(named), "missing": ", ".join(missing), "tensor": name.rpartition(".")[2]}
        yield Refusal(
            "half_of_fused",
            "target_modules",
            Message(N_("`target_modules` names {named} without {missing}, but in this model's experts they are one tensor ({tensor})."), values),
            Message(N_("Add {missing}, or remove {named}."), values),
            tuple(change for change in (*_replaced(config, [], missing), *_replaced(config, named, [])) if change),
        )  # fmt: skip


def _uneven(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    if asked.uneven:
        values = {"parts": ", ".join(tree.experts[asked.uneven[0]])}
        yield Refusal(
            "uneven_parts",
            "alpha_pattern",
            Message(N_("{parts} are one tensor in this model's experts, but the patterns scale them differently."), values),
            Message(N_("Give them the same alpha for each rank, or remove their patterns.")),
            (Patch({"rank_pattern": DELETE, "alpha_pattern": DELETE}),),
        )  # fmt: skip


def _of_parameters(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    """PEFT's layer for parameters knows neither dropout nor DoRA nor the starts that read the weights.

    `ParamWrapper` in peft/tuners/lora/layer.py. Where PEFT takes the names of other layers for the experts' an adapter
    is loaded by that layer too.
    """
    by_parameter = [*asked.parameters, *(name for name in asked.modules if name.rpartition(".")[2] in tree.rewritten)]
    if not by_parameter:
        return
    others = _endings(name for name in asked.modules if name.rpartition(".")[2] not in tree.rewritten)
    without: tuple[Patch, ...] = (Patch({"target_modules": others}),) if others else ()
    values = {"names": ", ".join(_endings(by_parameter, 2))}
    start = config.get("init_lora_weights", True)
    if config.get("lora_dropout"):
        message = N_("LoRA on {names} works without dropout only: these are tensors of all experts or of their router.")
        yield Refusal(
            "experts_dropout", "lora_dropout", Message(message, values),
            Message(N_("Remove `lora_dropout`, or name other layers.")), (Patch({"lora_dropout": DELETE}), *without),
        )  # fmt: skip
    if config.get("use_dora"):
        message = N_("DoRA cannot be put on {names}: these are tensors of all experts or of their router.")
        yield Refusal(
            "experts_dora", "use_dora", Message(message, values),
            Message(N_("Remove `use_dora`, or name other layers.")), (Patch({"use_dora": DELETE}), *without),
        )  # fmt: skip
    if start not in STARTS_OF_PARAMETERS:
        message = N_(
            "`init_lora_weights: {start}` cannot be used on {names}: these are tensors of all experts or of their router."
        )
        yield Refusal(
            "experts_start", "init_lora_weights", Message(message, {**values, "start": start}),
            Message(N_("Remove `init_lora_weights`, or name other layers.")), (Patch({"init_lora_weights": DELETE}), *without),
        )  # fmt: skip


def _narrow_start(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    """PiSSA and OLoRA take ranks out of the base weights, and PEFT gives fewer than asked for without a word."""
    start = config.get("init_lora_weights", True)
    shapes = {name: tree.parameters.get(f"{name}.weight", ()) for name in asked.modules if start in FROM_WEIGHTS}
    narrow = {
        name: min(shape) for name, shape in shapes.items() if len(shape) == 2 and min(shape) < asked.modules[name]
    }
    narrow = {name: width for name, width in narrow.items() if tree.modules[name] not in OF_OTHER_SHAPE}
    if narrow:
        name = min(narrow, key=narrow.__getitem__)
        values = {"start": start, "layer": _endings([name])[0], "width": narrow[name], "rank": asked.modules[name]}
        yield Refusal(
            "narrow_start",
            "init_lora_weights",
            Message(N_("`init_lora_weights: {start}` takes its ranks out of the base weights, and {layer} has only {width}, not {rank}."), values),
            Message(N_("Set a rank of at most {width}, or `init_lora_weights: true`."), values),
            (Patch({"init_lora_weights": True}), Patch({"r": min(narrow.values()), "rank_pattern": DELETE})),
        )  # fmt: skip


def _saved_whole(config: Mapping[str, Any], asked: Asked, tree: ModuleTree) -> Iterator[Refusal]:
    entries: Sequence[str] = config.get("modules_to_save") or ()
    for entry in asked.unsaved:
        near = nearest(entry, tree.modules)
        kept = [near if other == entry else other for other in entries]
        left = list(dict.fromkeys(name for name in kept if name))
        yield Refusal(
            "unmatched_module_to_save",
            "modules_to_save",
            Message(N_("`modules_to_save` names {entry}, which the model does not have."), {"entry": entry}),
            Message(N_("Did you mean {near}?") if near else N_("Remove it."), {"near": near}),
            (Patch({"modules_to_save": left or DELETE}),),
        )
    for name in asked.saved_whole:
        if tree.modules[name] in CONTAINERS:
            entry = next(entry for entry in entries if name == entry or name.endswith(f".{entry}"))
            left = [other for other in entries if other != entry]
            yield Refusal(
                "unsavable_module",
                "modules_to_save",
                Message(N_("`modules_to_save` names {entry}, a list of modules, which cannot be trained whole."), {"entry": entry}),
                Message(N_("Name the modules inside it.")),
                (Patch({"modules_to_save": left or DELETE}),),
            )  # fmt: skip


def _replaced(config: Mapping[str, Any], entries: Sequence[str], by: Sequence[str]) -> tuple[Patch, ...]:
    """`target_modules` with others in place of some entries; of `all-linear` and expressions there are none."""
    targets = config.get("target_modules")
    if not isinstance(targets, list | tuple):
        return () if is_all_linear(targets) or not by else (Patch({"target_modules": list(by)}),)
    kept = list(dict.fromkeys([*(entry for entry in targets if entry not in entries), *by]))
    return (Patch({"target_modules": kept}),) if kept else ()


def _endings(names: Iterable[str], parts: int = 1) -> list[str]:
    return list(dict.fromkeys(".".join(name.split(".")[-parts:]) for name in names))
