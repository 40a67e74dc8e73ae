"""Chats tokenized and labelled in one process, beside TRL's own preparation of the same chats in the same run.

Both begin with the rows in memory and end with `input_ids` and `labels` in Arrow's columns, as training reads them. The
template is one with `{% generation %}` marks, which TRL needs to tell the answers. The two take turns.
`python -m benchmarks labelling` takes 20,000 chats, `CHATS=100000 python -m benchmarks labelling` as many as it says.
"""

from __future__ import annotations

import logging
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.noise import median_and_spread
from lora_backend.data.examples import Chat

CHATS = int(os.environ.get("CHATS", "20000"))
TURNS = 5
BATCH = 1000
TEMPLATE = "qwen3_training.jinja"
MAX_LENGTH = 1024


class Taken(NamedTuple):
    """By the clock, and of the processor: other work on the machine disturbs the second less."""

    wall_s: float
    cpu_s: float

    @classmethod
    def since(cls, began: Taken) -> Taken:
        return cls(time.perf_counter() - began.wall_s, time.process_time() - began.cpu_s)

    @classmethod
    def now(cls) -> Taken:
        return cls(time.perf_counter(), time.process_time())


def main() -> None:
    logging.getLogger("lora_backend").setLevel(logging.ERROR)
    rows = _rows(CHATS)
    tokenizer = _tokenizer(rows)
    ours, trl, our_cpu, trl_cpu = [], [], [], []
    for _ in range(TURNS):
        taken, labels = _ours(rows, tokenizer)
        ours.append(len(rows) / taken.wall_s)
        our_cpu.append(taken.cpu_s)
        taken, trl_labels = _trl(rows, tokenizer)
        trl.append(len(rows) / taken.wall_s)
        trl_cpu.append(taken.cpu_s)
    print(f"{len(rows)} chats of 2 to 6 turns, {labels} trained tokens ({trl_labels} by TRL), template {TEMPLATE}")
    print("Flightdeck:", median_and_spread(ours, "chats/s"))
    print("TRL:       ", median_and_spread(trl, "chats/s"))
    print(f"ratio of the medians: {statistics.median(ours) / statistics.median(trl):.2f}")
    print(f"processor time: {statistics.median(our_cpu):.1f} s beside {statistics.median(trl_cpu):.1f} s")


def _rows(count: int) -> list[list[dict[str, str]]]:
    """Chats of made-up words, of the lengths of an ordinary instruction set."""
    drawn = random.Random(0)
    syllables = [a + b for a in "bdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
    words = ["".join(drawn.choices(syllables, k=drawn.choice((1, 2, 2, 3)))) for _ in range(4000)]

    def text(least: int, most: int) -> str:
        return " ".join(drawn.choices(words, k=drawn.randint(least, most))).capitalize() + "."

    rows = []
    for _ in range(count):
        row = [{"role": "system", "content": text(4, 12)}] if drawn.random() < 0.3 else []
        for _ in range(drawn.randint(1, 3)):
            row += [{"role": "user", "content": text(5, 40)}, {"role": "assistant", "content": text(10, 120)}]
        rows.append(row)
    return rows


def _tokenizer(rows: list[list[dict[str, str]]]) -> Any:
    import trl
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=special, initial_alphabet=alphabet, show_progress=False)  # fmt: skip
    core.train_from_iterator((message["content"] for row in rows[:2000] for message in row), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=special[1:]
    )
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / TEMPLATE).read_text("utf-8")
    return tokenizer


def _ours(rows: list[list[dict[str, str]]], tokenizer: Any) -> tuple[Taken, int]:
    import pyarrow as pa

    from lora_backend.modeling.loss import IGNORED
    from lora_backend.tokens.labels import Labelled, Labeller, LabelRules

    began = Taken.now()
    labeller = Labeller(tokenizer, LabelRules(MAX_LENGTH))
    tables = []
    for begin in range(0, len(rows), BATCH):
        found = labeller.label([Chat(tuple(row)) for row in rows[begin : begin + BATCH]])
        good = [row for row in found if isinstance(row, Labelled)]
        tables.append(pa.table({"input_ids": [row.input_ids for row in good], "labels": [row.labels for row in good]}))
    table = pa.concat_tables(tables)
    taken = Taken.since(began)
    assert table.num_rows == len(rows)
    return taken, _trained(table["labels"], IGNORED)


def _trl(rows: list[list[dict[str, str]]], tokenizer: Any) -> tuple[Taken, int]:
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    class Timed(SFTTrainer):  # type: ignore[misc]
        taken: Taken

        def _prepare_dataset(self, *given: Any, **named: Any) -> Any:
            began = Taken.now()
            prepared = super()._prepare_dataset(*given, **named)
            self.taken = Taken.since(began)
            return prepared

    datasets.disable_caching()
    datasets.disable_progress_bars()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_length=MAX_LENGTH, assistant_only_loss=True, use_cpu=True, bf16=False, report_to="none"
        )  # fmt: skip
        trainer = Timed(
            model=LlamaForCausalLM(config),
            args=arguments,
            train_dataset=datasets.Dataset.from_list([{"messages": row} for row in rows]),
            processing_class=tokenizer,
        )
    return trainer.taken, _trained(trainer.train_dataset.data.table["labels"], -100)


def _trained(column: Any, ignored: int) -> int:
    import pyarrow.compute as pc

    return int(pc.sum(pc.not_equal(pc.list_flatten(column), ignored)).as_py())
