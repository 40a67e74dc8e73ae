"""Whether a fresh adapter can begin with the weights of one on disk: by the headers of its file, before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lora_backend.errors import FlightdeckError
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_, Message
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.adapter_folder import AdapterFolder, read_adapter_config, read_adapter_folder
from lora_backend.verification.against_base import compare_with_base
from lora_backend.verification.asked_layers import Asked, asked_of
from lora_backend.verification.base_words import WHAT_DIFFERS
from lora_backend.verification.other_base import FindBase
from lora_backend.verification.ranks import rank_of, rank_rule

TAKES_FROM_BASE = ("pissa", "olora", "corda")
"""Beginnings of `init_lora_weights` that take the adapter's first weights out of the base model's."""
SAME_SCALE = 1e-6


def why_not_begin_with(
    values: Mapping[str, Any], folder: Path, model: Path | None, find_base: FindBase, tree: ModuleTree | None = None
) -> Message | None:
    """The first thing that keeps an adapter that is attached as `values` (of our config) say from the weights in
    `folder`, with the remedy; None where nothing does that headers show.

    `model`: its base model, None where that is not here. `tree`: its modules, where they are known; without them
    targets are not compared. `find_base` finds a base model that the adapter names.
    """
    try:
        return next(_reasons(values, folder, model, find_base, tree), None)
    except FlightdeckError as error:
        return error.message


def _reasons(
    values: Mapping[str, Any], folder: Path, model: Path | None, find_base: FindBase, tree: ModuleTree | None
) -> Iterator[Message]:
    own, question = read_adapter_config(folder) or {}, Question()
    if own.get("peft_type") != "LORA":
        said = N_(
            "The adapter in {path} is not a LoRA (its `peft_type` is {kind}). Name another in `init_from_adapter`."
        )
        yield Message(said, {"path": str(folder), "kind": str(own.get("peft_type") or "–")})
        return
    word = str(own.get("init_lora_weights")).lower()
    if word.startswith(TAKES_FROM_BASE):
        said = N_(
            "The adapter in {path} started with `init_lora_weights: {word}`, which changes the base model's weights; here they are unchanged. Name another in `init_from_adapter`."
        )
        yield Message(said, {"path": str(folder), "word": word})
    adapter = read_adapter_folder(folder, own, question=question)
    yield from _of_base(values, adapter, folder, model, find_base, question)
    yield from _of_layers(values, adapter, question)
    if tree is not None:
        yield from _of_targets(adapter, asked_of(values, tree, question))


def _of_base(
    values: Mapping[str, Any],
    adapter: AdapterFolder,
    folder: Path,
    model: Path | None,
    find_base: FindBase,
    question: Question,
) -> Iterator[Message]:
    """Its base model, by what passport and adapter say of it, and by the widths of its modules."""
    if model is None:
        return
    here = model

    def find(name: str) -> Path:
        return here if name == values.get("model_name") else find_base(name)

    found = compare_with_base(adapter, folder, values, question, find)
    if found.other_base is not None:
        said = N_(
            "The adapter of `init_from_adapter` was trained on {other}, not on {base}. Set `model_name` to its base model, or name another adapter."
        )
        yield Message(said, {"other": found.other_base, "base": found.base or "–"})
    for item in found.differences:
        if item.code in ("not_in_model", "other_shape"):
            said = N_(
                "The adapter of `init_from_adapter` does not fit the model: {name} {what}. Set `model_name` to its base model, or name another adapter."
            )
            yield Message(said, {"name": item.name, "what": Message(WHAT_DIFFERS[item.code])})


def _of_layers(values: Mapping[str, Any], adapter: AdapterFolder, question: Question) -> Iterator[Message]:
    """Rank and scale of each layer, and what stands beside A and B."""
    asked, own = rank_rule(values, question=question), rank_rule(adapter.config, on_disk=True, question=question)
    for rule in (asked, own):
        rule.prepare(layer.pattern_name for layer in adapter.layers)
    for layer in adapter.layers:
        found, wanted = rank_of(layer), asked.for_layer(layer.pattern_name)
        if isinstance(found, int) and found != wanted:
            said = N_(
                "{layer} has rank {found} in the adapter of `init_from_adapter`, and the config asks for {wanted}. Set `r` and `rank_pattern` as the adapter has them, or name another."
            )
            yield Message(said, {"layer": layer.name, "found": found, "wanted": wanted})
        scales = [rule.scaling_for(layer.pattern_name) for rule in (own, asked)]
        if None not in scales and abs((scales[0] or 0) - (scales[1] or 0)) > SAME_SCALE:
            said = N_(
                "{layer} is scaled by {found} in the adapter of `init_from_adapter`, and by {wanted} in the config. Set `alpha`, `alpha_pattern` and `use_rslora` as the adapter has them, or name another."
            )
            values_of = {"layer": layer.name, "found": f"{scales[0]:g}", "wanted": f"{scales[1]:g}"}
            yield Message(said, values_of)
    for key, default in (("use_dora", False), ("bias", "none")):
        theirs, ours = adapter.config.get(key) or default, values.get(key) or default
        if theirs != ours:
            said = N_(
                "`{key}` is {found} in the adapter of `init_from_adapter`, and {wanted} in the config. Set `{key}: {found}`, or name another adapter."
            )
            yield Message(said, {"key": key, "found": _word(theirs), "wanted": _word(ours)})


def _of_targets(adapter: AdapterFolder, asked: Asked) -> Iterator[Message]:
    """Which modules have a LoRA, and which are trained whole; experts have other names in a file than in a model."""
    if asked.parameters or any(layer.kind not in ("linear", "embedding") for layer in adapter.layers):
        return
    there = {layer.name for layer in adapter.layers}
    missing, beyond = sorted(asked.ranks.keys() - there), sorted(there - asked.ranks.keys())
    if missing or beyond:
        said = N_(
            "The adapter of `init_from_adapter` has other LoRA layers than the config asks for: {missing} missing, {beyond} beyond it, first {first}. Set `target_modules` and `target_layers` as the adapter has them, or name another."
        )
        yield Message(said, {"missing": len(missing), "beyond": len(beyond), "first": (missing + beyond)[0]})
    whole = set(adapter.saved_whole) ^ set(asked.saved_whole)
    if whole:
        said = N_(
            "The adapter of `init_from_adapter` has other modules saved whole than the config asks for, first {first}. Set `modules_to_save` as the adapter has it, or name another."
        )
        yield Message(said, {"first": min(whole)})


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
