"""Rules about the base model itself: what kind it is, how its weights are stored, which of them are tied."""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.fix_offers import drop, remove
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.i18n import N_, in_code
from lora_backend.models.causal import why_not_causal
from lora_backend.models.quantized import (
    NOT_AGAIN,
    WHOLE_WEIGHTS,
    Quantized,
    how_expanded,
    why_not_again,
    why_not_loaded,
    why_not_trained,
)

ENDS = ("lm_head", "embed_out", "output_layer", "embed_tokens", "wte", "word_embeddings", "embed_in")
"""Names of heads and of embeddings."""


NOT_CAUSAL = Rule(
    "not_causal",
    "error",
    None,
    N_("Choose a causal language model."),
    broken="r: 8",
    fixed="r: 8",
    facts=Facts(not_causal=why_not_causal({"model_type": "t5"})),
    fixed_facts=Facts(),
)


def _not_causal(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if facts.not_causal is not None:
        yield NOT_CAUSAL.found(config, "model_name", sentence=facts.not_causal)


QUANTIZED_UNTRAINABLE = Rule(
    "quantized_untrainable",
    "error",
    None,
    WHOLE_WEIGHTS,
    broken="r: 8",
    fixed="r: 8",
    facts=Facts(quantized=Quantized("nvfp4")),
    fixed_facts=Facts(),
)

QUANTIZED_ALREADY = Rule(
    "quantized_already",
    "error",
    None,
    NOT_AGAIN,
    broken="quantization: nf4",
    fixed="r: 8",
    facts=Facts(quantized=Quantized("bitsandbytes")),
    fixed_facts=Facts(),
)

MODEL_LIBRARY_MISSING = Rule(
    "model_library_missing",
    "warning",
    None,
    N_("Run `pip install {quoted}`, or name the folder with the full weights."),
    broken="r: 8",
    fixed="r: 8",
    facts=Facts(quantized=Quantized("hqq"), missing_for_model=("hqq>=0.2.1",)),
    fixed_facts=Facts(quantized=Quantized("hqq")),
)

QUANTIZED_EXPANDED = Rule(
    "quantized_expanded",
    "hint",
    None,
    N_("If it fits, there is nothing to do."),
    broken="r: 8",
    fixed="r: 8",
    facts=Facts(quantized=Quantized("fp8")),
    fixed_facts=Facts(),
)


def _quantized(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    quantized = facts.quantized
    if quantized is None:
        return
    why = why_not_trained(quantized)
    if why is not None:
        yield QUANTIZED_UNTRAINABLE.found(config, "model_name", sentence=why)
        return
    if config.has_good("quantization") and config.get("quantization"):
        again, fix = why_not_again(quantized), remove("quantization")
        yield QUANTIZED_ALREADY.found(config, "quantization", None, fix, sentence=again)
    missing = facts.missing_for_model
    not_loaded, expanded = why_not_loaded(quantized, missing), how_expanded(quantized)
    if not_loaded is not None:
        quoted = " ".join(f"'{package}'" for package in missing)  # a shell takes a bare > for a file
        yield MODEL_LIBRARY_MISSING.found(config, "model_name", {"quoted": quoted}, sentence=not_loaded)
    if expanded is not None:
        yield QUANTIZED_EXPANDED.found(config, "model_name", sentence=expanded)


TRAINS_TIED_WEIGHTS = Rule(
    "trains_tied_weights",
    "warning",
    N_(
        "`{key}` trains {names}, but head and embedding share their weights in this model. From the first step on they differ, and a merged model is larger by one of them."
    ),
    N_("Remove them, unless the adapter needs its own head or embedding."),
    broken="modules_to_save: [lm_head]",
    fixed="modules_to_save: [norm]",
    facts=Facts(is_tied=True),
)


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
        yield TRAINS_TIED_WEIGHTS.found(
            config, key, said, drop(key, ends, kept) or (remove(key) if key == "modules_to_save" else None)
        )


RULES = (
    NOT_CAUSAL,
    QUANTIZED_UNTRAINABLE,
    QUANTIZED_ALREADY,
    MODEL_LIBRARY_MISSING,
    QUANTIZED_EXPANDED,
    TRAINS_TIED_WEIGHTS,
)
CHECKS: tuple[FactCheck, ...] = (_not_causal, _quantized, _tied)
