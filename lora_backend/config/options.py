"""Words that transformers takes for a key. A test holds them to the version that is installed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_8bit", "adamw_bnb_8bit",
    "paged_adamw_8bit", "paged_adamw_32bit", "adamw_anyprecision", "adafactor", "ademamix", "ademamix_8bit", "paged_ademamix_8bit", "paged_ademamix_32bit", "sgd", "adagrad",
    "lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit", "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "galore_adamw", "galore_adamw_8bit",
    "galore_adafactor", "galore_adamw_layerwise", "galore_adamw_8bit_layerwise", "galore_adafactor_layerwise", "lomo", "adalomo", "grokadamw", "schedule_free_radam",
    "schedule_free_adamw", "schedule_free_sgd", "apollo_adamw", "apollo_adamw_layerwise", "stable_adamw",
]  # fmt: skip
Attention = Literal["sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
HubKernel = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.-]+)?$", max_length=200)]
"""A kernel of the hub, as in `kernels-community/flash-attn2`; the package `kernels` fetches it."""
