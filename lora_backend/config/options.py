"""Words that transformers takes for a key, and that train here. A test holds them to the version that is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import StringConstraints

from lora_backend.i18n import N_, Message

Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adamw_anyprecision",
    "adafactor", "ademamix", "ademamix_8bit", "paged_ademamix_8bit", "paged_ademamix_32bit", "sgd", "adagrad", "lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit",
    "rmsprop", "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "grokadamw", "stable_adamw",
]  # fmt: skip
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"]
Attention = Literal["sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"]
Batching = Literal["auto", "flat", "padded", "packed"]
Truncation = Literal["drop", "cut_answer", "cut_prompt"]
Strategy = Literal["auto", "single", "layer_split", "ddp", "fsdp"]
BestFigure = Literal["loss", "eval_loss", "token_accuracy", "eval_token_accuracy"]
Tracker = Literal["tensorboard", "trackio", "mlflow", "wandb"]
TrainOn = Literal["all_answers", "last_answer", "everything"]
HubKernel = Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+(@[\w.-]+)?(:[\w.-]+)?$", max_length=200)]
"""A kernel of the hub, as in `kernels-community/flash-attn2`; the package `kernels` fetches it."""

_WHOLE = N_("`{key}: {word}` is made for training all weights of a model, not an adapter.")
_SWITCHES = N_("`{key}: {word}` keeps two sets of weights, and training here would evaluate and save the wrong one.")
_DEVICE = N_("`{key}: {word}` runs only on devices other than NVIDIA GPUs and CPUs.")
_ARGUMENTS = N_("`{key}: {word}` needs extra arguments that a training config has no keys for.")
_METRIC = N_("`{key}: {word}` follows a metric, which training here does not pass to it.")
_RENAMED = N_("`{key}: {word}` is the name in older versions of transformers.")


def _words(*pairs: tuple[str, str]) -> dict[str, str]:
    return {word: why for words, why in pairs for word in words.split()}


KNOWN_ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "optim": _words(
        ("galore_adamw galore_adamw_8bit galore_adafactor galore_adamw_layerwise galore_adamw_8bit_layerwise", _WHOLE),
        ("galore_adafactor_layerwise apollo_adamw apollo_adamw_layerwise lomo adalomo", _WHOLE),
        ("schedule_free_radam schedule_free_adamw schedule_free_sgd", _SWITCHES),
        ("adamw_torch_xla adamw_torch_npu_fused", _DEVICE),
        ("adamw_hf adamw_apex_fused", _RENAMED),
    ),
    "lr_scheduler_type": _words(
        ("cosine_with_min_lr cosine_warmup_with_min_lr warmup_stable_decay cosine_with_restarts", _ARGUMENTS),
        ("reduce_lr_on_plateau greedy", _METRIC),
    ),
}
"""Key → word that transformers takes, or took, and that does not train here → why not."""
NEW_NAMES = {"adamw_hf": "adamw_torch", "adamw_apex_fused": "adamw_torch_fused"}
"""Word that transformers no longer takes → what it calls the same today."""


def why_not_here(key: str, word: object) -> Message | None:
    """Why a word that transformers knows is none of this key's; None for any other."""
    template = KNOWN_ELSEWHERE.get(key, {}).get(word) if isinstance(word, str) else None
    return Message(template, {"key": key, "word": word}) if template else None
