"""How soon an answer begins, and how fast two columns are written beside transformers' own `generate`.

    python -m benchmarks.chat_speed [--model FOLDER] [--tokens 64] [--rounds 3]

Without a model: the demo's. The adapter is made here, on every linear layer; what it says does not matter to its speed. One model, one
process, the same threads: in each round `generate` answers with the base model and with the adapter, then our loop
answers with both in turn. The ratio is of one round's seconds; those of the cores mean something on a machine that others use too.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lora_backend.chats.documents import Chat, Sampling, Turn
from lora_backend.chatting.chat_prompts import prompt_ids
from lora_backend.chatting.chat_session import ChatSession
from lora_backend.chatting.columns import ChatModel
from lora_backend.chatting.generation import stream_reply
from lora_backend.config.schema import TrainingConfig
from lora_backend.demo.model import prepare_demo_model
from lora_backend.installation import this_installation
from lora_backend.modeling.adapter import attach_adapter, save_adapter
from lora_backend.modeling.load import load_model
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.runs.record.job_documents import Column

PROMPT = "What is the capital of France, and what is it known for?"
LABELS = ("base", "adapter")


def main(words: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chat_speed")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(list(words))
    here = this_installation()
    base = asked.model or prepare_demo_model(here.cache, lambda *_: None)
    with tempfile.TemporaryDirectory(prefix="chat-speed-") as folder:
        adapter = Path(folder) / "adapter"
        made = TrainingConfig(model_name=str(base), r=16, alpha=32)
        save_adapter(attach_adapter(load_model(made), made), adapter)
        columns = [Column(label="base"), Column(label="adapter", adapter=str(adapter))]
        chat = Chat(
            id="c", base_model=str(base), columns=columns, turns=[Turn(prompt=PROMPT)],
            sampling=Sampling(max_new_tokens=asked.tokens),
        )  # fmt: skip
        session = ChatSession(here, AnyPath(here.folder))
        list(session.answer(chat.but(sampling=Sampling(max_new_tokens=2)), 0, LABELS))  # loads it
        assert session.model is not None
        measure(session, session.model, chat, asked.rounds)


def measure(session: ChatSession, model: ChatModel, chat: Chat, rounds: int) -> None:
    ids, count = prompt_ids(model.tokenizer, chat, 0, "base"), chat.sampling.max_new_tokens
    alone: list[tuple[Seconds, Seconds]] = []
    both: list[Seconds] = []
    first: list[float] = []
    for number in range(rounds):
        base, adapter = (timed(lambda label=label: generated(model, label, ids, count)) for label in LABELS)  # type: ignore[misc]
        alone.append((base, adapter))
        both.append(timed(lambda: in_turn(model, ids, chat.sampling)))
        first.append(first_token_s(session, chat, number))
    print(f"{torch.get_num_threads()} threads, {len(ids)} tokens of prompt, {count} of each answer")
    for unit, name in ((0, "of the clock"), (1, "of the cores")):
        speeds = {
            "`generate`, base": [count / base[unit] for base, _ in alone],
            "`generate`, adapter": [count / adapter[unit] for _, adapter in alone],
            "both in turn": [2 * count / one[unit] for one in both],
        }
        ratios = [(base[unit] + adapter[unit]) / one[unit] for (base, adapter), one in zip(alone, both, strict=True)]
        for what, found in speeds.items():
            print(f"{what}, tokens a second {name}: {told(found)}")
        print(f"both in turn / `generate` of one after the other, seconds {name}: {told(ratios)}")
    print(f"first token, s of the clock: {told(first)}")


Seconds = tuple[float, float]
"""Of the clock, and of the cores."""


def told(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def timed(act: Callable[[], object]) -> Seconds:
    clock, cores = time.monotonic(), time.process_time()
    act()
    return time.monotonic() - clock, time.process_time() - cores


def generated(model: ChatModel, label: str, ids: list[int], count: int) -> None:
    """`generate` with one column, to the full length."""
    given = torch.tensor([ids])
    with model.use(label) as answering, torch.inference_mode():
        answering.generate(input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)  # fmt: skip


def in_turn(model: ChatModel, ids: list[int], sampling: Sampling) -> None:
    """Our loop with both columns, a token of each in turn, to the full length."""
    streams: list[Any] = [
        stream_reply(model.model, ids, sampling, tokenizer=model.tokenizer, stops=(), within=lambda label=label: model.use(label))  # type: ignore[misc]
        for label in LABELS
    ]  # fmt: skip
    for _ in zip(*streams, strict=True):
        pass


def first_token_s(session: ChatSession, chat: Chat, seed: int) -> float:
    """From the question to the first token of the first column, the model being loaded."""
    began = time.monotonic()
    stream = session.answer(chat.but(sampling=chat.sampling.but(seed=seed)), 0, LABELS)
    while next(stream).reply.num_tokens == 0:
        pass
    taken_s = time.monotonic() - began
    stream.close()  # type: ignore[attr-defined]
    return taken_s


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
