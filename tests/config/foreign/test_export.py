"""Our config in the words of other tools, and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig

from lora_backend.cli import main
from lora_backend.config.check import check_config
from lora_backend.config.diff import same_value
from lora_backend.config.foreign.exporting import EXPORT_TOOLS, export_config
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.schema import KEYS, default_config
from lora_backend.data.forms import FormName
from lora_backend.errors import ConfigError

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
plain = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
positive = st.integers(1, 10**6)
share = st.floats(0, 0.99)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "model_name": names | st.sampled_from(["no", "1e-5", "~", "y", "a: b", "null", "org/model", "1_000", ".5", "0x1f"]),
    "dataset": st.none() | plain.map(lambda name: f"{name}.jsonl") | names,
    "eval_dataset": st.none() | plain,
    "data_format": st.sampled_from(["auto", "messages", "prompt_completion"]),
    "data_columns": st.none() | st.dictionaries(st.sampled_from(["prompt", "completion"]), plain, min_size=1, max_size=2),
    "max_bad_rows": st.integers(0, 99),
    "datasets": st.none(),
    "max_length": st.integers(2, 10**6),
    "truncation": st.sampled_from(["drop", "cut_answer", "cut_prompt"]),
    "train_on": st.sampled_from(["all_answers", "last_answer", "everything"]),
    "attn_implementation": st.none() | st.sampled_from(["sdpa", "eager", "flash_attention_2", "flex_attention"]),
    "quantization": st.sampled_from([None, "nf4", "int8"]),
    "device_map": st.sampled_from([None, "auto", "balanced"]),
    "r": st.integers(1, 65536),
    "alpha": positive | st.floats(0.001, 1e6),
    "target_modules": st.just("all-linear") | st.lists(names, min_size=1, max_size=3) | plain.map(lambda name: f".*{name}"),
    "target_layers": st.none() | st.lists(st.integers(0, 200), min_size=1, max_size=4),
    "lora_dropout": share,
    "rank_pattern": st.none() | st.dictionaries(plain, st.integers(1, 99), min_size=1, max_size=2),
    "modules_to_save": st.none() | st.lists(names, min_size=1, max_size=2),
    "bias": st.sampled_from(["none", "all", "lora_only"]),
    "use_rslora": st.booleans(),
    "use_dora": st.booleans(),
    "init_lora_weights": st.sampled_from([True, False, "gaussian", "pissa"]),
    "init_from_adapter": st.none() | plain,
    "num_epochs": positive | st.floats(0.01, 1000),
    "max_steps": st.none() | positive,
    "learning_rate": st.floats(1e-12, 1, exclude_min=True),
    "lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant", "inverse_sqrt"]),
    "warmup_ratio": share,
    "batch_size": st.integers(1, 64),
    "precision": st.sampled_from(["auto", "fp32", "fp16", "bf16"]),
    "gradient_checkpointing": st.booleans(),
    "batching": st.sampled_from(["auto", "flat", "padded", "packed"]),
    "fused_lora": st.booleans(),
    "torch_compile": st.booleans(),
    "loss_type": st.sampled_from(["auto", "nll", "chunked_nll"]),
    "label_smoothing_factor": st.floats(0, 0.9),
    "neftune_noise_alpha": st.none() | st.floats(0.1, 100),
    "loraplus_lr_ratio": st.none() | st.floats(1, 100),
    "optim": st.sampled_from(["adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"]),
    "weight_decay": share,
    "max_grad_norm": st.floats(0, 100),
    "seed": st.integers(0, 2**32 - 1),
    "val_size": share,
    "eval_strategy": st.sampled_from(["no", "steps", "epoch"]),
    "eval_steps": st.none() | positive,
    "load_best_model_at_end": st.booleans(),
    "metric_for_best_model": st.sampled_from([None, "loss", "eval_loss", "token_accuracy"]),
    "greater_is_better": st.sampled_from([None, True, False]),
    "early_stopping_patience": st.none() | positive,
    "early_stopping_threshold": st.floats(0, 1),
    "sample_every_steps": st.none() | positive,
    "output_dir": names,
    "save_steps": positive,
    "save_total_limit": st.none() | positive,
    "logging_steps": positive,
    "report_to": st.sampled_from(["none", "wandb", ["mlflow", "trackio"]]),
    "strict_r_check": st.booleans(),
    "overwrite": st.booleans(),
    "alpha_pattern": st.none() | st.dictionaries(plain, positive | st.floats(0.001, 99), min_size=1, max_size=2),
    "questions": st.none() | plain,
    "use_balanced_device_map": st.booleans(),
    "force_balance": st.booleans(),
    "exclude_cpu": st.booleans(),
    "min_memory_gb": share,
    "strategy": st.sampled_from(["auto", "single", "layer_split", "ddp", "fsdp"]),
    "num_processes": st.none() | st.integers(1, 64),
    "num_nodes": st.integers(1, 64),
    "fsdp_offload_params": st.booleans(),
    "max_time": st.none() | positive,
    "deterministic": st.booleans(),
    "pkg": st.none() | plain,
    "version": st.none() | plain,
    "knowledge_type": st.none() | plain,
    "check_r_consistency": st.booleans(),
}  # fmt: skip


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Configs without errors, with any of the keys."""
    wanted = draw(st.sets(st.sampled_from(sorted(VALUES))))
    values = {key: draw(VALUES[key]) for key in VALUES if key in wanted or key == "model_name"}
    if draw(st.booleans()):
        values["target_batch_size"] = values.get("batch_size", 4) * draw(st.integers(1, 8))
    for error in check_config(values).errors:
        values.pop(error.key, None)  # type: ignore[arg-type]
    values.setdefault("model_name", "m")
    return values


@pytest.mark.parametrize("tool", EXPORT_TOOLS)
@given(values=configs(), row_format=st.sampled_from([None, "messages", "prompt_completion"]))
@settings(max_examples=60, deadline=None)
def test_what_both_know_survives_the_way_there_and_back(
    tool: str, values: dict[str, Any], row_format: FormName | None
) -> None:
    if check_config(values).errors:
        return
    exported = export_config(values, tool, row_format)
    assert VALUES.keys() | {"target_batch_size"} == KEYS.keys()
    assert [row.key for row in exported.guesses] == (
        ["dataset"] if "datasets:" in exported.text and not row_format else []
    )
    back = import_text(exported.text, exported.file_name)
    assert back.tool == tool
    assert not [row for row in back.rows if row.outcome == "unknown"]
    before, after = default_config() | values, default_config() | back.values
    lost = {row.key for row in exported.lost}
    for row in exported.rows:
        wanted = before[row.key]
        if row.key == "target_batch_size" and "batch_size" not in lost:
            wanted, after[row.key] = wanted or before["batch_size"], after[row.key] or after["batch_size"]
        if row.outcome != "not_supported":
            assert same_value(wanted, after[row.key]), (row.key, exported.text)
    assert {row.key for row in exported.rows} == set(KEYS)


@pytest.mark.parametrize("tool", ["llamafactory", "axolotl"])
@given(values=configs())
@settings(max_examples=40, deadline=None)
def test_readers_of_yaml_1_1_read_the_same(tool: str, values: dict[str, Any]) -> None:
    """Most tools read with PyYAML, for which `no` is false and `1e-05` is text."""
    if check_config(values).errors:
        return
    exported = export_config(values, tool)
    read = yaml.safe_load(exported.text)
    written = {key: value for row in exported.rows for key, value in row.written.items()}
    for key, value in written.items():
        assert same_value(read[key], value), key
        assert type(read[key]) is type(value), key


def test_a_key_that_cannot_be_carried_has_a_row_that_says_so() -> None:
    values = {"model_name": "m", "rank_pattern": {"q_proj": 2}, "target_layers": [0, 1], "strict_r_check": True}
    assert {row.key for row in export_config(values, "llamafactory").lost} == {
        "rank_pattern",
        "target_layers",
        "strict_r_check",
    }
    assert {row.key for row in export_config(values, "axolotl").lost} == {"strict_r_check"}
    assert {row.key for row in export_config(values, "peft").lost} == {"strict_r_check"}
    for tool in EXPORT_TOOLS:
        assert json.loads(json.dumps(export_config(values, tool).to_dict("zh")))["tool"] == tool


def test_our_defaults_are_written_out_for_the_others_are_not_the_same() -> None:
    text = export_config({"model_name": "m"}, "llamafactory").text
    for line in ("lora_rank: 16", "lora_alpha: 32", "cutoff_len: 1024", "disable_gradient_checkpointing: true"):
        assert line in text.splitlines()


def test_peft_reads_the_adapter_that_was_written(tmp_path: Path) -> None:
    values = {
        "model_name": "m", "r": 4, "alpha": 8, "target_modules": ["q_proj"], "target_layers": [0, 2],
        "rank_pattern": {"q_proj": 2}, "use_rslora": True,
    }  # fmt: skip
    exported = export_config(values, "peft")
    (tmp_path / exported.file_name).write_text(exported.text, "utf-8")
    read = LoraConfig.from_pretrained(str(tmp_path))
    assert (read.r, read.lora_alpha, read.target_modules) == (4, 8, {"q_proj"})
    assert (read.layers_to_transform, read.rank_pattern, read.use_rslora) == ([0, 2], {"q_proj": 2}, True)
    assert read.base_model_name_or_path == "m"


def test_the_rows_of_one_step_stay_the_same() -> None:
    values = {"model_name": "m", "batch_size": 2, "target_batch_size": 16}
    assert re.search("^gradient_accumulation_steps: 8$", export_config(values, "axolotl").text, re.MULTILINE)


def test_another_tool_or_a_config_with_errors_is_refused() -> None:
    with pytest.raises(ConfigError, match="peft"):
        export_config({"model_name": "m"}, "unheard-of")
    with pytest.raises(ConfigError, match="`r`"):
        export_config({"model_name": "m", "r": -1}, "peft")


ROWS: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    "prompt_completion": {"prompt": "hi", "completion": "ho"},
}
TYPES: dict[str, Any] = {
    "messages": "chat_template",
    "prompt_completion": {
        "system_prompt": "", "field_instruction": "prompt", "field_output": "completion", "format": "{instruction}", "no_input_format": "{instruction}",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", ROWS)
def test_axolotl_is_told_the_type_that_the_files_rows_have(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = tmp_path / "rows.jsonl", tmp_path / "config.yaml"
    data.write_text(json.dumps(ROWS[kind]) + "\n", "utf-8")
    config.write_text(f"model_name: m\ndataset: {json.dumps(str(data))}\n", "utf-8")
    assert main(["export", str(config), "--to", "axolotl"]) == 0
    said = capsys.readouterr()
    (entry,) = yaml.safe_load(said.out)["datasets"]
    assert (entry["path"], entry["type"]) == (str(data), TYPES[kind])
    assert "chat_template" not in said.err
    assert import_text(said.out).values["dataset"] == str(data)


@pytest.mark.parametrize("text", [None, "", "not json\n", '{"other": 1}\n'])
def test_rows_that_could_not_be_looked_into_are_said(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = tmp_path / "rows.jsonl", tmp_path / "config.yaml"
    if text is not None:
        data.write_text(text, "utf-8")
    config.write_text(f"model_name: m\ndataset: {json.dumps(str(data))}\n", "utf-8")
    assert main(["export", str(config), "--to", "axolotl"]) == 0
    said = capsys.readouterr()
    assert yaml.safe_load(said.out)["datasets"][0]["type"] == "chat_template"
    assert "chat_template" in said.err
    assert "Everything was exported" not in said.err


def test_axolotl_gets_the_names_that_it_has_today() -> None:
    for kernel in ("flash_attention_2", "sdpa", "eager", "flex_attention", "kernels-community/flash-attn2"):
        text = export_config({"model_name": "m", "attn_implementation": kernel}, "axolotl").text
        assert f"attn_implementation: {kernel}" in text.splitlines()
        assert "flash_attention: true" not in text
    result = export_config({"model_name": "m", "attn_implementation": "flash_attention_4"}, "axolotl")
    assert {row.key for row in result.lost} == {"attn_implementation"}
