"""Profiles without torch, for tests that need some: a Llama of the measures in a config.json, all of it by formula."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.planning.cost.formula import EXPECTED_ERROR, EXPERTS, ITEMSIZE, VISITED, Measures, with_activations
from lora_backend.planning.cost.profile import NOTHING, Profile, Taken, TrainedTensors, Unit
from lora_backend.planning.cost.scaling import EXPONENTS
from lora_backend.planning.cost.trace_settings import TraceSettings


def formula_profile(facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings) -> Profile:
    """The profile of a Llama of the measures in a `config.json`."""
    text = facts.get("text_config") if isinstance(facts.get("text_config"), dict) else facts
    assert isinstance(text, Mapping)
    hidden = _measure(text, "hidden_size", "n_embd", "d_model")
    blocks = _measure(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _measure(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    vocabulary = _measure(text, "vocab_size")
    head_size = int(text.get("head_dim") or hidden // heads)
    wide, narrow = heads * head_size, int(text.get("num_key_value_heads") or heads) * head_size
    inner = int(text.get("moe_intermediate_size") or text.get("intermediate_size") or text.get("n_inner") or 4 * hidden)
    experts = int(next((text[key] for key in EXPERTS if text.get(key)), 1))
    visited = int(next((text[key] for key in VISITED if text.get(key)), 1)) if experts > 1 else 1
    itemsize = ITEMSIZE[settings.precision]
    table = vocabulary * hidden

    linear = {
        "q_proj": (hidden, wide), "k_proj": (hidden, narrow), "v_proj": (hidden, narrow), "o_proj": (wide, hidden),
        "gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden),
    }  # fmt: skip
    attention = sum(linear[name][0] * linear[name][1] for name in ("q_proj", "k_proj", "v_proj", "o_proj"))
    expert = sum(linear[name][0] * linear[name][1] for name in ("gate_proj", "up_proj", "down_proj"))
    parameters = attention + experts * expert + (experts * hidden if experts > 1 else 0) + 2 * hidden
    adapted = (
        linear
        if settings.target_modules == "all-linear" or isinstance(settings.target_modules, str)
        else {name: linear[name] for name in linear if name in settings.target_modules}
    )
    trained = _trained(settings, linear, adapted, hidden, table)
    # Experts are no linear layers to transformers and bitsandbytes: they stay as they are.
    packed = attention + (expert if experts == 1 else 0)
    weight_bytes = {None: itemsize, "nf4": 0.516, "int8": 1.0}[settings.quantization]
    is_tied = bool(text.get("tie_word_embeddings", facts.get("tie_word_embeddings", False)))
    last = hidden if is_tied else table + hidden
    block = Unit(parameters, round(packed * weight_bytes) + (parameters - packed) * itemsize, trained["block"])
    counted = Profile(
        settings=settings,
        taken=Taken(settings.batching, "nll" if settings.loss_type == "nll" else "chunked_nll"),
        method="formula",
        expected_error=EXPECTED_ERROR,
        model_type=str(facts.get("model_type")),
        max_positions=text.get("max_position_embeddings"),
        windows=(),
        tile_tokens=max(2**28 // (4 * vocabulary), 1),
        is_tied=is_tied,
        blocks_path="model.layers",
        embed_modules=("model.embed_tokens", "model.rotary_emb"),
        head_modules=("model.norm", "lm_head"),
        embed=Unit(table, table * itemsize, trained["embed"]),
        kinds=(block,),
        kind_of_block=(0,) * blocks,
        head=Unit(last, last * itemsize, trained["head"]),
        returns=NOTHING,
        hidden=np.zeros(len(EXPONENTS)),
    )
    return with_activations(counted, Measures(hidden, heads, wide, narrow, inner, visited, vocabulary))


def _trained(
    settings: TraceSettings,
    linear: Mapping[str, tuple[int, int]],
    adapted: Mapping[str, tuple[int, int]],
    hidden: int,
    table: int,
) -> dict[str, tuple[TrainedTensors, ...]]:
    """What trains before the blocks, in each of them and behind them; biases are none of this family's."""

    def whole(path: str) -> bool:
        """Whether `modules_to_save` names the module or one that holds it: `norm` is no `input_layernorm`."""
        return any(f".{asked}." in f".{path}." for asked in settings.modules_to_save)

    adapter = [TrainedTensors(0, side, sides=side, sides_per_rank=1) for shape in adapted.values() for side in shape]
    adapter += [TrainedTensors(shape[1]) for shape in adapted.values() if settings.use_dora]
    sizes = {
        f"model.layers.0.{'self_attn' if name[0] in 'qkvo' else 'mlp'}.{name}": shape[0] * shape[1]
        for name, shape in linear.items()
    }
    sizes |= {f"model.layers.0.{name}": hidden for name in ("input_layernorm", "post_attention_layernorm")}
    head = {"model.norm": hidden, "lm_head": table}
    return {
        "embed": (TrainedTensors(table, is_embedding=True),) if whole("model.embed_tokens") else (),
        "block": (*adapter, *(TrainedTensors(size) for path, size in sizes.items() if whole(path))),
        "head": tuple(TrainedTensors(size) for path, size in head.items() if whole(path)),
    }


def _measure(facts: Mapping[str, Any], *names: str) -> int:
    return next(int(facts[name]) for name in names if facts.get(name))
