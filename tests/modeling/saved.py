"""A base model and an adapter in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.modeling.families import CONFIGS, MIXTURES

FAMILIES = CONFIGS | MIXTURES


def saved_base(folder: Path, family: str) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(FAMILIES[family]).save_pretrained(folder)
    return folder


def saved_adapter(folder: Path, base: Path, **settings: Any) -> Path:
    model = AutoModelForCausalLM.from_pretrained(base)
    if "target_modules" not in settings:
        settings["target_modules"] = "all-linear"
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, **settings)).save_pretrained(folder)
    return folder
