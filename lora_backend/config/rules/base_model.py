"""Rules about the base model itself: what kind it is, how its weights are stored, which of them are tied."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import drop, remove
from lora_backend.config.rules.base import ConfigView, FactRule, Facts
from lora_backend.i18n import N_, Message, in_code
from lora_backend.models.quantized import (
    NOT_AGAIN,
    WHOLE_WEIGHTS,
    how_expanded,
    why_not_again,
    why_not_loaded,
    why_not_trained,
)

ENDS = ("lm_head", "embed_out", "output_layer", "embed_tokens", "wte", "word_embeddings", "embed_in")
"""Names of heads and of embeddings."""


def _not_causal(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.not_causal is not None:
        remedy = Message(N_("Choose a causal language model."))
        yield config.finding("error", "not_causal", "model_name", facts.not_causal, remedy)


def _quantized(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    quantized = facts.quantized
    if quantized is None:
        return
    why = why_not_trained(quantized)
    if why is not None:
        yield config.finding("error", "quantized_untrainable", "model_name", why, Message(WHOLE_WEIGHTS))
        return
    if config.has_good("quantization") and config.get("quantization"):
        again, fix = why_not_again(quantized), remove("quantization")
        yield config.finding("error", "quantized_already", "quantization", again, Message(NOT_AGAIN), fix)
    missing = facts.missing_for_model
    not_loaded, expanded = why_not_loaded(quantized, missing), how_expanded(quantized)
    if not_loaded is not None:
        quoted = " ".join(f"'{package}'" for package in missing)  # a shell takes a bare > for a file
        yield config.finding(
            "warning",
            "model_library_missing",
            "model_name",
            not_loaded,
            Message(N_("Run `pip install {quoted}`, or name the folder of the whole weights."), {"quoted": quoted}),
        )
    if expanded is not None:
        remedy = Message(N_("Nothing to do, if it fits."))
        yield config.finding("hint", "quantized_expanded", "model_name", expanded, remedy)


def _tied(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """PEFT gives a module that is trained its own weights, and the other end keeps the old ones for good."""
    if not facts.is_tied:
        return
    for key in ("modules_to_save", "target_modules"):
        named = config.get(key) if config.has_good(key) else None
        ends = [name for name in named if name.rsplit(".", 1)[-1] in ENDS] if isinstance(named, list) else []
        if not ends:
            continue
        kept = [name for name in named or () if name not in ends]
        said = {"key": key, "names": in_code(ends)}
        yield config.finding(
            "warning",
            "trains_tied_weights",
            key,
            Message(N_("`{key}` trains {names}, but head and embedding share their weights in this model. They go separate ways from the first step on, and a merged model is larger by one of them."), said),
            Message(N_("Leave them out, unless the adapter is to have a head or an embedding of its own.")),
            drop(key, ends, kept) or (remove(key) if key == "modules_to_save" else None),
        )  # fmt: skip


RULES: tuple[FactRule, ...] = (_not_causal, _quantized, _tied)
