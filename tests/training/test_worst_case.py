"""The longest batch is tried before the first step: too little memory shows at once, and nothing else changes."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lora_backend.modeling.step import micro_batch_step
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import worst_case
from lora_backend.training.flat_batch import num_tokens_in
from lora_backend.training.worst_case import longest_rows
from tests.run_files import attempt_of, points_of, status_of
from tests.tiny import prompts, write_rows
from tests.training.helpers import adapter_bytes, at_line, curve, failed_run, made, run

Make = Callable[..., dict[str, Any]]


def test_the_longest_rows_make_the_batch() -> None:
    assert longest_rows([3, 9, 1, 7, 9], 3) == [1, 4, 3]
    assert longest_rows([3], 4) == [0]


@pytest.mark.parametrize(
    "changes",
    [{"target_batch_size": 8}, {"gradient_checkpointing": True, "loss_type": "chunked_nll", "batching": "padded"}],
    ids=["accumulated", "checkpointed, in chunks, padded"],
)
def test_training_is_the_same_with_and_without_it(
    changes: dict[str, Any], config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row | {"completion": f"{row['completion']} " * (index % 3 + 1)} for index, row in enumerate(prompts())]
    data = str(write_rows(tmp_path / "uneven.jsonl", rows))
    values = config(dataset=data, lora_dropout=0.1, num_epochs=2, **changes)
    tried: list[int] = []
    honest = micro_batch_step

    def one_pass(model: Any, batch: Any, **how: Any) -> Any:
        tried.append(num_tokens_in(batch))
        return honest(model, batch, **how)

    monkeypatch.setattr(worst_case, "micro_batch_step", one_pass)
    with_it = run(workspace, values)
    monkeypatch.setattr("lora_backend.training.recipe.try_longest_batch", lambda *_: None)
    without = run(workspace, values)
    lengths = sorted(len(f"{row['prompt']} {row['completion']} end".split()) for row in rows)
    assert tried == [sum(lengths[-4:])]
    assert curve(with_it) == curve(without)
    assert adapter_bytes(with_it) == adapter_bytes(without)


@pytest.fixture
def little_memory() -> Iterator[Callable[[], None]]:
    """Call it, and this process may take one GiB more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**30, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_batch_that_does_not_fit_fails_before_the_first_step_and_says_which(
    config: Make, workspace: Path, tmp_path: Path, little_memory: Callable[[], None]
) -> None:
    """One row of forty is long: without this it would come at some step of the epoch."""
    rows: list[dict[str, object]] = [*prompts(10), {"prompt": "how tall is the tower", "completion": "tower " * 12_000}]
    data = str(write_rows(tmp_path / "long.jsonl", rows))
    values = config(
        dataset=data, max_length=16_000, batch_size=2, attn_implementation="eager", use_balanced_device_map=...
    )
    with at_line("stage training", little_memory):
        folder, sentence = failed_run(workspace, values)
    assert folder.state().cause == "host_out_of_memory"
    assert "2 rows of 12006 tokens" in sentence
    assert "`batch_size`" in sentence
    assert points_of(folder) == []


def test_without_padding_the_sentence_names_all_tokens_of_the_batch(
    config: Make, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of packed lines the fullest are tried: more rows than lines, and no more tokens than these may have."""

    def too_large(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(worst_case, "micro_batch_step", too_large)
    longest = sorted((len(f"{row['prompt']} {row['completion']} end".split()) for row in prompts()), reverse=True)
    values = config(dataset=str(write_rows(tmp_path / "rows.jsonl", prompts())), batch_size=3)
    _, sentence = failed_run(workspace, values)
    assert f"3 rows, {sum(longest[:3])} tokens in all" in sentence
    _, sentence = failed_run(workspace, values | {"batching": "packed", "max_length": 40, "batch_size": 1})
    found = re.search(r"(\d+) rows, (\d+) tokens in all", sentence)
    assert found is not None
    assert int(found[1]) > 1
    assert 35 < int(found[2]) <= 40


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_8bit", "sgd"])
def test_room_is_held_for_what_the_optimizer_will_hold(optim: str, config: Make, workspace: Path) -> None:
    """A table of embeddings keeps its states in 32 bits, whatever the optimizer's are."""
    held: list[int] = []
    real = worst_case._held_later

    def watched(*args: Any) -> Any:
        found = real(*args)
        held.append(sum(tensor.nbytes for tensor in found))
        return found

    values = config(optim=optim, max_steps=2, r=512, modules_to_save=["embed_tokens"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worst_case, "_held_later", watched)
        folder = run(workspace, values)
    measured = attempt_of(folder)["measured"]["devices"][0]["optimizer"]
    shared_bytes = {"adamw_torch": 4 * 29, "adamw_8bit": 2 * 1024, "sgd": 0}[optim]  # counters; tables
    assert held == [measured - shared_bytes]


def test_the_stage_is_shown(config: Make, workspace: Path) -> None:
    folder = made(workspace, config(max_steps=2))
    seen: list[Any] = []
    with (
        at_line("the longest batch fits", lambda: seen.append(status_of(folder)["stage"])),
        at_line("step 2 of", lambda: seen.append(status_of(folder)["stage"])),
    ):
        train_in_folder(folder)
    assert seen == ["first_step", "training"]
