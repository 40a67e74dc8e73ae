"""What a run proves of the adapter that it saved, and of the one that it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import RankMismatchError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.run_ranks import check_attached, check_saved

Make = Callable[..., dict[str, Any]]
Q0 = "model.layers.0.self_attn.q_proj"
A0 = f"base_model.model.{Q0}.lora_A.weight"


def saved(config: Make, folder: Path, **changes: Any) -> tuple[Any, TrainingConfig, RunStore]:
    asked = TrainingConfig(**config(target_modules=["q_proj"], **changes))
    model = attach_adapter(load_model(asked), asked)
    run = RunStore(folder)
    model.save_pretrained(str(run.adapter))
    return model, asked, run


def change(run: RunStore, **tensors: Any) -> None:
    file = run.adapter / "adapter_model.safetensors"
    kept = {name: value for name, value in (load_file(file) | tensors).items() if value is not None}
    save_file(kept, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("tensors", "code"),
    [
        ({A0: torch.ones(4, 32)}, "other_values"),
        ({A0: None}, "not_from_file"),
        ({A0.replace("layers.0", "layers.7"): torch.ones(4, 32)}, "not_in_model"),
    ],
    ids=["other values", "one gone", "one too many"],
)
def test_a_saved_adapter_is_the_one_in_the_model(
    tensors: dict[str, Any], code: str, config: Make, tmp_path: Path
) -> None:
    model, asked, run = saved(config, tmp_path / "run")
    layers = check_attached(model, asked, run).actual_r_values
    whole = check_saved(model, asked, run, layers)
    assert (whole.status, whole.compared, whole.differences) == ("ok", "loaded", [])
    change(run, **tensors)
    report = check_saved(model, asked, run, layers)
    assert (report.status, [item.code for item in report.differences]) == ("mismatch", [code])
    with pytest.raises(RankMismatchError, match="lora_A"):
        check_saved(model, asked.model_copy(update={"strict_r_check": True}), run, layers)


def test_what_a_run_goes_on_from_is_compared_and_written_down(config: Make, tmp_path: Path) -> None:
    model, asked, run = saved(config, tmp_path / "run")
    assert check_attached(model, asked, run).compared is None
    assert check_attached(model, asked, run, run.adapter).compared == "loaded"
    with torch.no_grad():
        model.base_model.model.get_submodule(Q0).lora_A["default"].weight.zero_()
    report = check_attached(model, asked, run, run.adapter)
    assert [item.name for item in report.differences] == [f"{Q0}.lora_A.weight"]
    assert run.read_rank_report() == report
