"""Configs of other tools, and what became of each of their keys."""

from __future__ import annotations

import json
from typing import Any

from lora_backend.config.foreign.outcomes import ImportResult, ImportRow

LLAMAFACTORY = """\
### model
model_name_or_path: my/model
quantization_bit: 4
flash_attn: fa2
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
### data
dataset: a, b
template: llama3
cutoff_len: 4096
packing: true
val_size: 0.1
### train
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
learning_rate: 2e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
deepspeed: zero3.json
eval_strategy: steps
eval_steps: 100
"""

AXOLOTL = """\
base_model: my/model
adapter: qlora
load_in_4bit: true
lora_r: 32
lora_alpha: 64
lora_dropout: 0.05
lora_target_linear: true
datasets:
  - path: data/train.jsonl
    type: chat_template
sequence_len: 2048
sample_packing: false
micro_batch_size: 2
gradient_accumulation_steps: 4
num_epochs: 2
optimizer: adamw_torch
lr_scheduler: cosine
learning_rate: 0.0002
warmup_steps: 10
max_steps: 200
bf16: auto
flash_attention: true
gradient_checkpointing: true
val_set_size: 0.05
evals_per_epoch: 1
saves_per_epoch: 2
wandb_project: mine
"""

UNSLOTH = """\
model: my/model
data:
  dataset: some/data
  format_type: auto
training:
  training_type: lora
  max_seq_length: 1024
  load_in_4bit: false
  num_epochs: 1
  learning_rate: 0.0002
  batch_size: 2
  gradient_accumulation_steps: 4
  warmup_steps: 5
  max_steps: 50
  save_steps: 0
  random_seed: 7
  packing: false
  train_on_completions: true
  gradient_checkpointing: "unsloth"
lora:
  lora_r: 64
  lora_alpha: 16
  target_modules: "q_proj, v_proj"
  use_loftq: true
logging:
  wandb_token: abc123
"""

TRL = """\
model_name_or_path: my/model
dataset_name: trl-lib/Capybara
use_peft: true
lora_r: 8
lora_alpha: 16
lora_target_modules: [q_proj, v_proj]
load_in_4bit: true
use_bnb_nested_quant: true
max_length: 512
packing: false
assistant_only_loss: true
per_device_train_batch_size: 1
gradient_accumulation_steps: 16
learning_rate: 1.0e-4
num_train_epochs: 1
"""

PEFT: dict[str, Any] = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "my/model", "r": 4, "lora_alpha": 8,
    "lora_dropout": 0.1, "target_modules": ["v_proj", "q_proj"], "layers_to_transform": [0, 1], "inference_mode": True,
    "rank_pattern": {"q_proj": 2}, "alpha_pattern": {}, "bias": "none", "layers_pattern": None, "lora_bias": True,
}  # fmt: skip

ORIGINAL = """\
model_name: my/model
r: 16
alpha: 32
dropout: 0.05
target_modules: [q_proj, v_proj]
target_layers: [1, 2, 3, 4]
learning_rate: 1e-6
num_epochs: 2
batch_size: 2
target_batch_size: 8
precision: bf16
device_map: auto
use_balanced_device_map: true
check_r_consistency: true
loraadaptor_save_path_base: /models/adapters
traindata_percentage: 0.5
pkg: numpy
version: "1.26"
knowledge_type: docstring
predict_prompt: hello
"""

EXAMPLES = {
    "llamafactory": LLAMAFACTORY,
    "axolotl": AXOLOTL,
    "unsloth": UNSLOTH,
    "trl": TRL,
    "peft": json.dumps(PEFT, indent=1),
    "original": ORIGINAL,
}


def row(result: ImportResult, key: str) -> ImportRow:
    (found,) = [item for item in (*result.rows, *result.assumed) if item.key == key]
    return found
