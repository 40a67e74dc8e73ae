"""A caller's own DataLoader trains as a run like any other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from transformers import DataCollatorForSeq2Seq

from lora_backend import buildandTrainLoraModel, train_lora_model
from lora_backend.errors import ConfigError, DataError, FlightdeckError
from lora_backend.modeling.load import load_tokenizer
from lora_backend.runs.processes.leases import holders, release, take
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.transitions import request_stop
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from tests.run_files import points_of, record_of
from tests.tiny import chats

Make = Callable[..., dict[str, Any]]
NAMES = {"pkg": "pkg", "version": "1.0.0"}


def loader(tiny_model: Path, batch_size: int = 2, **more: Any) -> DataLoader[Any]:
    tokenizer = load_tokenizer(str(tiny_model))
    rows: Any = label_rows(chats(), tokenizer, LabelRules(64))
    return DataLoader(rows, batch_size=batch_size, collate_fn=DataCollatorForSeq2Seq(tokenizer), **more)


def the_run(workspace: Path) -> RunStore:
    (folder,) = list_runs(workspace / "runs")
    return folder


def test_a_direct_call_leaves_the_same_record_as_a_run(config: Make, workspace: Path, tiny_model: Path) -> None:
    values = config(dataset=..., target_batch_size=8, batch_size=2, num_epochs=2)
    model = buildandTrainLoraModel(values, loader(tiny_model), "fp32", "pkg", "1.0.0", "facts")
    folder = the_run(workspace)
    assert isinstance(model, PeftModel)
    assert folder.state().state == "finished"
    assert folder.state().total_steps == 4, "16 rows, 8 a step, two epochs"
    assert [row["step"] for row in points_of(folder)] == [1, 2, 3, 4]
    report = folder.read_rank_report()
    assert report is not None
    assert report.status == "ok"
    assert folder.read_attempt().batching == "padded", "as the loader makes them"
    assert "config as it runs" in folder.train_log.read_text()
    assert record_of(folder)["config"] == values | {"precision": "fp32", "knowledge_type": "facts"} | NAMES
    assert (workspace / "adapters/pkg/1.0.0/facts/adapter_model.safetensors").is_file()
    assert train_lora_model is buildandTrainLoraModel


def test_a_direct_call_holds_its_device_while_it_trains(config: Make, workspace: Path, tiny_model: Path) -> None:
    values, place = config(dataset=..., num_epochs=1), leases_folder(workspace)
    seen: set[str] = set()
    batches = loader(tiny_model, 4)
    collate = batches.collate_fn

    def look(rows: Any) -> Any:
        seen.update(holder.run for holder in holders(place, ["cpu"]))
        return collate(rows)

    batches.collate_fn = look
    buildandTrainLoraModel(values, batches, **NAMES)
    assert seen == {the_run(workspace).id}
    assert not holders(place, ["cpu"]), "given back at the end"


def test_a_direct_call_beside_another_run_says_whose_device_it_shares(
    config: Make, workspace: Path, tiny_model: Path
) -> None:
    other = take(leases_folder(workspace), ["cpu"], workspace / "runs/the-other")
    assert other
    try:
        buildandTrainLoraModel(config(dataset=..., num_epochs=1), loader(tiny_model, 4), **NAMES)
    finally:
        release(other)
    assert "in use by run the-other; this one trains beside it" in the_run(workspace).train_log.read_text()


def test_the_callers_batches_are_the_ones_that_are_trained_on(config: Make, workspace: Path, tiny_model: Path) -> None:
    seen: list[int] = []
    batches = loader(tiny_model, 4)
    collate = batches.collate_fn

    def counted(rows: list[Any]) -> Any:
        seen.append(len(rows))
        return collate(rows)

    batches.collate_fn = counted
    buildandTrainLoraModel(config(dataset=..., num_epochs=1), batches, **NAMES)
    assert seen == [4, 4, 4, 4]


def test_a_dataloader_with_a_sampler_of_batches_trains(config: Make, workspace: Path, tiny_model: Path) -> None:
    plain = loader(tiny_model)
    rows: Any = plain.dataset
    batches: DataLoader[Any] = DataLoader(rows, batch_sampler=[[0, 1, 2, 3], [4, 5]], collate_fn=plain.collate_fn)
    buildandTrainLoraModel(config(dataset=..., num_epochs=2), batches, **NAMES)
    assert the_run(workspace).state().total_steps == 4


def test_a_stream_without_a_length_trains_for_max_steps(config: Make, workspace: Path, tiny_model: Path) -> None:
    rows = list(loader(tiny_model).dataset)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(rows)

    batches: DataLoader[Any] = DataLoader(Stream(), batch_size=2, collate_fn=loader(tiny_model).collate_fn)
    buildandTrainLoraModel(config(dataset=..., max_steps=3), batches, **NAMES)
    assert the_run(workspace).state().step == 3
    with pytest.raises(FlightdeckError, match="max_steps"):
        buildandTrainLoraModel(config(dataset=...), batches, pkg="pkg", version="2")


@pytest.mark.parametrize("names", [{}, {"pkg": "a"}, {"version": "1"}, {"pkg": "", "version": "1"}])
def test_a_direct_call_needs_its_names_and_makes_no_run_without(
    names: dict[str, str], config: Make, workspace: Path, tiny_model: Path
) -> None:
    with pytest.raises(ValueError, match="pkg"):
        buildandTrainLoraModel(config(), loader(tiny_model), **names)
    assert list_runs(workspace / "runs") == []


def test_a_precision_that_differs_is_warned_of_in_the_runs_log_too(
    config: Make, workspace: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "precision bf16 is used; the config says fp32"
    with caplog.at_level(logging.WARNING):
        buildandTrainLoraModel(config(dataset=..., max_steps=1), loader(tiny_model), "bf16", **NAMES)
    assert said in caplog.text
    assert record_of(the_run(workspace))["config"]["precision"] == "bf16"
    assert said in the_run(workspace).train_log.read_text()


def test_the_same_precision_is_not_warned_of(
    config: Make, workspace: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        buildandTrainLoraModel(config(dataset=..., max_steps=1), loader(tiny_model), "fp32", **NAMES)
    assert "precision" not in caplog.text


def test_a_target_that_the_dataloaders_batches_do_not_reach_is_said(
    config: Make, workspace: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The config's `batch_size` 4 divides 8, the loader's 3 does not: six rows a step are not what was asked for."""
    with caplog.at_level(logging.WARNING):
        try:
            buildandTrainLoraModel(
                config(dataset=..., target_batch_size=8, max_steps=1), loader(tiny_model, 3), **NAMES
            )
        except FlightdeckError as error:
            said = str(error)
        else:
            said = caplog.text
    assert "target_batch_size" in said


BATCHES: dict[str, Any] = {
    "a key is missing": lambda: DataLoader([{"input_ids": torch.tensor([1, 2])}] * 4, batch_size=2),  # type: ignore[arg-type,list-item]
    "tuples": lambda: DataLoader(TensorDataset(torch.ones(4, 3, dtype=torch.long)), batch_size=2),
    "lists, no tensors": lambda: DataLoader(
        [{"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [1, 2]}] * 4,  # type: ignore[arg-type,list-item]
        batch_size=2,
        collate_fn=lambda rows: {key: [row[key] for row in rows] for key in rows[0]},
    ),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_that_is_no_dict_of_tensors_is_refused_with_a_sentence(
    kind: str, config: Make, workspace: Path
) -> None:
    with pytest.raises(DataError, match="input_ids, attention_mask and labels"):
        buildandTrainLoraModel(config(), BATCHES[kind](), **NAMES)
    state = the_run(workspace).state()
    assert (state.state, state.cause) == ("failed", "data")


@pytest.mark.parametrize("changes", [{"r": "four"}, {"model_name": Path("m")}, {"r": np.int64(4)}], ids=str)
def test_a_config_with_errors_is_a_config_error(
    changes: dict[str, Any], config: Make, workspace: Path, tiny_model: Path
) -> None:
    with pytest.raises(ConfigError):
        buildandTrainLoraModel(config(**changes), loader(tiny_model), **NAMES)


def test_evaluation_that_a_dataloader_leaves_no_rows_for_is_an_error_of_ours(
    config: Make, workspace: Path, tiny_model: Path
) -> None:
    with pytest.raises(FlightdeckError):
        buildandTrainLoraModel(config(val_size=0.25, eval_strategy="epoch"), loader(tiny_model), **NAMES)


def test_an_error_of_the_callers_own_is_not_hidden_and_fails_the_run(
    config: Make, workspace: Path, tiny_model: Path
) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("my collator is broken")

    batches = loader(tiny_model)
    batches.collate_fn = broken
    with pytest.raises(RuntimeError, match="my collator is broken"):
        buildandTrainLoraModel(config(dataset=...), batches, **NAMES)
    state = the_run(workspace).state()
    assert state.state == "failed"
    assert state.message is not None
    assert "my collator is broken" in state.message.text("en")
    assert "Traceback" in the_run(workspace).train_log.read_text()


def stopping_at(workspace: Path, batches: DataLoader[Any], number: int) -> DataLoader[Any]:
    """Ask the run to stop while its batch `number` is made."""
    collate, count = batches.collate_fn, iter(range(1, 10**9))

    def stopping(rows: list[Any]) -> Any:
        if next(count) == number:
            request_stop(the_run(workspace))
        return collate(rows)

    batches.collate_fn = stopping
    return batches


def test_a_direct_call_that_is_stopped_returns_what_it_has_and_keeps_a_checkpoint(
    config: Make, workspace: Path, tiny_model: Path
) -> None:
    model = buildandTrainLoraModel(
        config(dataset=..., num_epochs=50), stopping_at(workspace, loader(tiny_model), 3), **NAMES
    )
    folder = the_run(workspace)
    assert isinstance(model, PeftModel)
    assert folder.state().state == "stopped"
    (checkpoint,) = folder.checkpoints.iterdir()
    assert checkpoint.name == f"checkpoint-{folder.state().step}"
    assert not folder.adapter.exists()


def test_a_stop_that_comes_with_the_last_step_loses_nothing_of_a_run_that_trained_to_its_end(
    config: Make, workspace: Path, tiny_model: Path
) -> None:
    """All that was asked for is trained: the adapter is saved, and nobody is told that nothing was trained."""
    model = buildandTrainLoraModel(
        config(dataset=..., num_epochs=1), stopping_at(workspace, loader(tiny_model, 16), 1), **NAMES
    )
    folder = the_run(workspace)
    assert isinstance(model, PeftModel)
    assert (folder.adapter / "adapter_model.safetensors").is_file()
