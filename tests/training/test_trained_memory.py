"""Whatever trains, a step of the real trainer holds what was planned for it: adapter, gradients, optimizer."""

from __future__ import annotations

import json
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim.optimizer import GlobalOptimManager
from torch.utils.data import DataLoader
from transformers import BitsAndBytesConfig, LlamaForCausalLM, Qwen2ForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.modeling.profiling import profile_for
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.optimizers import EIGHT_BIT
from lora_backend.planning.cost.scaling import Size
from lora_backend.runs.record.run_store import RunStore
from tests.often import often
from tests.training.fitted import fitted

SIZES: dict[str, Any] = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
TOKENS, RANK = 128, 64
CASES: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA, 8-bit optimizer": {"optim": "adamw_8bit"},
    "head": {"modules_to_save": ["lm_head"]},
    "embedding and head": {"modules_to_save": ["embed_tokens", "lm_head"], "gradient_checkpointing": True},
    "embedding and head, 8-bit optimizer": {"modules_to_save": ["embed_tokens", "lm_head"], "optim": "paged_adamw_8bit"},
    "head, chunked loss": {"modules_to_save": ["lm_head"], "loss_type": "chunked_nll"},
    "norms, 8-bit optimizer": {"modules_to_save": ["norm", "input_layernorm"], "optim": "lion_8bit"},
    "magnitudes": {"use_dora": True, "optim": "adamw_8bit"},
    "biases": {"bias": "all"},
    "biases of a quantized model": {"bias": "all", "quantization": "nf4", "optim": "adamw_8bit"},
    "fp32": {"modules_to_save": ["embed_tokens", "lm_head"], "bias": "all", "precision": "fp32"},
    "magnitudes of a quantized model": {"use_dora": True, "quantization": "nf4"},
    "two modules of a quantized model": {"target_modules": ["q_proj", "v_proj"], "quantization": "nf4"},
}  # fmt: skip
SELDOM = {"LoRA, 8-bit optimizer", "head", "embedding and head", "magnitudes of a quantized model"}
"""Each part of these is in another case too."""
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"},
    "fp4 computing in fp32": {"load_in_4bit": True},
    "int8": {"load_in_8bit": True},
    "half of it whole": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16", "llm_int8_skip_modules": ["lm_head", "mlp"]},
}  # fmt: skip
"""Published in few bits: what their config.json says."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A model by whether its layers have biases."""
    torch.manual_seed(0)
    made = {}
    for has_biases, cls in ((True, Qwen2ForCausalLM), (False, LlamaForCausalLM)):
        made[has_biases] = tmp_path_factory.mktemp("model")
        cls(cls.config_class(**SIZES, bos_token_id=1, eos_token_id=2)).save_pretrained(made[has_biases])
    return made


@pytest.mark.parametrize("case", often(CASES, CASES.keys() - SELDOM))
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
def test_a_step_holds_what_was_planned_part_by_part(case: str, folders: dict[bool, Path], tmp_path: Path) -> None:
    keys = CASES[case]
    _hold_a_step_against_its_plan(folders["bias" in keys], keys, tmp_path)


@pytest.mark.parametrize(
    ("case", "precision"),
    often(product(CHECKPOINTS, ("bf16", "fp32")), set(zip(CHECKPOINTS, cycle(("bf16", "fp32")), strict=False))),
)
def test_a_step_on_a_quantized_checkpoint_holds_what_was_planned(
    case: str, precision: str, folders: dict[bool, Path], tmp_path: Path
) -> None:
    quantization = BitsAndBytesConfig(**CHECKPOINTS[case])
    packed = LlamaForCausalLM.from_pretrained(folders[False], quantization_config=quantization)
    packed.save_pretrained(tmp_path / "model")
    _hold_a_step_against_its_plan(tmp_path / "model", {"precision": precision}, tmp_path)


def _hold_a_step_against_its_plan(path: Path, chosen: dict[str, Any], tmp_path: Path) -> None:
    keys = {"precision": "bf16", **chosen}
    config = TrainingConfig(
        model_name=str(path), r=RANK, batch_size=1, max_length=TOKENS, max_steps=2, save_steps=99,
        batching="padded", **keys,
    )  # fmt: skip
    model = attach_adapter(load_model(config), config)
    ids = torch.randint(0, SIZES["vocab_size"], (2, TOKENS))
    batches: Any = [{"input_ids": one, "attention_mask": torch.ones_like(one), "labels": one} for one in ids]
    run = RunStore(tmp_path)
    GlobalOptimManager.get_instance().index2config[0, 0] = {"optim_bits": 32}  # left by an earlier model
    _, reporter = fitted(model, config, run, DataLoader(batches, batch_size=1))
    assert reporter.memory.result is not None
    (found,) = reporter.memory.result["devices"]

    profile = profile_for(json.loads((path / "config.json").read_text()), config)
    assert profile.method == "traced"
    memory = Memory(profile, Workload(Size(1, TOKENS, RANK), optim=config.optim, updates=False, on_gpu=False))
    planned = memory.device(range(memory.num_units))
    num_tensors = sum(parameter.requires_grad for parameter in model.parameters())
    tables_bytes = 1024 * EIGHT_BIT.get(config.optim, 0)
    counters_bytes = 0 if config.optim in EIGHT_BIT else 4 * num_tensors
    assert found["adapter"] == planned.adapter
    assert found["optimizer"] == planned.optimizer + counters_bytes + tables_bytes
    assert found["gradients"] == 0, "they are made in the step"
    planned_moving = planned.gradients + planned.activations + planned.logits
    is_quantized = hasattr(model.config, "quantization_config")
    assert planned_moving == pytest.approx(found["moving"], rel=0.03 if is_quantized else 0.01)
