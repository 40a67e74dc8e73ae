"""LLaMA-Factory's v1 format is told from its older one and from axolotl's, and means the same."""

from __future__ import annotations

import json

import pytest

from lora_backend.config.foreign.import_file import import_text
from tests.config.foreign.examples import row

V1 = """\
model: org/model
model_class: llm
flash_attn: flash_attention_2

peft_config:
  name: lora
  r: 12
  lora_alpha: 24
  lora_dropout: 0.1
  target_modules: all
quant_config:
  name: bnb
  quantization_bit: 4
kernel_config:
  name: auto
dist_config:
  name: fsdp2
  dcp_path: null
train_dataset: rows.jsonl
output_dir: out
micro_batch_size: 2
global_batch_size: 16
cutoff_len: 512
learning_rate: 2.0e-4
bf16: true
max_steps: 10
sample_backend: hf
max_new_tokens: 128
"""


def test_its_sections_are_read_with_their_lines_and_nothing_is_called_a_mixture() -> None:
    result = import_text(V1)
    assert result.tool == "llamafactory_v1"
    assert result.values == {
        "model_name": "org/model", "dataset": "rows.jsonl", "max_length": 512, "attn_implementation": "flash_attention_2",
        "quantization": "nf4", "r": 12, "alpha": 24, "target_modules": "all-linear", "lora_dropout": 0.1, "max_steps": 10,
        "learning_rate": 2e-4, "lr_scheduler_type": "constant", "batch_size": 2, "target_batch_size": 16, "precision": "bf16",
        "gradient_checkpointing": True, "weight_decay": 0.01, "output_dir": "out",
    }  # fmt: skip
    assert result.is_valid
    assert row(result, "peft_config.r").line == V1.splitlines().index("  r: 12") + 1
    assert row(result, "dist_config.name").outcome == "not_supported"
    assert "unknown" not in {item.outcome for item in result.rows}
    assert import_text(json.dumps({"model": "m", "model_class": "llm"})).tool == "llamafactory_v1"


def test_what_it_takes_for_keys_that_are_not_there_is_written_down() -> None:
    result = import_text("model: m\ntrain_dataset: rows.jsonl\npeft_config:\n  name: lora\n")
    assumed = {item.key: item.target_value for item in result.assumed}
    assert assumed["peft_config.r"] == 8
    assert assumed["peft_config.lora_alpha"] == 16
    assert assumed["peft_config.lora_dropout"] == 0.05
    assert assumed["enable_activation_checkpointing"] is True
    assert assumed["micro_batch_size"] == 1
    assert assumed["cutoff_len"] == 2048
    assert assumed["optim_config"] == 0.01
    assert assumed["lr_scheduler_config"] == "constant"
    given = import_text("model: m\ntrain_dataset: rows.jsonl\noptim_config:\n  name: muon\n  wd: 0.1\n")
    assert row(given, "optim_config.name").outcome == row(given, "optim_config.wd").outcome == "not_supported"
    assert "weight_decay" not in given.values


@pytest.mark.parametrize(
    ("lines", "here"),
    [
        ("quantization_bit: 4", "nf4"), ("quantization_bit: 8", "int8"), ("quantization_bit: 3", None),
        ("quantization_bit: 4\n  quantization_type: fp4", None), ("compute_dtype: bfloat16", "nf4"),
    ],
)  # fmt: skip
def test_a_quantization_that_is_not_here_is_lost(lines: str, here: str | None) -> None:
    result = import_text(f"model: m\nmodel_class: llm\nquant_config:\n  name: bnb\n  {lines}\n")
    assert result.values.get("quantization") == here
