"""After training: the base model and the adapter both answer the config's questions.

The adapter is not merged into the base weights for it: a merged weight is rounded, so that a greedy answer may take
another word where two are as likely, and in bf16 most of what was learned is below a weight's last digit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteriaList, set_seed

from lora_backend.chats.documents import Sampling
from lora_backend.modeling.devices import free_bytes
from lora_backend.modeling.out_of_memory import is_out_of_memory
from lora_backend.modeling.step import inputs_device
from lora_backend.peers.sharding import sharers_of
from lora_backend.runs.record.documents import Answer
from lora_backend.training.answer_progress import Answered, AnswerProgress
from lora_backend.training.at_each_token import AtEachToken
from lora_backend.training.head_input import rows_in_one_piece

logger = logging.getLogger(__name__)
MAX_NEW_TOKENS = 64
AS_AFTER_TRAINING = Sampling(max_new_tokens=MAX_NEW_TOKENS)
MOST_ROWS = 64
"""Of one batch; beyond it a step of generation takes longer by as much as it answers more."""
SHARE_OF_FREE = 0.25
"""Of the memory that is free, how much a batch may take: its estimate leaves out what the allocator loses."""


def answer_questions(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[dict[str, Any]],
    report: Callable[[Answered], None] = lambda _: None,
    base_answers: Sequence[str] | None = None,
    shall_stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    said: Callable[[Answer], None] = lambda _: None,
) -> list[Answer]:
    """Every question, answered by base model and adapter, in the order of the questions.

    Greedy, at most 64 new tokens. An answer is right when it contains one of `expect`, whatever the case. `shall_stop`
    is asked before each new token; a question that one of the two has not answered by then has no row. `report` is
    called about once a second, and at the end of each batch; `clock` counts seconds. `said` hears each whole row as
    soon as its answer has ended, in whatever order.
    """
    model.eval()
    prompts = _prompts(tokenizer, questions)
    progress = AnswerProgress(len(questions), 1 if base_answers is not None else 2, report, clock)
    generation = _Generation(model, tokenizer, shall_stop, progress)
    base: list[str | None] = [None] * len(questions) if base_answers is None else list(base_answers)
    adapted: list[str | None] = [None] * len(questions)

    def row(place: int, text: str) -> Answer:
        return next(_rows([questions[place]], [base[place]], [text]))

    for batch in _batches(model, tokenizer, prompts):
        if base_answers is None:
            with model.disable_adapter():
                generation.answer(batch, prompts, base)
        progress.counts_whole, generation.said = True, lambda place, text: said(row(place, text))
        generation.answer(batch, prompts, adapted)
        progress.counts_whole, generation.said = False, None
        if generation.is_stopped:
            break
    return list(_rows(questions, base, adapted))


def answer_all(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[dict[str, Any]],
    report: Callable[[Answered], None] = lambda _: None,
    sampling: Sampling = AS_AFTER_TRAINING,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Every question's answer from `model` as it is, in the order of the questions; drawn by `sampling`, by default as
    after training. Whoever would stop it raises in `report`, which is called as that of `answer_questions`."""
    model.eval()
    prompts = _prompts(tokenizer, questions)
    answers: list[str | None] = [None] * len(questions)
    progress = AnswerProgress(len(questions), 1, report, clock, counts_whole=True)
    generation = _Generation(model, tokenizer, progress=progress, sampling=sampling)
    if sampling.temperature:
        set_seed(sampling.seed)
    for batch in _batches(model, tokenizer, prompts, sampling.max_new_tokens):
        generation.answer(batch, prompts, answers)
    return [answer or "" for answer in answers]


def answer_until(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[dict[str, Any]],
    shall_stop: Callable[[], bool],
) -> list[str | None]:
    """The same, greedy, with `shall_stop` asked before each new token; None where a stop came before an answer's end."""
    model.eval()
    prompts = _prompts(tokenizer, questions)
    answers: list[str | None] = [None] * len(questions)
    generation = _Generation(model, tokenizer, shall_stop)
    for batch in _batches(model, tokenizer, prompts):
        generation.answer(batch, prompts, answers)
    return answers


def longest_asked(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[dict[str, Any]], sampling: Sampling = AS_AFTER_TRAINING
) -> int:
    """Tokens of the longest question together with the longest answer that it may have; 0 without any."""
    lengths = [len(ids) for ids in _tokens(tokenizer, _prompts(tokenizer, questions))["input_ids"]] if questions else []
    return max(lengths, default=-sampling.max_new_tokens) + sampling.max_new_tokens


def _rows(
    questions: Sequence[dict[str, Any]], base: Sequence[str | None], adapted: Sequence[str | None]
) -> Iterator[Answer]:
    for question, base_answer, adapter_answer in zip(questions, base, adapted, strict=True):
        if base_answer is None or adapter_answer is None:
            continue
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


def _prompts(tokenizer: PreTrainedTokenizerBase, questions: Iterable[dict[str, Any]]) -> list[str]:
    chats = [question["messages"] for question in questions]
    if not tokenizer.chat_template:
        return [chat[-1]["content"] for chat in chats]
    return [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]


def _batches(
    model: PeftModel | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[list[int]]:
    """Questions by their places, the shortest first, as many to a batch as memory has room for; where processes share the
    model's weights, the first one's."""
    if not prompts:
        return []
    lengths = [len(ids) for ids in _tokens(tokenizer, prompts)["input_ids"]]
    devices = {parameter.device for parameter in model.parameters()}
    room = SHARE_OF_FREE * min(map(free_bytes, devices))
    per_token, per_row = _bytes_per_token(model)
    batches: list[list[int]] = [[]]
    for place in sorted(range(len(prompts)), key=lengths.__getitem__):
        row_bytes = (lengths[place] + max_new_tokens) * per_token + per_row  # the longest of its batch so far
        if batches[-1] and (len(batches[-1]) == MOST_ROWS or (len(batches[-1]) + 1) * row_bytes > room):
            batches.append([])
        batches[-1].append(place)
    return sharers_of(model).agreed(batches)


def _bytes_per_token(model: PeftModel | PreTrainedModel) -> tuple[int, int]:
    """What generating holds for a token and for a row.

    A token: keys and values of every block, and while the prompt is read one block's hidden states and MLP. A row: its
    logits, in fp32, three times (the head's, those that are processed, and what the choice makes of them).
    """
    config = model.config.get_text_config(decoder=True)
    size = model.get_input_embeddings().weight.dtype.itemsize
    hidden, heads = config.hidden_size, getattr(config, "num_attention_heads", None) or 1
    head_size = getattr(config, "head_dim", None) or hidden // heads
    kept = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * head_size
    passing = 8 * hidden + 3 * (getattr(config, "intermediate_size", None) or 4 * hidden)
    return (kept + passing) * size, 3 * 4 * config.vocab_size


class _Generation:
    """Answers batches of prompts with a model as it is when it is asked."""

    def __init__(
        self,
        model: PeftModel | PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        shall_stop: Callable[[], bool] = lambda: False,
        progress: AnswerProgress | None = None,
        sampling: Sampling = AS_AFTER_TRAINING,
    ) -> None:
        self.model, self.tokenizer, self.shall_stop, self.progress = model, tokenizer, shall_stop, progress
        self.sampling = sampling
        ends = model.generation_config.eos_token_id
        self._ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.is_stopped = False
        self.said: Callable[[int, str], None] | None = None
        """Hears each answer with the place of its question, once, as soon as it has ended."""
        self._told: set[int] = set()

    def answer(self, places: Sequence[int], prompts: Sequence[str], answers: list[str | None]) -> None:
        """Fill `answers` at `places`; None stays where a stop came before an answer's end. Halves what does not fit."""
        if self.is_stopped:
            return
        try:
            texts = self._generate([prompts[place] for place in places], places)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(places) == 1 or sharers_of(self.model).size > 1:
                raise  # the others, who share the model's weights, are amid the same pass
            texts = None
        if texts is None:  # outside of the `except`, whose traceback holds the batch's tensors
            logger.warning("%s questions at once need more memory than there is: they are halved", len(places))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            half = len(places) // 2
            self.answer(places[:half], prompts, answers)
            self.answer(places[half:], prompts, answers)
            return
        for place, text in zip(places, texts, strict=True):
            answers[place] = text
            if text is not None:
                self._tell(place, text)
        if self.progress is not None:
            self.progress.add(sum(text is not None for text in texts))

    def _tell(self, place: int, text: str) -> None:
        if self.said is not None and place not in self._told:
            self._told.add(place)
            self.said(place, text)

    def _generate(self, prompts: Sequence[str], places: Sequence[int]) -> list[str | None]:
        inputs = _tokens(self.tokenizer, prompts, return_tensors="pt", padding=True, padding_side="left")
        device = inputs_device(self.model)
        inputs = inputs.to(device)
        prompt_tokens = inputs["input_ids"].shape[1]
        ends = torch.tensor(self._ends, dtype=torch.long, device=device)
        has_stop_text = self._has_stop_text if self.sampling.stop else None

        def ended(rows: torch.Tensor, new: torch.Tensor) -> None:
            for number in rows.nonzero().flatten().tolist() if self.said is not None else ():
                if places[number] not in self._told:
                    self._tell(places[number], self._text(new[number : number + 1])[0])

        watch = AtEachToken(
            prompt_tokens, self.sampling.max_new_tokens, ends, self.shall_stop, self.progress, has_stop_text, ended
        )
        # Not `inference_mode`: what a model keeps of it, as turned positions, could not be trained with afterwards.
        with torch.no_grad(), rows_in_one_piece(self.model):
            output = self.model.generate(
                **inputs,
                **self._options(),
                pad_token_id=self.tokenizer.pad_token_id,
                stopping_criteria=StoppingCriteriaList([watch]),
            )
        new = output[:, prompt_tokens:]
        texts = self._text(new)
        self.is_stopped = watch.has_stopped
        whole = watch.have_ended(new).tolist() if self.is_stopped else [True] * len(texts)
        return [text if is_whole else None for text, is_whole in zip(texts, whole, strict=True)]

    def _text(self, new: torch.Tensor) -> list[str]:
        """Of each row. `new`: rows × new tokens; what stands behind an answer's end is padding."""
        return [self._cut(text).strip() for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    def _options(self) -> dict[str, Any]:
        """What `generate` is told of the sampling; what is not told is the model's own."""
        drawn = self.sampling
        options: dict[str, Any] = {"max_new_tokens": drawn.max_new_tokens, "do_sample": drawn.temperature > 0}
        if drawn.temperature > 0:
            options |= {"temperature": drawn.temperature, "top_p": drawn.top_p, "top_k": drawn.top_k}
        if drawn.repetition_penalty != 1:
            options["repetition_penalty"] = drawn.repetition_penalty
        return options

    def _has_stop_text(self, new: torch.Tensor) -> torch.Tensor:
        """Which rows hold a text at which an answer ends. `new`: rows × new tokens."""
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return torch.tensor([self._cut(text) != text for text in texts], device=new.device)

    def _cut(self, text: str) -> str:
        """Up to the first text at which an answer ends."""
        return text[: min((text.index(stop) for stop in self.sampling.stop if stop in text), default=len(text))]


def _tokens(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], **options: Any) -> Any:
    return tokenizer(list(prompts), add_special_tokens=not tokenizer.chat_template, **options)
