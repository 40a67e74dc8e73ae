"""Which tensors of a GGUF an adapter's layers become, as llama.cpp reads them; what it cannot read is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf

from lora_backend.i18n import N_, Message
from lora_backend.models.describe import read_model_config
from lora_backend.preflight.export_place import ExportError
from lora_backend.verification.adapter_folder import AdapterFolder, read_adapter_config, read_adapter_folder
from lora_backend.verification.ranks import rank_rule
from lora_backend.verification.shapes import LoraLayer, canonical_name

FAMILIES = {
    "llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3, "gemma": gguf.MODEL_ARCH.GEMMA, "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3": gguf.MODEL_ARCH.GEMMA3, "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
}  # fmt: skip
"""`model_type` → architecture of llama.cpp."""
TURNED = frozenset({"llama", "mistral"})
"""Families whose queries and keys llama.cpp keeps in another order of rows: it rotates neighbours, transformers halves."""
TIED_BY_DEFAULT = frozenset({"gemma", "gemma2", "gemma3", "gemma3_text"})
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` after which the base model's weights are others than in its files."""
WITHOUT_WORDS = {
    "use_dora": "DoRA", "use_qalora": "QALoRA", "use_bdlora": "BD-LoRA", "alora_invocation_tokens": "aLoRA",
    "trainable_token_indices": "`trainable_token_indices`", "modules_to_save": "`modules_to_save`",
    "target_parameters": "`target_parameters`", "layer_replication": "`layer_replication`", "lora_bias": "`lora_bias`",
    "arrow_config": "Arrow", "fan_in_fan_out": "`fan_in_fan_out`",
}  # fmt: skip
"""Keys of PEFT's config that mean something which a LoRA of llama.cpp does not have, and what to call it."""


@dataclass(frozen=True)
class GgufLayer:
    """One LoRA layer of the file."""

    name: str
    """Of the base model's tensor there, as in `blk.0.attn_q.weight`."""
    layer: LoraLayer
    tensor_a: str
    """Name in the adapter's file."""
    tensor_b: str
    rank: int
    scaling: float
    """What PEFT multiplies the layer's update by."""
    num_heads: int | None
    """Heads whose rows are put in llama.cpp's order; None: they stay."""

    @property
    def is_embedding(self) -> bool:
        return self.name == EMBEDDING


@dataclass(frozen=True)
class GgufPlan:
    """What the whole file holds."""

    architecture: str
    """As `general.architecture` says it."""
    alpha: float
    """llama.cpp multiplies a layer by this, divided by the layer's rank."""
    layers: tuple[GgufLayer, ...]


def plan_gguf(adapter: Path, base: Path) -> GgufPlan:
    """The tensors of `adapter` in the names of llama.cpp, by the `config.json` of `base`. Raises `ExportError` for what
    llama.cpp could not read, or would compute otherwise."""
    own, model = read_adapter_config(adapter) or {}, read_model_config(base)
    inner = model["text_config"] if isinstance(model.get("text_config"), dict) else {}
    text: dict[str, Any] = {**model, **inner}
    family = str(model.get("model_type"))
    if family not in FAMILIES:
        raise ExportError(
            N_("A {family} adapter cannot be written as GGUF here, only those of {families}. Export the adapter as it is, or merged."),
            family=family, families="Llama, Mistral, Qwen2, Qwen3, Gemma",
        )  # fmt: skip
    _refuse_kinds(own)
    found = read_adapter_folder(adapter, own)
    _refuse_tensors(found, text.get("vocab_size"))
    blocks = int(text.get("num_hidden_layers") or 0)
    names = gguf.get_tensor_name_map(FAMILIES[family], blocks)
    rule = rank_rule(own, on_disk=True)
    rule.prepare(layer.pattern_name for layer in found.layers)
    layers = []
    for layer in found.layers:
        name = names.get_name(layer.name.replace("language_model.", ""))
        if name is None:
            raise _refused(Message(N_("{layer}, which it has no name for"), {"layer": layer.name}))
        scaling, rank = rule.scaling_for(layer.pattern_name), rule.for_layer(layer.pattern_name)
        assert scaling is not None, "the rank check has passed"
        assert rank is not None, "the rank check has passed"
        a, b = _tensors_of(layer, found.tensors)
        layers.append(GgufLayer(f"{name}.weight", layer, a, b, rank, scaling, _heads(family, layer, text)))
    _refuse_tied(layers, family, model, inner)
    alpha = float(rule.alpha or 0) or float(layers[0].rank)
    return GgufPlan(gguf.MODEL_ARCH_NAMES[FAMILIES[family]], alpha, tuple(layers))


def _refuse_kinds(own: Mapping[str, Any]) -> None:
    found = [words for key, words in WITHOUT_WORDS.items() if own.get(key)]
    if own.get("bias") not in (None, "none"):
        found.append("biases")
    start = str(own.get("init_lora_weights")).lower()
    if start.startswith(CHANGES_THE_BASE):
        found.append(f"`init_lora_weights: {start}`")
    if own.get("peft_type") != "LORA":
        found.append(str(own.get("peft_type")))
    if found:
        raise _refused(Message("{words}", {"words": ", ".join(found)}))


def _refuse_tensors(found: AdapterFolder, vocab_size: object) -> None:
    odd = [layer.name for layer in found.layers if layer.kind not in ("linear", "embedding")]
    odd += [f"{key}: modules_to_save" for key in found.tensors if ".lora_" not in key and not _is_frozen(key, found, vocab_size)]  # fmt: skip
    if odd:
        raise _refused(Message("{words}", {"words": ", ".join(odd[:3])}))
    if not found.layers:
        raise ExportError(N_("The adapter has no LoRA layers, so there is nothing to export."))


def _is_frozen(key: str, found: AdapterFolder, vocab_size: object) -> bool:
    """Whether a tensor is the base model's own weight below a LoRA, which PEFT saves of embedding and head as well.

    Those never train, so they may only differ where tokens were added, and then they have another number of rows.
    """
    is_below = key.endswith(".base_layer.weight") and canonical_name(key).removesuffix(".weight") in {layer.name for layer in found.layers}  # fmt: skip
    return is_below and found.tensors[key].shape[0] == vocab_size


def _refuse_tied(layers: Sequence[GgufLayer], family: str, model: Mapping[str, Any], inner: Mapping[str, Any]) -> None:
    """With tied weights llama.cpp has one tensor for embedding and head: a LoRA of either would act on both, or be refused."""
    is_tied = inner.get("tie_word_embeddings", model.get("tie_word_embeddings", family in TIED_BY_DEFAULT))
    outer = next((layer.layer.name for layer in layers if layer.name in (EMBEDDING, HEAD)), None)
    if is_tied and outer is not None:
        raise _refused(Message(N_("{layer} where embedding and head share their weights"), {"layer": outer}))


def _refused(what: Message) -> ExportError:
    return ExportError(
        N_("llama.cpp has no LoRA for {what}, so this adapter cannot be written as GGUF. Merge it into its base model instead."),
        what=what,
    )  # fmt: skip


def _heads(family: str, layer: LoraLayer, text: Mapping[str, Any]) -> int | None:
    kind: Literal["q", "k"] | None = "q" if layer.name.endswith(".q_proj") else "k" if layer.name.endswith(".k_proj") else None  # fmt: skip
    if family not in TURNED or kind is None:
        return None
    heads = text.get("num_attention_heads")
    found = heads if kind == "q" else text.get("num_key_value_heads") or heads
    rows = layer.shape_b[0] if layer.shape_b else 0
    if not isinstance(found, int) or found < 1 or rows % (2 * found):
        raise ExportError(N_("The base model's config.json does not say how many heads {layer} has."), layer=layer.name)
    return found


def _tensors_of(layer: LoraLayer, tensors: Mapping[str, Any]) -> tuple[str, str]:
    halves = ("lora_embedding_A", "lora_embedding_B") if layer.kind == "embedding" else ("lora_A.weight", "lora_B.weight")  # fmt: skip
    a, b = (f"{layer.file_name}.{half}" for half in halves)
    if a not in tensors or b not in tensors:
        raise ExportError(N_("The tensors of {layer} do not have the names that PEFT gives them. Save the adapter again with PEFT."), layer=layer.name)  # fmt: skip
    return a, b
