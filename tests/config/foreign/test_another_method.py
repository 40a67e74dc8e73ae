"""A file that asks for something else than training a LoRA adapter says so, in the file or by what is not in it."""

from __future__ import annotations

import pytest

from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.import_report import import_report
from lora_backend.config.foreign.reasons import FULL, METHOD
from lora_backend.config.foreign.training_arguments import NO_ADAPTER
from tests.config.foreign.examples import row

TRAINER = "model_name_or_path: m\nper_device_train_batch_size: 2\nlearning_rate: 2.0e-5\noutput_dir: out\n"
TRL = "model_name_or_path: m\ndataset_name: org/set\nlearning_rate: 2.0e-5\n"
AXOLOTL = "base_model: m\nmicro_batch_size: 1\nnum_epochs: 1\nlearning_rate: 2e-5\n"
UNSLOTH = "model: m\ntraining:\n  max_seq_length: 2048\n  random_seed: 1\n"


@pytest.mark.parametrize(
    ("text", "tool", "key", "value"),
    [
        (AXOLOTL, "axolotl", "adapter", None),
        (AXOLOTL + "lora_r: 8\n", "axolotl", "adapter", None),
        (AXOLOTL + "adapter:\n", "axolotl", "adapter", None),
        (TRL, "trl", "use_peft", False),
        (TRL + "use_peft: false\n", "trl", "use_peft", False),
        ("model_name_or_path: m\ncutoff_len: 64\nfinetuning_type: full\n", "llamafactory", "finetuning_type", "full"),
        ("model_name_or_path: m\ncutoff_len: 64\nfinetuning_type: freeze\n", "llamafactory", "finetuning_type", "freeze"),
        (UNSLOTH + "  training_type: full\n", "unsloth", "training.training_type", "full"),
        (UNSLOTH + "  training_type: Full Finetuning\n", "unsloth", "training.training_type", "Full Finetuning"),
        ("model: m\ntrain_dataset: d.jsonl\nmicro_batch_size: 1\n", "llamafactory_v1", "peft_config.name", None),
        ("model: m\nmodel_class: llm\npeft_config:\n  name: freeze\n", "llamafactory_v1", "peft_config.name", "freeze"),
    ],
)  # fmt: skip
def test_training_of_the_models_own_weights_is_said(text: str, tool: str, key: str, value: object) -> None:
    result = import_text(text)
    found = row(result, key)
    assert (result.tool, found.outcome, found.value) == (tool, "not_supported", value)
    meaning = found.message.values.get("meaning", found.message)
    assert meaning.template == FULL
    assert key in import_report(result, "en")
    assert result.is_valid
    adapters = {"r", "alpha", "target_modules", "lora_dropout", "quantization"}
    assert not adapters & {item.target_key for item in result.assumed}, "what a LoRA would be there says nothing here"
    assert not [item.key for item in result.assumed if "target" in item.key]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (AXOLOTL + "adapter: lora\n", "adapter"), (AXOLOTL + "adapter: qlora\n", "adapter"), (TRL + "use_peft: true\n", "use_peft"),
        ("model_name_or_path: m\ncutoff_len: 64\nfinetuning_type: lora\n", "finetuning_type"),
        (UNSLOTH + "  training_type: LoRA/QLoRA\n", "training.training_type"),
        ("model: m\nmodel_class: llm\npeft_config:\n  name: lora\n", "peft_config.name"),
    ],
)  # fmt: skip
def test_training_of_an_adapter_is_the_same_here(text: str, key: str) -> None:
    assert row(import_text(text), key).outcome == "taken"


def test_arguments_of_a_trainer_alone_say_nothing_of_an_adapter() -> None:
    result = import_text(TRAINER)
    assert result.tool == "training_arguments"
    assert [item.message.values["meaning"].template for item in result.assumed if item.key == "peft_config"] == [
        NO_ADAPTER
    ]
    assert "adapter" in import_report(result, "en")
    assert not [item for item in import_text(f"{TRAINER}r: 8\n").assumed if item.key == "peft_config"]


def test_a_script_that_names_its_model_and_nothing_of_trl_keeps_it() -> None:
    result = import_text(f"{TRAINER}torch_dtype: bfloat16\nattn_implementation: sdpa\nmodel_revision: main\n")
    assert result.tool == "training_arguments"
    assert result.values["model_name"] == "m"
    assert result.values["attn_implementation"] == "sdpa"
    assert result.is_valid
    assert not [item.key for item in result.rows if item.outcome == "unknown"]


def test_keys_of_an_adapter_beside_a_trainers_are_trls() -> None:
    result = import_text(f"{TRAINER}lora_r: 8\nlora_target_modules: [q_proj, v_proj]\n")
    assert (result.tool, result.values["r"]) == ("trl", 8)


@pytest.mark.parametrize(
    "line",
    [
        "beta: 0.1", "beta: 0.0", "max_prompt_length: 512", "num_generations: 8", "reward_funcs: [a.b]", "desirable_weight: 1.0",
        "f_divergence_type: reverse_kl", "num_ppo_epochs: 4", "epsilon: 0.2\nmax_completion_length: 256",
    ],
)  # fmt: skip
def test_a_key_of_another_method_says_so(line: str) -> None:
    result = import_text(f"{TRAINER}{line}\nloss_type: sigmoid\n")
    assert result.tool == "trl"
    found = row(result, line.partition(":")[0])
    assert (found.outcome, found.message.template) == ("not_supported", METHOD)
    assert result.is_valid


@pytest.mark.parametrize(
    ("text", "key"),
    [(AXOLOTL, "ebft"), (AXOLOTL, "center_rewards_coefficient"), (AXOLOTL, "use_swanlab"), (AXOLOTL, "quantize_moe_experts")],
)  # fmt: skip
def test_a_key_that_the_tool_has_is_not_called_unknown(text: str, key: str) -> None:
    assert row(import_text(f"{text}{key}: true\n"), key).outcome == "not_supported"


def test_a_key_that_is_not_known_is_not_said_to_be_none_of_the_tools() -> None:
    for text in (AXOLOTL, TRL, TRAINER):
        said = row(import_text(f"{text}frobnicate: true\n"), "frobnicate").message.text("en")
        assert said.startswith("Not a known ")


@pytest.mark.parametrize(
    ("lines", "precision"),
    [
        ("torch_dtype: bfloat16", "bf16"), ("torch_dtype: torch.float16", "fp16"), ("dtype: float32", "fp32"), ("", "fp32"),
        ("torch_dtype: bfloat16\nfp16: true", "fp16"), ("torch_dtype: auto\nbf16: true", "bf16"),
    ],
)  # fmt: skip
def test_a_model_that_is_loaded_in_half_precision_is_trained_in_it(lines: str, precision: str) -> None:
    assert import_text(f"{TRAINER}{lines}\n").values["precision"] == precision


def test_a_models_name_under_the_trainers_is_enough_to_tell_its_file() -> None:
    result = import_text("model_name_or_path: org/m\ntorch_dtype: bfloat16\nlearning_rate: 2.0e-5\noutput_dir: out\n")
    assert (result.tool, result.values["model_name"]) == ("training_arguments", "org/m")
    assert result.is_valid
