"""Adapters on tiny bases, merged by us and by PEFT."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from lora_backend.installation import this_installation
from lora_backend.launching.jobs import make_job
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import ExportRequest, ExportResult
from lora_backend.shipping.merging import merge_adapter

WORDS = torch.tensor([[1, 5, 9, 2, 7, 3], [4, 8, 0, 6, 11, 10]])


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def adapted(base: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> Any:
    """As a user loads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(load(base, dtype), adapter).eval()


def peft_merged(base: Path, adapter: Path, dtype: torch.dtype = torch.float32) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return adapted(base, adapter, dtype).merge_and_unload()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=WORDS, use_cache=False).logits
    return found.float()


def job_of(request: ExportRequest, folder: Path) -> JobProgress:
    return JobProgress(make_job(request, folder, sys.orig_argv, this_installation(), name="merge"))


def merge(base: Path, adapter: Path, output: Path, **more: Any) -> ExportResult:
    request = ExportRequest(adapter=str(adapter), to="merged", base_model=str(base), **more)
    return merge_adapter(request, adapter, output, job_of(request, output.with_name(f"{output.name}-job")))


def same_parameters(ours: Any, theirs: Any) -> dict[str, torch.Tensor]:
    """Names of parameters that differ in a bit, with ours."""
    other = theirs.state_dict()
    assert ours.state_dict().keys() == other.keys()
    return {name: value for name, value in ours.state_dict().items() if not torch.equal(value, other[name])}


def falling(base: Path, folder: Path, targets: Any = "all-linear", r: int = 8, **more: Any) -> Path:
    """An adapter whose singular values fall, as those of a trained one do."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = LoraConfig(task_type="CAUSAL_LM", r=r, lora_alpha=16, target_modules=targets, **more)
        model = get_peft_model(load(base), config)
        model.peft_config["default"].base_model_name_or_path = str(base)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name and "magnitude" not in name:
                    fall = 0.5 ** torch.arange(float(min(parameter.shape)))
                    parameter.normal_(std=0.3)
                    parameter.mul_(fall[:, None] if parameter.shape[0] == len(fall) else fall)
        model.save_pretrained(folder)
    return folder
