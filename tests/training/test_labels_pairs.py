"""Of two texts without a template the tokens read as the texts, over kinds of tokenizers, and the second is learned."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from lora_backend.data.examples import Chat, Pair, Text
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.labels import Labelled, Labeller, LabelRules

KINDS = ["bytes", "llama2", "first", "always", "never"]
"""Byte level; Llama 2's normalizer; Metaspace that puts a space before the first word, every piece, none."""
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
WORDS = [
    "def f(x): pass",
    "A: yes",
    "the answer is yes or no",
    "f( x): pass",
    "two spaces",
    "is it (yes) or (no)",
    "\n\nyes",
] * 4
PAIRS = [
    ("def f(", "x): pass"), ("A: ", "yes"), ("A:", " yes"), ("", "yes"), ("A:", "yes\n"), ("the", " answer is  two  spaces "),
    ("A:\n", "\nyes"), ("Is it ", "é 日本 🙂?"), ("A: 日", "本"), ("  ", "two"), (" yes", "no"), ("x" * 7, "x" * 5), ("f(x)", ": pass"),
]  # fmt: skip


@cache
def tokenizer_of(kind: str, *, has_bos: bool) -> Any:
    """Trained word by word, as those of Llama and Mistral, with a token for each byte."""
    core = Tokenizer(models.BPE() if kind == "bytes" else models.BPE(byte_fallback=True, unk_token="<unk>"))
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" else []
    if kind == "bytes":
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never" if kind == "never" else "always")
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(WORDS, trainer)
    if kind != "bytes":
        told = json.loads(core.to_str())
        names = told["model"]["vocab"]
        names.update({f"<0x{byte:02X}>": len(names) + byte for byte in range(256)})
        core = Tokenizer.from_str(json.dumps(told))
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False) if kind != "llama2" else None  # type: ignore[assignment]
        strips = [] if kind == "never" else [decoders.Strip(" ", 1, 0)]
        core.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strips]
        )
    if kind == "llama2":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if has_bos:
        core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", core.token_to_id("<s>"))])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>", extra_special_tokens=SPECIAL[3:]
    )


def row_of(example: Pair | Text | Chat, tokenizer: Any, **rules: Any) -> Labelled:
    (row,) = Labeller(tokenizer, LabelRules(**{"max_length": 200, **rules})).label([example])
    assert isinstance(row, Labelled)
    assert len(row.input_ids) == len(row.labels)
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.input_ids, strict=True))
    return row


def read(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("has_bos", [False, True], ids=["bare", "bos"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("prompt", "completion"), PAIRS)
def test_tokens_read_as_the_texts_and_the_completion_is_learned_with_its_end(
    prompt: str, completion: str, kind: str, has_bos: bool
) -> None:
    tokenizer = tokenizer_of(kind, has_bos=has_bos)
    row = row_of(Pair(prompt, completion), tokenizer)
    if kind in ("first", "always") and prompt.startswith(" "):
        prompt = prompt[1:]  # such a tokenizer takes the space that a text begins with for its own
        assert read(tokenizer, tokenizer(" yes", add_special_tokens=False)["input_ids"]) == "yes"
    assert read(tokenizer, row.input_ids) == prompt + completion
    assert row.input_ids.count(1) == has_bos
    assert (row.input_ids.count(2), row.input_ids[-1]) == (1, 2)
    first = next(place for place, label in enumerate(row.labels) if label != IGNORED)
    assert IGNORED not in row.labels[first:], "one stretch, to the end"
    before = read(tokenizer, row.input_ids[has_bos:first])
    assert before == prompt


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_that_a_text_has_itself_is_not_there_twice(kind: str) -> None:
    tokenizer = tokenizer_of(kind, has_bos=True)
    row = row_of(Pair("<s>A:", " yes</s>"), tokenizer)
    assert (row.input_ids.count(1), row.input_ids.count(2)) == (1, 1)
    assert (row.input_ids[0], row.labels[-1]) == (1, 2)


def test_a_token_over_the_border_is_taken_apart_as_the_prompt_alone_is_tokenized() -> None:
    for kind in ("bytes", "llama2", "first"):
        tokenizer = tokenizer_of(kind, has_bos=False)
        row = row_of(Pair("A: ", "yes"), tokenizer)
        learned = [tokenizer.convert_ids_to_tokens(label) for label in row.labels if label != IGNORED]
        assert learned == ["yes", "</s>"], kind
    whole = tokenizer.convert_ids_to_tokens(tokenizer("A: yes", add_special_tokens=False)["input_ids"])
    assert whole[-1] == "▁yes", "which is one token in the whole text"


def test_a_token_over_the_border_that_has_no_halves_is_the_answer_s() -> None:
    tokenizer = tokenizer_of("bytes", has_bos=False)
    words = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0, "Hello": 1, "</s>": 2, "lo": 3}, unk_token="<unk>")),
        eos_token="</s>",
    )
    row = row_of(Pair("Hel", "lo"), words)
    assert (row.input_ids, row.labels) == ([1, 2], [1, 2])
    assert row_of(Pair("xy", "lo"), tokenizer).labels[-1] == 2


def test_a_text_is_learned_whole_with_its_end() -> None:
    for kind in KINDS:
        tokenizer = tokenizer_of(kind, has_bos=True)
        row = row_of(Text("the answer is yes"), tokenizer)
        assert read(tokenizer, row.input_ids) == "the answer is yes"
        assert row.labels == [IGNORED, *row.input_ids[1:]]
        assert row.input_ids[-1] == 2
        assert row_of(Text("the answer is yes"), tokenizer, max_length=3).has_lost_end


def test_an_empty_completion_teaches_only_the_end() -> None:
    row = row_of(Pair("the answer is", ""), tokenizer_of("first", has_bos=True))
    assert [label for label in row.labels if label != IGNORED] == [2]


def test_everything_is_the_prompt_as_well_but_not_the_mark_before_it() -> None:
    tokenizer = tokenizer_of("bytes", has_bos=True)
    row = row_of(Pair("the answer is", " yes"), tokenizer, train_on="everything")
    assert row.labels == [IGNORED, *row.input_ids[1:]]


class Letters(PreTrainedTokenizer):  # type: ignore[misc]
    """A tokenizer without places: one in Python, which joins two line breaks."""

    def __init__(self, **named: Any) -> None:
        self._ids = {"<unk>": 0, "\n\n": 1, **{chr(code): code for code in range(10, 127)}}
        super().__init__(unk_token="<unk>", eos_token="~", **named)

    @property
    def vocab_size(self) -> int:
        return 127

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        found: list[str] = []
        for letter in text:
            found = [*found[:-1], "\n\n"] if letter == "\n" and found[-1:] == ["\n"] else [*found, letter]
        return found

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return next((name for name, number in self._ids.items() if number == index), "<unk>")

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def test_a_tokenizer_without_places_is_asked_for_what_stands_before() -> None:
    tokenizer = Letters()
    assert not tokenizer.is_fast
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]\n{{ m.content }};{% endfor %}"

    def learned(example: Pair | Chat) -> str:
        return "".join(
            chr(label) if label > 1 else "\n\n" for label in row_of(example, tokenizer).labels if label != IGNORED
        )

    assert learned(Pair("A: ", "yes")) == "yes~"
    assert learned(Pair("A:\n", "\nyes")) == "\n\nyes~", "a token over the border is the answer's"
    chat = Chat(
        (
            {"role": "user", "content": "yes"},
            {"role": "assistant", "content": "no;"},
            {"role": "user", "content": "no;"},
        )
    )
    assert learned(chat) == "[assistant]\nno;;"
    tokenizer.chat_template += "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    assert learned(chat) == "no;;"
