"""An adapter that does something, without a training: its matrices are drawn, so base model and adapter answer differently."""

from __future__ import annotations

from pathlib import Path

from lora_backend.runs.record.run_store import RunStore
from tests.run_files import end_run, make_run


def save_adapter(model: Path, *folders: Path) -> None:
    """Save one adapter of `model` in each of `folders`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    own = LoraConfig(r=4, lora_alpha=1024, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    wrapped = get_peft_model(AutoModelForCausalLM.from_pretrained(model), own)
    for folder in folders:
        wrapped.save_pretrained(folder)


def tuned_run(runs: Path, model: Path, name: str = "tuned") -> RunStore:
    """A finished run on `model` with an adapter, and a checkpoint of step 2."""
    run = make_run(runs, config={"model_name": str(model)}, config_text=f"model_name: {model}\n", argv=None, name=name)
    checkpoint = run.checkpoints / "checkpoint-2"
    save_adapter(model, run.adapter, checkpoint / "adapter")
    (checkpoint / "manifest.json").write_text("{}")
    end_run(run, "finished")
    return run
