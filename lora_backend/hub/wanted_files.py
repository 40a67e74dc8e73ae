"""Which files of a repository are downloaded: those that a model or an adapter is loaded from, never a pickle or code."""

from __future__ import annotations

import re
from collections.abc import Collection

from lora_backend.i18n import N_, Message
from lora_backend.models.find import ADAPTER_CONFIG

CONFIG, INDEX = "config.json", "model.safetensors.index.json"
WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"
_BESIDE = frozenset({
    CONFIG, "generation_config.json", ADAPTER_CONFIG,
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "tokenizer.model", "tokenizer.model.v3", "spiece.model", "sentencepiece.bpe.model", "tekken.json",
    "chat_template.jinja", "chat_template.json", "processor_config.json", "preprocessor_config.json",
})  # fmt: skip
_MORE_TEMPLATES = re.compile(r"additional_chat_templates/[^/]+\.jinja")
_SHARD = re.compile(r"(?!consolidated)[^/.]+(\.safetensors)?-\d+-of-\d+\.safetensors")
"""As transformers and older tools write them; not those of a variant (`model.fp16-…`), which nothing here loads."""
_PICKLED = re.compile(r"[^/]+\.(bin|pt|pth|ckpt|pkl|msgpack|h5)")


def wanted_files(names: Collection[str]) -> list[str]:
    """Those that are fetched, what is small first, in order."""
    beside = sorted(name for name in names if name in _BESIDE or _MORE_TEMPLATES.fullmatch(name))
    weights = [name for name in (WEIGHTS, ADAPTER_WEIGHTS) if name in names]
    if WEIGHTS not in weights and INDEX in names:  # transformers too takes the one file where there are both
        beside.append(INDEX)
        weights += sorted(name for name in names if _SHARD.fullmatch(name))
    return [*beside, *weights]


def refusal_of(names: Collection[str], repo_id: str) -> Message | None:
    """Why a repository with these files is not downloaded; None where it is."""
    values: dict[str, object] = {"repo": repo_id}
    wanted = wanted_files(names)
    has_model = CONFIG in wanted and any(name == WEIGHTS or _SHARD.fullmatch(name) for name in wanted)
    if has_model or {ADAPTER_CONFIG, ADAPTER_WEIGHTS} <= set(wanted):
        return None
    if not {CONFIG, ADAPTER_CONFIG} & set(names):
        return Message(
            N_("{repo} is neither a model nor an adapter: it has no config.json and no adapter_config.json."), values
        )
    pickled = next((name for name in sorted(names) if _PICKLED.fullmatch(name)), None)
    if pickled:
        return Message(
            N_(
                "{repo} has only pickled weights ({file}), which can run code when they are loaded. Choose a model with safetensors, or a revision that has them, for example --revision refs/pr/1."
            ),
            {**values, "file": pickled},
        )
    return Message(
        N_("{repo} has no weights that can be loaded: neither {model} nor {adapter}."),
        {**values, "model": WEIGHTS, "adapter": ADAPTER_WEIGHTS},
    )
