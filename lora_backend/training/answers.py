"""After training: the base model and the adapter both answer the config's questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.runs.record.documents import Answer

MAX_NEW_TOKENS = 64
BATCH_SIZE = 16


def answer_questions(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[dict[str, Any]],
    report: Callable[[float], None] = lambda _: None,
    base_answers: Sequence[str] | None = None,
    shall_stop: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """Every question, answered by base model and adapter.

    Greedy, at most 64 new tokens. An answer is right when it contains one of `expect`, whatever the case. `shall_stop`
    is asked before each batch of questions; those that are left then have no row.
    """
    model.eval()
    rows: list[Answer] = []
    for begin in range(0, len(questions), BATCH_SIZE):
        if shall_stop():
            break
        batch = questions[begin : begin + BATCH_SIZE]
        chats = [question["messages"] for question in batch]
        if base_answers is not None:
            base = list(base_answers[begin : begin + BATCH_SIZE])
        else:
            with model.disable_adapter():
                base = _generate(model, tokenizer, chats)
        adapted = _generate(model, tokenizer, chats)
        rows += _rows(batch, base, adapted)
        report(len(rows) / len(questions))
    return rows


def answer_all(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[dict[str, Any]]
) -> list[str]:
    """Every question's answer from `model` as it is."""
    model.eval()
    chats = [question["messages"] for question in questions]
    batches = (chats[begin : begin + BATCH_SIZE] for begin in range(0, len(chats), BATCH_SIZE))
    return [answer for batch in batches for answer in _generate(model, tokenizer, batch)]


def _rows(questions: Sequence[dict[str, Any]], base: list[str], adapted: list[str]) -> Iterator[Answer]:
    for question, base_answer, adapter_answer in zip(questions, base, adapted, strict=True):
        yield Answer(
            question=question["messages"][-1]["content"],
            group=question["group"],
            expect=question["expect"],
            base_answer=base_answer,
            base_correct=is_correct(base_answer, question["expect"]),
            adapter_answer=adapter_answer,
            adapter_correct=is_correct(adapter_answer, question["expect"]),
        )


def is_correct(answer: str, expect: Sequence[str]) -> bool | None:
    """Whether `answer` contains one of `expect`; None where nothing is expected."""
    return any(text.casefold() in answer.casefold() for text in expect) if expect else None


def _generate(
    model: PeftModel | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, chats: Sequence[list[dict[str, str]]]
) -> list[str]:
    if tokenizer.chat_template:
        texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    else:
        texts = [chat[-1]["content"] for chat in chats]
    inputs = tokenizer(
        texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=not tokenizer.chat_template
    ).to(model.device)
    with torch.inference_mode():
        output = model.generate(
            **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    new_tokens = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new_tokens, skip_special_tokens=True)]
