"""A tiny real model and data set, made on the spot: a Llama of two blocks with a tokenizer of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUESTIONS = ["how tall is the tower", "who built the bridge", "what colour is the door", "when does the train leave"]
ANSWERS = ["the tower is nine metres tall", "anna built the bridge", "the door is green", "it leaves at noon"]


def make_model(folder: Path, *, chat_template: bool = True, tokenizer: bool = True, blocks: int = 2) -> Path:
    """Save the model as a folder that transformers loads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    if tokenizer:
        save_tokenizer(folder, chat_template=chat_template)
    return folder


def _vocabulary() -> dict[str, int]:
    words = sorted({word for text in QUESTIONS + ANSWERS for word in text.split()})
    special = ["<unk>", "<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>"]
    return {token: index for index, token in enumerate([*special, *words])}


def save_tokenizer(folder: Path, *, chat_template: bool = True) -> int:
    """Save the tokenizer of the tiny models; gives the number of its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = _vocabulary()
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
    )
    if chat_template:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return len(vocabulary)


def make_word_nan(folder: Path, word: str) -> Path:
    """Make the embedding of `word` NaN in a model that `make_model` saved: whatever holds the word has a loss of NaN."""
    from safetensors.torch import load_file, save_file

    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    tensors["model.embed_tokens.weight"][vocabulary[word]] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    return folder


def stub_tokenizer(folder: Path) -> None:
    """What `save_tokenizer` writes without a template, without importing transformers."""
    words = _vocabulary()
    special = {token: number for token, number in words.items() if token.startswith("<")}
    shared = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": number, "content": token, **shared} for token, number in special.items()]
    core = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(core))
    config = {"backend": "tokenizers", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "TokenizersBackend"}))


STUB = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


def stub_model(folder: Path, config: Mapping[str, Any] | None = None) -> Path:
    """A folder that passes for a whole model as long as nobody loads it: no tensors, a tokenizer of the tiny words."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(STUB if config is None else config))
    stub_tokenizer(folder)
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


def chats(repeat: int = 4) -> list[dict[str, object]]:
    """Rows of `messages`."""
    pairs = zip(QUESTIONS, ANSWERS, strict=True)
    rows: list[dict[str, object]] = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs
    ]
    return rows * repeat


def prompts(repeat: int = 4) -> list[dict[str, object]]:
    """Rows of `prompt` and `completion`."""
    rows: list[dict[str, object]] = [{"prompt": q, "completion": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    return rows * repeat


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def make_published(folder: Path, text: str = "an adapter") -> Path:
    """A folder that is recognised as an adapter of ours, with `text` for weights."""
    folder.mkdir(parents=True, exist_ok=True)
    passport = {"format": 1, "config": {"r": 4}, "tensors_sha256": "0", "adapter_config_sha256": "0"}
    files = {"adapter_config.json": "{}", "adapter_model.safetensors": text, "flightdeck.json": json.dumps(passport)}
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return folder
