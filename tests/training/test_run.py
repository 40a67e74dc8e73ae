"""A run from its config to its adapter: what it writes, what it learns, how it ends."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, DataCollatorForSeq2Seq

from lora_backend import buildandTrainLoraModel
from lora_backend.config.files import dump_yaml
from lora_backend.errors import (
    ConfigError,
    DataError,
    DeviceError,
    FlightdeckError,
    ModelError,
    RankMismatchError,
    RunError,
)
from lora_backend.modeling.load import load_tokenizer
from lora_backend.runs.folder import RunFolder, list_runs
from lora_backend.training.run import train_in_folder
from lora_backend.training.tokenize import tokenize_rows
from tests.tiny import ANSWERS, QUESTIONS, chats, make_model, prompts, write_rows

Make = Callable[..., dict[str, Any]]


def run(workspace: Path, values: dict[str, Any]) -> RunFolder:
    folder = RunFolder.create(workspace / "runs", config=values, config_text=dump_yaml(values), argv=None)
    train_in_folder(folder)
    return folder


def failed_run(workspace: Path, values: dict[str, Any], error: type[FlightdeckError]) -> tuple[RunFolder, str]:
    folder = RunFolder.create(workspace / "runs", config=values, config_text=dump_yaml(values), argv=None)
    with pytest.raises(error) as raised:
        train_in_folder(folder)
    state = folder.state()
    assert state.state == "failed"
    assert state.message is not None
    assert state.message.text() == str(raised.value)
    assert "Traceback" in folder.train_log.read_text()
    return folder, str(raised.value)


def test_a_run_learns_and_leaves_everything_behind(config: Make, workspace: Path, tiny_model: Path) -> None:
    folder = run(workspace, config(val_size=0.25, eval_strategy="epoch", num_epochs=10))
    metrics = folder.metrics()
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert losses[-1] < losses[0] - 0.3
    point = next(row for row in metrics if "loss" in row)
    assert point.keys() >= {
        "step",
        "epoch",
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_s",
        "memory_bytes",
        "time",
        "format",
    }
    assert any("eval_loss" in row for row in metrics)
    assert folder.state().state == "finished"
    for name in ("run", "status", "rank_report", "exit"):
        assert json.loads((folder.path / f"{name}.json").read_text())["format"] == 1
    report = folder.rank_report()
    assert report is not None
    assert (report["status"], report["saved"]["status"]) == ("ok", "ok")
    log = folder.train_log.read_text()
    for said in (
        "config as it runs",
        "differs from the defaults",
        "device cpu",
        "stage training took",
        "memory after load",
        "memory after the first step",
        "memory at the end",
    ):
        assert said in log
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.tensor([[5, 9, 10]])
    before = base(ids).logits.detach().clone()
    after = PeftModel.from_pretrained(base, folder.adapter)(ids).logits
    assert not torch.allclose(before, after), "the adapter changes what the model says"


def test_prompt_and_completion_train_as_well(config: Make, workspace: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "prompts.jsonl", prompts())
    folder = run(workspace, config(dataset=str(data)))
    assert folder.state().state == "finished"


def test_the_same_seed_gives_the_same_adapter(config: Make, workspace: Path) -> None:
    one, two = (run(workspace, config(lora_dropout=0.1)) for _ in range(2))
    other = run(workspace, config(lora_dropout=0.1, seed=7))
    bytes_of = lambda folder: (folder.adapter / "adapter_model.safetensors").read_bytes()  # noqa: E731
    assert bytes_of(one) == bytes_of(two) != bytes_of(other)


def test_checkpointing_activations_changes_no_loss(config: Make, workspace: Path) -> None:
    plain, checkpointed = (run(workspace, config(gradient_checkpointing=on)) for on in (False, True))
    pairs = zip(plain.metrics(), checkpointed.metrics(), strict=True)
    assert all(a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in pairs)


def test_bf16_trains_and_fp16_is_refused_without_a_gpu(config: Make, workspace: Path) -> None:
    assert run(workspace, config(precision="bf16")).state().state == "finished"
    _, sentence = failed_run(workspace, config(precision="fp16"), DeviceError)
    assert "precision" in sentence


def test_questions_are_answered_by_base_and_adapter(config: Make, workspace: Path, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": question}], "expect": [answer], "group": "g"}
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
    ]
    folder = run(
        workspace,
        config(questions=str(write_rows(tmp_path / "q.jsonl", rows)), num_epochs=60, r=16, learning_rate=3e-2),
    )
    answers = folder.answers()
    assert [row["question"] for row in answers] == QUESTIONS
    assert not any(row["base_correct"] for row in answers)
    assert sum(row["adapter_correct"] for row in answers) >= 3, answers


def test_a_stop_asked_for_before_training_ends_the_run_as_stopped(config: Make, workspace: Path) -> None:
    values = config()
    folder = RunFolder.create(workspace / "runs", config=values, config_text=dump_yaml(values), argv=None)
    folder.request_stop()
    train_in_folder(folder)
    assert folder.state().state == "stopped"
    assert not folder.adapter.exists()


def test_an_adapter_is_published_once_and_replaced_only_when_asked(config: Make, workspace: Path) -> None:
    names = {"pkg": "shop", "version": "1.0.0", "knowledge_type": "faq"}
    run(workspace, config(**names))
    published = workspace / "adapters/shop/1.0.0/faq"
    first = (published / "adapter_model.safetensors").read_bytes()
    _, sentence = failed_run(workspace, config(**names, seed=7), RunError)
    assert "overwrite" in sentence
    assert (published / "adapter_model.safetensors").read_bytes() == first
    run(workspace, config(**names, seed=7, overwrite=True))
    assert (published / "adapter_model.safetensors").read_bytes() != first
    assert [path.name for path in published.parent.iterdir()] == ["faq"]


def test_a_strict_mismatch_stops_before_the_first_step(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_backend.training import engine  # its imported names are what the run calls

    honest = engine.attach_adapter  # type: ignore[attr-defined]
    # The one way to a model that disobeys its config is to hand over another one.
    monkeypatch.setattr(engine, "attach_adapter", lambda model, asked: honest(model, asked.model_copy(update={"r": 2})))
    folder, sentence = failed_run(workspace, config(strict_r_check=True), RankMismatchError)
    assert "14 LoRA layers" in sentence
    assert folder.metrics() == []
    report = folder.rank_report()
    assert report is not None
    assert report["is_consistent"] is False


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], type[FlightdeckError], str]] = {
    "no such model": (lambda _: {"model_name": "/nowhere/model"}, ModelError, "/nowhere/model"),
    "not in the cache": (lambda _: {"model_name": "someone/some-model"}, ModelError, "hf download someone/some-model"),
    "no tokenizer": (lambda tmp: {"model_name": str(make_model(tmp / "m", tokenizer=False))}, ConfigError, "holds no tokenizer"),
    "no chat template": (lambda tmp: {"model_name": str(make_model(tmp / "m", chat_template=False))}, ConfigError, "chat template"),
    "no data": (lambda tmp: {"dataset": str(tmp / "none.jsonl")}, DataError, "none.jsonl"),
    "no dataset key": (lambda _: {"dataset": ...}, ConfigError, "dataset"),
    "a broken line": (lambda tmp: {"dataset": _broken(tmp)}, ConfigError, "Line 3"),
    "no answer": (lambda tmp: {"dataset": str(write_rows(tmp / "d.jsonl", [{"prompt": "a", "completion": ""}]))}, ConfigError, "Line 1"),
    "unmatched targets": (lambda _: {"target_modules": ["q_porj"]}, ConfigError, "q_porj"),
    "an expression that matches nothing": (lambda _: {"target_modules": ".*zzz"}, ModelError, "q_proj, k_proj"),
    "a layer beyond": (lambda _: {"target_layers": [0, 2]}, ConfigError, "0 to 1"),
    "a row too long": (lambda _: {"max_length": 3}, DataError, "max_length"),
}  # fmt: skip


def _broken(tmp: Path) -> str:
    (tmp / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b"}\n{oops\n')
    return str(tmp / "broken.jsonl")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_sentence(name: str, config: Make, workspace: Path, tmp_path: Path) -> None:
    change, error, said = BAD[name]
    _, sentence = failed_run(workspace, config(**change(tmp_path)), error)
    assert said in sentence


# ------------------------------------------------------------------------------- a caller's own DataLoader


def loader(tiny_model: Path, batch_size: int = 2) -> DataLoader[Any]:
    tokenizer = load_tokenizer(str(tiny_model))
    return DataLoader(
        tokenize_rows(chats(), tokenizer, 64), batch_size=batch_size, collate_fn=DataCollatorForSeq2Seq(tokenizer)
    )


def test_a_callers_dataloader_trains_as_a_run_like_any_other(
    config: Make, workspace: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = config(dataset=..., target_batch_size=8, batch_size=2, num_epochs=2)
    with caplog.at_level(logging.WARNING):
        model = buildandTrainLoraModel(values, loader(tiny_model), "bf16", "pkg", "1.0.0", "facts")
    assert "precision bf16 is used; the config says fp32" in caplog.text
    (folder,) = list_runs(workspace / "runs")
    assert folder.state().state == "finished"
    assert folder.state().total_steps == 4, "16 rows, 8 a step, two epochs"
    assert folder.rank_report() is not None
    assert isinstance(model, PeftModel)
    assert (workspace / "adapters/pkg/1.0.0/facts/adapter_model.safetensors").is_file()


@pytest.mark.parametrize("names", [{}, {"pkg": "a"}, {"version": "1"}])
def test_a_direct_call_needs_its_names_and_makes_no_run_without(
    names: dict[str, str], config: Make, workspace: Path, tiny_model: Path
) -> None:
    with pytest.raises(ValueError, match="pkg"):
        buildandTrainLoraModel(config(), loader(tiny_model), **names)
    assert list_runs(workspace / "runs") == []


def test_a_batch_that_is_no_dict_of_tokens_is_refused_with_a_sentence(config: Make, workspace: Path) -> None:
    batches: Any = DataLoader([{"input_ids": torch.tensor([1, 2])}] * 4, batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="attention_mask, labels"):
        buildandTrainLoraModel(config(), batches, pkg="a", version="1")
