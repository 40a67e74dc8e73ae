"""Configs of other tools become ours, every key with its row, and mean the same."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TrainingArguments

from lora_backend.config.config_text import decode_config, parse_config
from lora_backend.config.foreign.exporting import export_config
from lora_backend.config.foreign.import_file import import_document, import_file, import_text
from lora_backend.config.foreign.import_report import export_report, import_report
from lora_backend.config.foreign.outcomes import ImportResult
from lora_backend.config.foreign.tools import TOOLS
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from tests.config.foreign.examples import AXOLOTL, EXAMPLES, LLAMAFACTORY, ORIGINAL, PEFT, TRL, UNSLOTH, row


def with_line(text: str, line: str) -> ImportResult:
    return import_text(f"{text}{line}\n")


@pytest.mark.parametrize("tool_id", EXAMPLES)
def test_a_tool_is_told_by_its_keys_and_every_key_has_its_row_and_line(tool_id: str) -> None:
    for name in ("config.yaml", "lora.json", "notes"):
        assert import_text(EXAMPLES[tool_id], name).tool == tool_id
    result = import_text(EXAMPLES[tool_id])
    lines = EXAMPLES[tool_id].splitlines()
    for item in result.rows:
        assert item.line is not None
        assert item.key.rpartition(".")[2] in lines[item.line - 1]
    document = parse_config(EXAMPLES[tool_id])
    sections = TOOLS[tool_id].sections
    wanted = sum(
        len(value) if key in sections and isinstance(value, dict) else 1 for key, value in document.values.items()
    )
    assert len(result.rows) == wanted
    assert "unknown" not in {item.outcome for item in result.rows}


@pytest.mark.parametrize("tool_id", EXAMPLES)
def test_the_result_is_a_config_that_can_be_checked(tool_id: str) -> None:
    result = import_text(EXAMPLES[tool_id])
    assert parse_config(result.text).values == result.values
    assert result.is_valid, [finding.message.text("en") for finding in result.findings]
    assert json.loads(json.dumps(result.to_dict("zh")))["tool"] == tool_id


def test_llamafactory_means_the_same() -> None:
    result = import_text(LLAMAFACTORY)
    assert result.values == {
        "model_name": "my/model", "max_length": 4096, "attn_implementation": "flash_attention_2", "quantization": "nf4",
        "r": 8, "alpha": 16, "target_modules": "all-linear", "num_epochs": 3.0, "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine", "warmup_ratio": 0.1, "batch_size": 2, "target_batch_size": 16,
        "precision": "bf16", "gradient_checkpointing": True, "val_size": 0.1, "eval_strategy": "steps",
        "eval_steps": 100, "batching": "packed",
    }  # fmt: skip
    outcomes = {item.key: item.outcome for item in result.rows}
    assert outcomes["lora_target"] == "translated"
    assert {key for key, outcome in outcomes.items() if outcome == "not_supported"} == {
        "dataset",
        "template",
        "deepspeed",
    }
    assert "max_length" in row(result, "packing").message.text("en")


def test_defaults_of_the_other_tool_are_written_down_where_ours_are_others() -> None:
    result = import_text("finetuning_type: lora\nmodel_name_or_path: m\nlora_rank: 4\n")
    assumed = {item.key: item.target_value for item in result.assumed}
    assert assumed["lora_alpha"] == 8
    assert assumed["cutoff_len"] == 2048
    assert assumed["per_device_train_batch_size"] == 8
    assert assumed["disable_gradient_checkpointing"] is True
    assert all(item.line is None for item in result.assumed)
    assert "seed" not in assumed


def test_axolotl_means_the_same() -> None:
    result = import_text(AXOLOTL)
    assert result.values["dataset"] == "data/train.jsonl"
    assert result.values["quantization"] == "nf4"
    assert result.values["warmup_ratio"] == 0.05
    assert result.values["target_batch_size"] == 8
    assert result.values["precision"] == "auto"
    assert result.values["eval_strategy"] == "epoch"
    assert result.values["attn_implementation"] == "flash_attention_2"
    assert row(result, "gradient_checkpointing").outcome == "taken"
    assert row(result, "saves_per_epoch").outcome == "not_supported"
    assert row(result, "sample_packing").outcome == "taken"


def test_a_key_without_its_value_is_kept_where_that_is_one_and_else_not_set() -> None:
    result = import_text(ORIGINAL.replace("batch_size: 2\n", "batch_size: #2\nsave_total_limit:\n", 1))
    assert row(result, "batch_size").message.text("en") == "Not set."
    assert "batch_size" not in result.values
    assert result.values["save_total_limit"] is None
    assert not [finding for finding in result.findings if finding.code == "wrong_type"]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("batch_size: 12", {"target_batch_size": 12}),
        ("gradient_accumulation_steps: 3", {"target_batch_size": 6}),
        ("fp16: true\nbf16: false", {"precision": "fp16"}),
        ("fp16: false\nbf16: false", {"precision": "fp32"}),
        ("lora_target_modules: [q_proj]", {"target_modules": ["q_proj"]}),
        ("eval_steps: 20\nval_set_size: 0.1", {"eval_steps": 20, "eval_strategy": "steps"}),
        ("warmup_ratio: 0.2", {"warmup_ratio": 0.2}),
        ("", {"warmup_ratio": 0.03, "num_epochs": 1.0, "lr_scheduler_type": "cosine", "max_length": 512}),
    ],
)
def test_axolotls_words(line: str, values: dict[str, Any]) -> None:
    result = with_line("base_model: m\nadapter: lora\nmicro_batch_size: 2\n", line)
    assert {key: result.values.get(key) for key in values} == values


def test_unsloths_sections_are_read_with_their_lines() -> None:
    result = import_text(UNSLOTH)
    assert result.values["r"] == 64
    assert result.values["target_modules"] == ["q_proj", "v_proj"]
    assert result.values["warmup_ratio"] == 0.1
    assert result.values["seed"] == 7
    assert result.values["gradient_checkpointing"] is True
    assert "quantization" not in result.values
    assert row(result, "lora.use_loftq").outcome == "not_supported"
    assert row(result, "training.save_steps").outcome == "not_supported"
    assert row(result, "lora.lora_r").line == UNSLOTH.splitlines().index("  lora_r: 64") + 1


def test_a_secret_is_neither_carried_nor_shown() -> None:
    assert "abc123" not in json.dumps(import_text(UNSLOTH).to_dict())
    assert "tell" not in json.dumps(with_line(LLAMAFACTORY, "my_secret_password: tell").to_dict())


def test_trl_takes_a_list_of_one_for_an_expression_and_says_what_it_learns() -> None:
    assert import_text(TRL).values["quantization"] == "nf4"
    one = TRL.replace("[q_proj, v_proj]", "[all-linear]")
    assert import_text(one).values["target_modules"] == "all-linear"
    without = TRL.replace("lora_target_modules: [q_proj, v_proj]\n", "").replace("assistant_only_loss: true\n", "")
    result = import_text(without)
    assert row(result, "lora_target_modules").outcome == "not_supported"
    assert row(result, "assistant_only_loss").outcome == "not_supported"
    assert (
        row(with_line(TRL.replace("max_length: 512\n", ""), "max_length: null"), "max_length").outcome
        == "not_supported"
    )
    assert result.values["precision"] == "bf16"
    assert with_line(TRL, "fp16: true").values["precision"] == "fp16"
    assert with_line(TRL, "bf16: false").values["precision"] == "fp32"


def test_an_adapter_config_says_what_the_adapter_is() -> None:
    result = import_text(EXAMPLES["peft"], "adapter_config.json")
    assert result.values == {
        "model_name": "my/model", "r": 4, "alpha": 8, "target_modules": ["v_proj", "q_proj"], "target_layers": [0, 1],
        "lora_dropout": 0.1, "rank_pattern": {"q_proj": 2}, "bias": "none",
    }  # fmt: skip
    assert row(result, "lora_bias").outcome == "not_supported"
    assert row(import_text(json.dumps(PEFT | {"peft_type": "IA3"})), "peft_type").outcome == "not_supported"


def test_training_arguments_that_transformers_wrote(tmp_path: Path) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        warmup_steps=10,
        max_steps=100,
        learning_rate=3e-4,
        weight_decay=0.01,
        neftune_noise_alpha=5,
        report_to="none",
        use_cpu=True,
    )
    result = import_text(arguments.to_json_string(), "args.json")
    assert result.tool == "training_arguments"
    assert "unknown" not in {item.outcome for item in result.rows}
    assert result.values["target_batch_size"] == 8
    assert result.values["warmup_ratio"] == 0.1
    assert result.values["max_steps"] == 100
    assert result.values["precision"] == "fp32"
    assert result.values["save_total_limit"] is None
    lost = {item.key for item in result.rows if item.outcome == "not_supported"}
    assert result.values["neftune_noise_alpha"] == 5
    assert lost == {"use_cpu", "dataloader_pin_memory"}
    assert [finding.code for finding in result.findings if finding.severity == "error"] == ["missing_key"]


def test_the_original_keeps_its_values_and_is_told_how_layers_are_counted() -> None:
    result = import_text(ORIGINAL)
    assert result.values["lora_dropout"] == 0.05
    assert result.values["learning_rate"] == 1e-6
    assert result.values["output_dir"] == "/models/adapters"
    assert result.values["target_layers"] == [1, 2, 3, 4]
    assert "block 0" in row(result, "target_layers").message.text("en")
    assert "device_map" not in result.values
    assert result.values["use_balanced_device_map"] is True
    outcomes = {item.key: item.outcome for item in result.rows}
    assert outcomes["traindata_percentage"] == outcomes["predict_prompt"] == "not_supported"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("lora_target: q_proj, v_proj", {"target_modules": ["q_proj", "v_proj"]}),
        ("lora_target: q_proj", {"target_modules": ["q_proj"]}),
        ("quantization_bit: 8", {"quantization": "int8"}),
        ("quantization_bit: 4\nquantization_type: fp4", {"quantization": None}),
        ("quantization_bit: 4\nquantization_method: hqq", {"quantization": None}),
        ("fp16: true", {"precision": "fp16"}),
        ("warmup_steps: 20\nmax_steps: 100\nwarmup_ratio: 0.5", {"warmup_ratio": 0.2}),
        ("warmup_steps: 20", {"warmup_ratio": None}),
        ("disable_gradient_checkpointing: true", {"gradient_checkpointing": False}),
        ("pissa_init: true\npissa_iter: -1", {"init_lora_weights": "pissa"}),
        ("dataset: rows.jsonl", {"dataset": "rows.jsonl"}),
        ("additional_target: embed_tokens,lm_head", {"modules_to_save": ["embed_tokens", "lm_head"]}),
        ('learning_rate: "1e-5"', {"learning_rate": 1e-5}),
        ("use_dora: yes", {"use_dora": True}),
        ("max_steps: -1", {"max_steps": None}),
        ("lora_rank: many", {"r": None}),
        ("lr_scheduler_type: cosine_with_restarts", {"lr_scheduler_type": None}),
    ],
)
def test_llamafactorys_words(line: str, values: dict[str, Any]) -> None:
    result = with_line("finetuning_type: lora\nmodel_name_or_path: m\n", line)
    assert {key: result.values.get(key) for key in values} == values


def test_a_value_that_ours_cannot_take_is_said_and_not_carried() -> None:
    found = row(with_line("finetuning_type: lora\n", "lr_scheduler_type: cosine_with_restarts"), "lr_scheduler_type")
    assert found.outcome == "not_supported"
    assert "cosine_with_restarts" in found.message.text("en")


def test_two_keys_that_mean_one_thing_do_not_overwrite_each_other_in_silence() -> None:
    result = with_line(LLAMAFACTORY, "evaluation_strategy: epoch")
    assert result.values["eval_strategy"] == "steps"
    assert row(result, "evaluation_strategy").outcome == "not_supported"


def test_a_key_of_no_tool_or_of_another_is_unknown_and_says_so() -> None:
    assert row(with_line(LLAMAFACTORY, "frobnicate: 1"), "frobnicate").outcome == "unknown"
    stray = row(with_line(LLAMAFACTORY, "micro_batch_size: 1"), "micro_batch_size")
    assert stray.outcome == "unknown"
    assert "axolotl" in stray.message.text("en")
    near = row(with_line(LLAMAFACTORY, "lora_ranks: 1"), "lora_ranks")
    assert "`lora_rank`" in near.message.text("en")


def test_what_a_tool_is_told_by_is_no_key_of_another() -> None:
    for tool in TOOLS.values():
        assert tool.markers <= tool.rules.keys()
        for other in TOOLS.values():
            # TrainingArguments stand inside of others, and v1 has keys of others beside many of its own
            if other.id not in (tool.id, "llamafactory_v1") and tool.id != "training_arguments":
                assert not tool.markers & other.rules.keys(), (tool.id, other.id)


def test_a_file_of_two_tools_is_refused_with_keys_of_both() -> None:
    with pytest.raises(ConfigError) as refused:
        import_text(LLAMAFACTORY + AXOLOTL)
    for word in ("LLaMA-Factory", "axolotl", "`finetuning_type`", "`base_model`"):
        assert word in str(refused.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "name: x\nservices: {}\n", "{}"])
def test_a_file_of_no_tool_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="LLaMA-Factory"):
        import_text(text)


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "lora_rank: 8 # \xe9".encode("latin-1"), "lora_rank: 8".encode("utf-16"),
        b"x: 1\n" * 2_000_000, b"- lora_rank\n- 8\n", b"lora_rank: 8\n---\nlora_rank: 9\n", b"lora_rank: [8\n",
        b"a: " + b"[" * 200, b"!!python/object:os.system {}",
    ],
    ids=["png", "latin-1", "utf-16", "10 MB", "list", "documents", "bracket", "deep", "tag"],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(data: bytes) -> None:
    with pytest.raises(ConfigError) as refused:
        import_document(decode_config(data))
    assert len(str(refused.value).splitlines()) == 1


def test_a_duplicate_key_is_a_finding_with_its_line() -> None:
    result = import_text("finetuning_type: lora\nlora_rank: 8\nlora_rank: 9\n")
    assert [(finding.key, finding.line) for finding in result.findings if finding.code == "duplicate_key"] == [
        ("lora_rank", 3)
    ]


@pytest.mark.parametrize("name", ["config.yaml", "config.json", "config"])
def test_a_file_is_read_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    for text in (LLAMAFACTORY, json.dumps(parse_config(LLAMAFACTORY).values)):
        (tmp_path / name).write_text(text, "utf-8-sig")
        assert import_file(tmp_path / name).values == import_text(LLAMAFACTORY).values
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ConfigError):
        import_file(tmp_path / name)


def test_the_report_for_a_terminal_has_every_key_and_what_is_wrong() -> None:
    text = UNSLOTH.replace("model: my/model\n", "")
    for language in ("en", "zh"):
        report = import_report(import_text(text), language)
        for item in import_text(text).rows:
            assert item.key in report
        assert "`model_name`" in report
        assert "abc123" not in report
        assert "rank_pattern" in export_report(
            export_config({"model_name": "m", "rank_pattern": {"a": 1}}, "llamafactory"), language
        )


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_imported_or_refused_and_never_a_traceback(tool_id: str, data: st.DataObject) -> None:
    text = EXAMPLES[tool_id]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    damaged = text[:start] + data.draw(st.text(max_size=8)) + text[end:]
    with suppress(ConfigError):
        result = import_text(damaged)
        assert json.dumps(result.to_dict("zh"), default=str)
        kept = {item.key for item in result.rows if item.outcome == "unknown" or item.key in KEYS}
        wrong = [f for f in result.findings if f.code in ("wrong_type", "out_of_range", "unknown_key")]
        assert not [f.code for f in wrong if f.key not in kept]


def test_a_file_that_only_steers_processes_is_no_config_of_a_training() -> None:
    accelerate = "compute_environment: LOCAL_MACHINE\nmixed_precision: bf16\nnum_processes: 8\nuse_cpu: false\nfsdp_config: {}\ndebug: false\n"
    with pytest.raises(ConfigError, match="LLaMA-Factory"):
        import_text(accelerate)


@pytest.mark.parametrize(
    ("tool", "lines", "wanted"),
    [
        ("trl", "packing: true", "packed"),
        ("trl", "padding_free: true", "flat"),
        ("trl", "packing: true\npadding_free: true", "packed"),
        ("trl", "packing: false", None),
        ("llamafactory", "packing: true", "packed"),
        ("llamafactory", "neat_packing: true", "packed"),
        ("llamafactory", "group_by_length: true", "auto"),
        ("axolotl", "sample_packing: true", "packed"),
        ("axolotl", "batch_flattening: true", "flat"),
        ("axolotl", "group_by_length: false", None),
    ],
)
def test_how_rows_share_a_pass_elsewhere_is_said_by_batching(tool: str, lines: str, wanted: str | None) -> None:
    heads = {
        "trl": "use_peft: true\nmodel_name_or_path: m\nlora_task_type: CAUSAL_LM\n",
        "llamafactory": "finetuning_type: lora\nmodel_name_or_path: m\nstage: sft\n",
        "axolotl": "base_model: m\nadapter: lora\nmicro_batch_size: 2\n",
    }
    result = import_text(f"{heads[tool]}{lines}\n")
    assert result.tool == tool
    assert result.values.get("batching") == wanted
    assert all(row(result, line.split(":")[0]).outcome != "not_supported" for line in lines.splitlines())


@pytest.mark.parametrize(
    ("tool", "line", "key", "wanted"),
    [
        ("llamafactory", "loraplus_lr_ratio: 16.0", "loraplus_lr_ratio", 16),
        ("llamafactory", "neftune_noise_alpha: 5", "neftune_noise_alpha", 5),
        ("llamafactory", "label_smoothing_factor: 0.1", "label_smoothing_factor", 0.1),
        ("axolotl", "loraplus_lr_ratio: 16", "loraplus_lr_ratio", 16),
        ("axolotl", "noisy_embedding_alpha: 5", "neftune_noise_alpha", 5),
        ("axolotl", "neftune_noise_alpha: 5", "neftune_noise_alpha", 5),
        ("axolotl", "torch_compile: true", "torch_compile", True),
    ],
)
def test_recipes_of_others_are_taken_under_our_names(tool: str, line: str, key: str, wanted: object) -> None:
    heads = {
        "llamafactory": "finetuning_type: lora\nmodel_name_or_path: m\nstage: sft\n",
        "axolotl": "base_model: m\nadapter: lora\nmicro_batch_size: 2\n",
    }
    assert import_text(f"{heads[tool]}{line}\n").values[key] == wanted


def test_what_is_lost_without_any_loss_is_told_quietly() -> None:
    text = (
        "stage: sft\nfinetuning_type: lora\nmodel_name_or_path: m\nlora_rank: 4\nplot_loss: true\noverwrite_cache: true\n"
        "ddp_timeout: 180000000\nlogging_dir: logs\ndataset: alpaca_en\ndeepspeed: z3.json\nuse_dft_loss: true\n"
    )
    shown = {item.key: item.shown_as for item in import_text(text).rows}
    assert {key for key, word in shown.items() if word == "not_needed"} == {
        "plot_loss", "overwrite_cache", "ddp_timeout", "logging_dir"
    }  # fmt: skip
    assert shown["dataset"] == shown["deepspeed"] == shown["use_dft_loss"] == "not_supported"
