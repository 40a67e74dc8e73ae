"""What is labelled of a chat, decoded, is its answers and the marks that end them, and nothing else: over stock templates."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trl
from jinja2.exceptions import UndefinedError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lora_backend.data.examples import Chat
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.labels import Labelled, Labeller, LabelRules, RowRefused
from tests.training.template_frames import CALL, OWN, REFUSED, SHAPES, STOCK, TOOL, Frame, expected

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL = re.compile(r"<[|｜][^<>{}'\" ]{1,40}[|｜]>|<\|?/?[a-z]+_of_[a-z]+\|?>|<turn\|>|<\|turn>|<\|?tool_\w+\|?>|<\|?channel\|?>|\[/?INST\]")  # fmt: skip
ADDED = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
"""Tokens of their own that are text all the same."""


def stock(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text("utf-8")


@cache
def core() -> str:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["It is late.\n\nIs it not? Yes and no, now.\n\n\nassistant\n\n user\n It is:\n"] * 4, trainer)  # fmt: skip
    return str(made.to_str())


@cache
def tokenizer_of(template: str) -> Any:
    """A byte-level one that joins line breaks, with every mark of the template as a token."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(core()),
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=sorted(set(SPECIAL.findall(template)) - {"<s>", "</s>"}),
    )
    tokenizer.add_tokens([token for token in ADDED if token in template])
    tokenizer.chat_template = template
    return tokenizer


@cache
def labeller_of(template: str) -> Labeller:
    """One for all chats of a template: what is remembered of one must be right for the next."""
    return Labeller(tokenizer_of(template), LabelRules(100_000))


def chat_of(shape: str) -> Chat:
    messages = SHAPES[shape]
    has_tools = any(message["role"] == "tool" for message in messages)
    return Chat(tuple(messages), tools=(TOOL,) if has_tools else None)


def learned(template: str, chat: Chat) -> list[str] | str:
    """Each run of labelled tokens, decoded, or that the row is refused."""
    (row,) = labeller_of(template).label([chat])
    if isinstance(row, RowRefused):
        assert row.detail, f"not the template's own refusal: {row.message}"
        assert row.detail in str(row.message)
        return REFUSED
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.input_ids, strict=True))
    runs: list[list[int]] = [[]]
    for label in row.labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [tokenizer_of(template).decode(run) for run in runs if run]


@pytest.mark.parametrize("name", STOCK)
def test_of_a_stock_template_the_answers_and_their_ends_are_learned(name: str) -> None:
    wrong = mismatches(stock(name), STOCK[name])
    assert wrong == {}


@pytest.mark.parametrize("name", OWN)
def test_of_a_family_of_our_own_the_answers_and_their_ends_are_learned(name: str) -> None:
    assert mismatches(*OWN[name]) == {}


def mismatches(template: str, frame: Frame) -> dict[str, tuple[object, object]]:
    found = {shape: (learned(template, chat_of(shape)), expected(frame, SHAPES[shape])) for shape in SHAPES}
    return {shape: (got, wanted) for shape, (got, wanted) in found.items() if got != wanted}


def test_every_template_that_trl_ships_for_text_is_among_them_and_they_are_thirty_at_least() -> None:
    shipped = {path.stem for path in TEMPLATES.glob("*.jinja")}
    originals = {name for name in shipped if not name.endswith("_training")}
    assert set(STOCK) == originals
    assert len(STOCK) >= 30


@pytest.mark.parametrize("name", sorted(path.stem for path in TEMPLATES.glob("*_training.jinja")))
def test_a_template_with_marks_of_its_own_is_labelled_inside_them(name: str) -> None:
    """TRL's marks, read by transformers, against ours: the same but for the prompt's opening and what follows the end."""
    template = stock(name)
    tokenizer = tokenizer_of(template)
    for shape in SHAPES:
        chat = chat_of(shape)
        (row,) = labeller_of(template).label([chat])
        if isinstance(row, RowRefused):
            assert row.detail
            continue
        marked = marked_by_trl(tokenizer, chat)
        if marked["input_ids"] != row.input_ids:  # a token was taken apart where the prompt ends
            assert tokenizer.decode(marked["input_ids"]) == tokenizer.decode(row.input_ids)
            continue
        ours = [label != IGNORED for label in row.labels]
        theirs = [bool(one) for one in marked["assistant_masks"]]
        # Gemma's last word before a result; the later bytes of a last letter, which transformers does not count.
        known = {"<|tool_response>", "\ufffd"}
        beyond = [token for token, one, two in zip(row.input_ids, ours, theirs, strict=True) if one and not two]
        assert not tokenizer.decode(beyond).strip() or set(map(tokenizer.decode, beyond)) <= known, shape
        left = tokenizer.decode([token for token, one, two in zip(row.input_ids, ours, theirs, strict=True) if two and not one])  # fmt: skip
        for message in chat.messages:
            words = str(message["content"]).strip()
            assert not (len(words) > 4 and words in left), (shape, left)


def marked_by_trl(tokenizer: Any, chat: Chat) -> Any:
    """With contents as texts or in parts, whichever the template writes."""
    first, *_ = [str(message["content"]).strip() for message in chat.messages if message["role"] == "assistant" and message["content"]]  # fmt: skip
    for in_parts in (False, True):
        with suppress(UndefinedError):
            marked = tokenizer.apply_chat_template(
                [plain(message, in_parts=in_parts) for message in chat.messages],
                tools=list(chat.tools or ()) or None,
                return_dict=True,
                return_assistant_tokens_mask=True,
            )
            if first[-4:] in tokenizer.decode(marked["input_ids"]):
                return marked
    raise AssertionError("neither way is written")


def plain(message: Any, *, in_parts: bool) -> dict[str, Any]:
    """Arguments as an object."""
    said = dict(message)
    if in_parts:
        said["content"] = [{"type": "text", "text": message["content"]}]
    if "tool_calls" in message:
        said["tool_calls"] = [CALL]
    return said


def test_answers_that_are_not_in_the_text_as_given_are_counted() -> None:
    def lost(name: str, shape: str) -> int:
        (row,) = labeller_of(stock(name)).label([chat_of(shape)])
        assert isinstance(row, Labelled)
        return row.lost_answers

    assert lost("qwen3", "thoughts in the answers") == 1, "the earlier thought is taken out"
    assert lost("qwen3", "thoughts beside the answers") == 1
    assert lost("deepseek_r1_distill", "thoughts in the answers") == 2
    assert lost("deepseek_r1_distill", "a tool and its result") == 1, "the call is left out"
    assert lost("llama3", "thoughts beside the answers") == 2, "it knows of no thoughts"
    assert lost("muse_glimmer", "thoughts beside the answers") == 0
    assert {lost(name, "several turns") for name in STOCK} == {0}
