"""A run from its config to its adapter: what it writes, what it learns, how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from lora_backend.config.config_text import parse_config
from lora_backend.errors import (
    ConfigError,
    DataError,
    FlightdeckError,
    ModelError,
    RankMismatchError,
)
from lora_backend.installation import this_installation
from lora_backend.modeling.adapter import save_adapter
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.trainer.session import training_session
from lora_backend.training import recipe
from lora_backend.training.recipe import train
from tests.resolving import from_here
from tests.run_files import points_of, record_of
from tests.tiny import chats, make_model, prompts, write_rows
from tests.training.helpers import adapter_bytes, failed_run, made, run

Make = Callable[..., dict[str, Any]]
IDS = torch.tensor([[5, 9, 10]])
POINT = {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_s", "memory_bytes", "time", "format"}


def losses(folder: RunStore) -> list[float]:
    return [row["loss"] for row in points_of(folder) if "loss" in row]


# ------------------------------------------------------------------------------------- what it leaves behind


def test_a_run_leaves_every_file_that_the_design_names(config: Make, workspace: Path) -> None:
    values = config()
    folder = run(workspace, values)
    assert folder.state().state == "finished"
    for name in ("run", "status", "rank_report", "exit"):
        assert json.loads((folder.path / f"{name}.json").read_text())["format"] == (2 if name == "status" else 1)
    assert parse_config(folder.config_yaml.read_text()).values == values
    assert record_of(folder)["config"] == values
    assert record_of(folder)["versions"]["peft"]
    assert record_of(folder)["actor"]
    assert {row["format"] for row in points_of(folder)} == {1}
    report = folder.read_rank_report()
    assert report is not None
    assert (report.status, report.saved and report.saved.status) == ("ok", "ok")
    assert {path.name for path in folder.adapter.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert list(folder.path.glob(".*")) == [], "nothing half written is left"


def test_the_log_tells_config_devices_stages_and_memory(config: Make, workspace: Path) -> None:
    log = run(workspace, config(check_r_consistency=True)).train_log.read_text()
    for said in (
        "config as it runs", "differs from the defaults", "device cpu", "rank check: 14 of 14", "stage training took",
        "memory after load", "memory after the first step", "memory at the end",
    ):  # fmt: skip
        assert said in log


def test_the_status_counts_up_to_the_last_step(config: Make, workspace: Path) -> None:
    state = run(workspace, config(num_epochs=2)).state()
    assert (state.step, state.total_steps) == (8, 8)
    assert state.started_at
    assert state.ended_at
    assert state.ended_at >= state.started_at


def test_every_point_of_the_curves_has_its_figures(config: Make, workspace: Path) -> None:
    rows = points_of(run(workspace, config(num_epochs=2, warmup_ratio=0.5, lr_scheduler_type="constant_with_warmup")))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(row.keys() == POINT for row in rows)
    assert all(row["tokens_per_s"] > 0 and row["memory_bytes"] > 0 and row["grad_norm"] > 0 for row in rows)
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] < rates[1] < rates[2] < rates[3], "half of the steps is warm-up"
    assert rates[4:] == [pytest.approx(2e-2)] * 4


def test_curves_are_as_dense_as_asked_and_begin_at_the_first_step(config: Make, workspace: Path) -> None:
    rows = points_of(run(workspace, config(num_epochs=2, logging_steps=4)))
    assert [row["step"] for row in rows] == [1, 4, 8]


@pytest.mark.parametrize(("strategy", "steps"), [("epoch", [3, 6]), ("steps", [2, 4, 6])])
def test_held_back_rows_are_evaluated_when_asked(
    strategy: str, steps: list[int], config: Make, workspace: Path
) -> None:
    folder = run(workspace, config(val_size=0.25, eval_strategy=strategy, eval_steps=2, num_epochs=2))
    assert folder.state().total_steps == 6, "four of the sixteen rows are held out"
    evaluated = [row for row in points_of(folder) if "eval_loss" in row]
    assert [row["step"] for row in evaluated] == steps
    assert all(row["eval_loss"] > 0 for row in evaluated)


def test_a_share_of_a_few_rows_holds_back_at_least_one_and_leaves_at_least_one(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    two = str(write_rows(tmp_path / "two.jsonl", prompts(1)[:2]))
    for share in (0.01, 0.99):
        folder = run(workspace, config(dataset=two, val_size=share, eval_strategy="epoch", num_epochs=1, batch_size=1))
        assert folder.state().total_steps == 1
        assert any("eval_loss" in row for row in points_of(folder))
    one = str(write_rows(tmp_path / "one.jsonl", prompts(1)[:1]))
    _, sentence = failed_run(workspace, config(dataset=one, val_size=0.5, eval_strategy="epoch"), ConfigError)
    assert "val_size" in sentence


def test_max_steps_ends_the_run_whatever_the_epochs_say(config: Make, workspace: Path) -> None:
    assert run(workspace, config(max_steps=3)).state().step == 3


def test_checkpoints_are_kept_as_many_as_asked(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(num_epochs=2, save_steps=2, save_total_limit=2))
    assert {path.name for path in folder.checkpoints.iterdir()} == {"checkpoint-6", "checkpoint-8"}
    assert {path.name for path in run(workspace, config(num_epochs=2, save_steps=2, save_total_limit=None)).checkpoints.iterdir()} == {
        f"checkpoint-{step}" for step in (2, 4, 6, 8)
    }  # fmt: skip


# -------------------------------------------------------------------------------------------- what it learns


@pytest.mark.parametrize("rows", [chats(), prompts()], ids=["messages", "prompts"])
def test_the_loss_falls(rows: list[dict[str, object]], config: Make, workspace: Path, tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "rows.jsonl", rows))
    found = losses(run(workspace, config(dataset=data, num_epochs=10)))
    assert found[-1] < found[0] - 0.3


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "some-blocks": {"target_modules": ["q_proj", "v_proj"], "target_layers": [1]},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "gaussian": {"init_lora_weights": "gaussian"},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "head-beside": {"modules_to_save": ["lm_head"]},
    "accumulated": {"target_batch_size": 8},
    "half": {"precision": "bf16"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_loads_with_plain_peft_and_says_what_the_trained_model_says(
    kind: str, config: Make, workspace: Path, tiny_model: Path
) -> None:
    values = config(num_epochs=2, **KINDS[kind])
    folder = made(workspace, values)
    with training_session(folder, this_installation()):
        model = train(from_here(values), folder)
    assert model is not None
    trained = model.eval()
    dtype = torch.bfloat16 if kind == "half" else torch.float32
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype)
    with torch.inference_mode():
        wanted, before = trained(IDS).logits.float(), base(IDS).logits.float()
        loaded = PeftModel.from_pretrained(base, folder.adapter).eval()(IDS).logits.float()
    assert not torch.allclose(before, wanted, atol=1e-3), "training changed what the model says"
    close = 0.05 if kind == "half" else 1e-4  # what is trained under autocast is rounded at other places
    torch.testing.assert_close(loaded, wanted, atol=close, rtol=close)


def test_without_a_gpu_the_adapter_trains_in_full_precision_on_half_weights(config: Make, workspace: Path) -> None:
    folder = run(workspace, config(precision="bf16", num_epochs=10))
    assert losses(folder)[-1] < losses(folder)[0] - 0.3
    assert {tensor.dtype for tensor in load_file(folder.adapter / "adapter_model.safetensors").values()} == {
        torch.float32
    }


FAMILIES: dict[str, Any] = {
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64)),
    "mixtral": (MixtralForCausalLM, MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=2,
    )),
}  # fmt: skip


def another_model(tiny_model: Path, folder: Path, family: str) -> Path:
    """The tiny tokenizer beside a model of another family."""
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "*config.json"))
    shutil.copy(tiny_model / "tokenizer_config.json", folder)
    torch.manual_seed(0)
    kind, settings = FAMILIES[family]
    kind(settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_train_under_the_strict_check(
    family: str, config: Make, workspace: Path, tiny_model: Path, tmp_path: Path
) -> None:
    path = another_model(tiny_model, tmp_path / family, family)
    folder = run(workspace, config(model_name=str(path), strict_r_check=True))
    assert folder.state().state == "finished"
    assert losses(folder)[-1] < losses(folder)[0]


def test_rows_longer_than_the_model_has_positions_are_refused_with_a_sentence(
    config: Make, workspace: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """A model with learned positions would break at its table's end, with an error that tells nobody why."""
    path = another_model(tiny_model, tmp_path / "gpt2", "gpt2")
    settings = json.loads((path / "config.json").read_text())
    GPT2LMHeadModel(GPT2Config(**(settings | {"n_positions": 8}))).save_pretrained(path)
    _, sentence = failed_run(workspace, config(model_name=str(path)), Exception)
    assert "max_length" in sentence


def test_the_same_seed_gives_the_same_adapter(config: Make, workspace: Path) -> None:
    one, two = (run(workspace, config(lora_dropout=0.1)) for _ in range(2))
    other = run(workspace, config(lora_dropout=0.1, seed=7))
    assert adapter_bytes(one) == adapter_bytes(two) != adapter_bytes(other)


def test_accumulated_batches_learn_what_one_large_batch_learns(config: Make, workspace: Path) -> None:
    """The loss is the mean over tokens of the whole step, not a mean of means."""
    large = run(workspace, config(batch_size=8, num_epochs=2))
    small = run(workspace, config(batch_size=2, target_batch_size=8, num_epochs=2))
    assert losses(small) == pytest.approx(losses(large), rel=1e-4)


def test_checkpointing_activations_is_on_and_changes_no_loss(config: Make, workspace: Path) -> None:
    plain = run(workspace, config())
    values = config(gradient_checkpointing=True)
    folder = made(workspace, values)
    with training_session(folder, this_installation()):
        model = train(from_here(values), folder)
    assert model is not None
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    assert losses(folder) == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_fp16_is_refused_without_a_gpu_before_anything_is_loaded(config: Make, workspace: Path) -> None:
    folder, sentence = failed_run(workspace, config(precision="fp16"), ConfigError)
    assert "Set `precision: auto`" in sentence
    assert "stage loading" not in folder.train_log.read_text()


def test_blocks_outside_of_the_gpus_are_refused(config: Make, workspace: Path) -> None:
    places = {"model": "cpu", "lm_head": "disk"}
    _, sentence = failed_run(workspace, config(device_map=places), ModelError)
    assert "does not train" in sentence


# --------------------------------------------------------------------------------------------------- its end


def test_a_stop_asked_for_before_training_ends_the_run_as_stopped(config: Make, workspace: Path) -> None:
    folder = made(workspace, config())
    request_stop(folder)
    train_in_folder(folder)
    assert folder.state().state == "stopped"
    assert not folder.adapter.exists()
    assert "stage loading" not in folder.train_log.read_text()


def test_an_adapter_is_published_once_and_replaced_only_when_asked(config: Make, workspace: Path) -> None:
    names = {"pkg": "shop", "version": "1.0.0", "knowledge_type": "faq"}
    first = run(workspace, config(**names))
    published = workspace / "adapters/shop/1.0.0/faq"
    assert (published / "adapter_model.safetensors").read_bytes() == adapter_bytes(first)
    refused, sentence = failed_run(workspace, config(**names, seed=7), ConfigError)
    assert "overwrite" in sentence
    assert points_of(refused) == [], "that is said before training"
    assert (published / "adapter_model.safetensors").read_bytes() == adapter_bytes(first)
    second = run(workspace, config(**names, seed=7, overwrite=True))
    assert (published / "adapter_model.safetensors").read_bytes() == adapter_bytes(second) != adapter_bytes(first)
    assert [path.name for path in published.parent.iterdir()] == ["faq"]


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"pkg": "a", "version": "2"}, "adapters/a/2"),
        ({"pkg": "a", "version": "2", "output_dir": "out/here"}, "out/here/a/2"),
        ({"pkg": "a"}, None),
        ({}, None),
    ],
)
def test_publication_takes_the_names_that_are_given(
    changes: dict[str, Any], place: str | None, config: Make, workspace: Path
) -> None:
    run(workspace, config(max_steps=1, **changes))
    found = [path.parent.relative_to(workspace) for path in workspace.rglob("adapter_config.json")]
    assert [str(path) for path in found if path.parts[0] != "runs"] == ([place] if place else [])


def test_a_strict_mismatch_stops_before_the_first_step(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_backend.training import recipe  # its imported names are what the run calls

    honest = recipe.attach_adapter  # type: ignore[attr-defined]
    # The one way to a model that disobeys its config is to hand over another one.
    monkeypatch.setattr(recipe, "attach_adapter", lambda model, asked: honest(model, asked.model_copy(update={"r": 2})))
    folder, sentence = failed_run(workspace, config(strict_r_check=True), RankMismatchError)
    assert "14 LoRA layers" in sentence
    assert points_of(folder) == []
    report = folder.read_rank_report()
    assert report is not None
    assert report.is_consistent is False


BAD: dict[str, tuple[Callable[[Path], dict[str, Any]], type[FlightdeckError], str]] = {
    "no such model": (lambda _: {"model_name": "/nowhere/model"}, ConfigError, "/nowhere/model"),
    "not in the cache": (lambda _: {"model_name": "someone/some-model"}, ConfigError, "flightdeck download someone/some-model"),
    "no tokenizer": (lambda tmp: {"model_name": str(make_model(tmp / "m", tokenizer=False))}, ConfigError, "has no tokenizer"),
    "no chat template": (lambda tmp: {"model_name": str(make_model(tmp / "m", chat_template=False))}, ConfigError, "chat template"),
    "no data": (lambda tmp: {"dataset": str(tmp / "none.jsonl")}, DataError, "none.jsonl"),
    "no dataset key": (lambda _: {"dataset": ...}, ConfigError, "dataset"),
    "a broken line": (lambda tmp: {"dataset": _broken(tmp)}, ConfigError, "Line 3"),
    "no answer": (lambda tmp: {"dataset": str(write_rows(tmp / "d.jsonl", [{"prompt": "a", "completion": ""}]))}, ConfigError, "Line 1"),
    "unmatched targets": (lambda _: {"target_modules": ["q_porj"]}, ConfigError, "q_porj"),
    "an expression that matches nothing": (lambda _: {"target_modules": ".*zzz"}, ConfigError, "q_proj, k_proj"),
    "a layer beyond": (lambda _: {"target_layers": [0, 2]}, ConfigError, "0 to 1"),
    "a row too long": (lambda _: {"max_length": 3}, FlightdeckError, "max_length"),
}  # fmt: skip


def _broken(tmp: Path) -> str:
    (tmp / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b"}\n{oops\n')
    return str(tmp / "broken.jsonl")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_sentence(name: str, config: Make, workspace: Path, tmp_path: Path) -> None:
    change, error, said = BAD[name]
    _, sentence = failed_run(workspace, config(**change(tmp_path)), error)
    assert said in sentence


OURS_TOO: dict[str, dict[str, Any]] = {
    "no such optimizer": {"optim": "nonsense"},
    "an optimizer that is not installed": {"optim": "adamw_torch_8bit"},
    "an attention kernel that is not installed": {"attn_implementation": "flash_attention_2"},
    "no expression": {"target_modules": "q_proj["},
    "no expression for ranks": {"rank_pattern": {"q_proj[": 2}},
    "an odd rank for orthogonal": {"r": 3, "init_lora_weights": "orthogonal"},
}


@pytest.mark.parametrize("name", OURS_TOO)
def test_whatever_a_config_can_say_wrong_is_an_error_of_ours(name: str, config: Make, workspace: Path) -> None:
    failed_run(workspace, config(**OURS_TOO[name]), FlightdeckError)


def test_a_layer_that_is_gone_from_the_saved_adapter_is_missing(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def losing_one(model: PeftModel, folder: Path) -> None:
        save_adapter(model, folder)
        tensors = load_file(folder / "adapter_model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if "layers.1.self_attn.q_proj" not in name}
        save_file(kept, folder / "adapter_model.safetensors")

    monkeypatch.setattr(recipe, "save_adapter", losing_one)
    folder, sentence = failed_run(workspace, config(strict_r_check=True, max_steps=1), RankMismatchError)
    assert "model.layers.1.self_attn.q_proj" in sentence
    report = folder.read_rank_report()
    assert report is not None
    assert report.status == "ok", "in memory they were all there"
