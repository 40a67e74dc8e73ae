"""Rows into tokens, with a label on the answers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lora_backend.errors import DataError, ModelError
from lora_backend.i18n import N_
from lora_backend.modeling.loss import IGNORED

Tokens = dict[str, list[int]]


def tokenize_rows(rows: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Dataset:
    """`input_ids`, `attention_mask`, `labels` for every row, cut at `max_length` tokens.

    A row whose answer begins behind the cut teaches nothing and is refused (`DataError` names it).
    """
    tokenized = []
    for number, row in enumerate(rows, start=1):
        tokens = _messages(row["messages"], tokenizer) if "messages" in row else _prompt(row, tokenizer)
        tokens = {key: values[:max_length] for key, values in tokens.items()}
        if all(label == IGNORED for label in tokens["labels"]):
            raise DataError(
                N_(
                    "Row {row} is longer than `max_length` {limit} before its answer begins. Raise `max_length`, or shorten the row."
                ),
                row=number,
                limit=max_length,
            )
        tokenized.append(tokens)
    return Dataset.from_list(tokenized)


def _prompt(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Prompt without label, then completion and end-of-text with one."""
    prompt = tokenizer(row["prompt"], add_special_tokens=True)["input_ids"]
    if prompt and prompt[-1] == tokenizer.eos_token_id:  # some tokenizers close every text
        prompt = prompt[:-1]
    answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    if tokenizer.eos_token_id is not None:
        answer = [*answer, tokenizer.eos_token_id]
    return _labelled([*prompt, *answer], [(len(prompt), len(prompt) + len(answer))])


def _messages(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The chat in the model's own template; labelled is what the template adds for each turn of the assistant."""
    if not tokenizer.chat_template:
        raise ModelError(
            N_(
                "The data set holds `messages`, but the model's tokenizer has no chat template to write them with. Take the instruct variant of the model, or data of `prompt` and `completion`."
            )
        )
    whole = _ids(tokenizer, messages, add_generation_prompt=False)
    answers = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _ids(tokenizer, messages[:index], add_generation_prompt=True) if index else _opening(tokenizer, whole)
        after = _ids(tokenizer, messages[: index + 1], add_generation_prompt=False)
        if whole[: len(before)] != before or whole[: len(after)] != after:
            raise ModelError(
                N_(
                    "The model's chat template rewrites earlier turns, so the answers cannot be told apart from the questions. Use data of `prompt` and `completion`."
                )
            )
        answers.append((len(before), len(after)))
    return _labelled(whole, answers)


def _opening(tokenizer: PreTrainedTokenizerBase, whole: list[int]) -> list[int]:
    """The mark that opens a turn of the assistant, where the chat begins with one: no template writes an empty chat."""
    question = [{"role": "user", "content": "?"}]
    marked = _ids(tokenizer, question, add_generation_prompt=True)
    mark = marked[len(_ids(tokenizer, question, add_generation_prompt=False)) :]
    return mark if whole[: len(mark)] == mark else []


def _ids(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], *, add_generation_prompt: bool
) -> list[int]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _labelled(ids: list[int], answers: list[tuple[int, int]]) -> Tokens:
    labels = [IGNORED] * len(ids)
    for begin, end in answers:
        labels[begin:end] = ids[begin:end]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
