"""Adapters to export, and exports done in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from lora_backend.commands.job import in_foreground
from lora_backend.installation import this_installation
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.documents import MetricPoint
from lora_backend.runs.record.job_documents import ExportRequest, ExportResult
from lora_backend.runs.record.run_store import RunStore
from lora_backend.verification.passport import write_passport
from tests.modeling.families import LLAMA
from tests.run_files import end_run, make_run


def saved_base(folder: Path, config: Any) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def unloadable(folder: Path) -> Path:
    """A base model of which the config alone is here, so that no proof takes the time to load it."""
    LLAMA.save_pretrained(folder)
    return folder


def made_adapter(folder: Path, base: Path, **settings: Any) -> PeftModel:
    """An adapter on `base` that changes something, saved in `folder`; the model with it."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | settings
    plain = AutoModelForCausalLM.from_pretrained(base) if (base / "model.safetensors").exists() else AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))  # fmt: skip
    model = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", **settings))
    model.peft_config["default"].base_model_name_or_path = str(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.1)
    model.save_pretrained(folder)
    return model.eval()


def made_run(base: Path, **config: Any) -> RunStore:
    """A finished run with an adapter, its passport, curves and answers."""
    values = {"model_name": str(base), "r": 4, "alpha": 8, "dataset": "/home/anna/shop rows.jsonl", "learning_rate": 0.02} | config  # fmt: skip
    run = make_run(this_installation().runs, config=values, config_text=f"model_name: {base}\n# mine\nr: 4\n", argv=None)  # fmt: skip
    made_adapter(run.adapter, base)
    (run.adapter / "optimizer.pt").write_bytes(b"x" * 100)
    start = {"start": 1, "first_step": 1, "last_step": 3, "data_sha256": "ab" * 32, "versions": {"torch": "2.13.0"}}
    write_passport(run.adapter, config=values, starts=[start], ranks={})
    for step, loss in ((1, 3.0), (2, 2.0), (3, 1.5)):
        run.append_point(MetricPoint(step=step, loss=loss, eval_loss=loss + 0.1, time=float(step)))
    assert len(read_columns(run.metrics_jsonl)["loss"]) == 3
    end_run(run, "finished")
    return run


def shipped(adapter: Path, to: Any, output: Path | None = None, **more: Any) -> tuple[RunStore, ExportResult | None]:
    """Export in this process: the job and its result, None where it did not come to one."""
    request = ExportRequest(adapter=str(adapter), to=to, output=str(output) if output else None, **more)
    job, _ = in_foreground(request, this_installation(), name="test")
    return job, job.read_result(ExportResult)


def good(adapter: Path, to: Any, output: Path | None = None, **more: Any) -> ExportResult:
    """The same of one that must end well."""
    job, result = shipped(adapter, to, output, **more)
    assert result is not None, job.state().message
    return result


def refused(adapter: Path, to: Any, output: Path | None = None, **more: Any) -> str:
    """The sentence of one that must not be done."""
    job, result = shipped(adapter, to, output, **more)
    assert result is None
    message = job.state().message
    assert message is not None
    assert "Traceback" not in message.text("en")
    return message.text("en")


def proof(result: ExportResult, code: str) -> tuple[bool | None, str]:
    found = next(proof for proof in result.proofs if proof.code == code)
    return found.passed, found.message.text("en")


def leftovers(folder: Path) -> list[str]:
    """What no export may leave beside its place."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def peft_config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    return found
