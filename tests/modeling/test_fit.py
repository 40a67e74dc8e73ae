"""An adapter's folder where headers do not decide: held against its base model's modules, and what PEFT itself loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lora_backend import check_lora_r_consistency
from lora_backend.config.schema import TrainingConfig
from lora_backend.modeling.adapter import attach_adapter
from tests.modeling.saved import saved_adapter, saved_base

CONVERTED = ("mixtral", "qwen2_moe", "gpt_neox", "granitemoe")
"""Families whose files have other names than the model in memory."""


def report_on(folder: Path) -> dict[str, Any]:
    return check_lora_r_consistency(folder, None)


def peft_loads_all(base: Path, folder: Path) -> bool:
    """Whether PEFT takes every tensor of the file and fills every place of the adapter."""
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = True
    try:
        model = PeftModel(AutoModelForCausalLM.from_pretrained(base), config)
        found = set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    except (RuntimeError, ValueError, KeyError):
        return False
    return not found.unexpected_keys and not any("lora_" in key for key in found.missing_keys)


def change(folder: Path, how: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in how(load_file(file)).items()}, file)


def first(tensors: dict[str, Any], part: str) -> str:
    return sorted(name for name in tensors if part in name)[0]


DAMAGE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "none": dict,
    "half": lambda t: {name: tensor for name, tensor in t.items() if name != first(t, "lora_B")},
    "block": lambda t: {name.replace(".1.", ".9.", 1): tensor for name, tensor in t.items()},
    "tower": lambda t: {
        name.replace("base_model.model.", "base_model.model.language_model."): tensor for name, tensor in t.items()
    },
    "width": lambda t: {**t, first(t, "lora_B"): t[first(t, "lora_B")][:-1]},
    "prefix": lambda t: {name.removeprefix("base_model.model."): tensor for name, tensor in t.items()},
}


@pytest.mark.parametrize("family", CONVERTED)
def test_a_family_whose_names_are_converted_is_judged_as_peft_loads_it(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", family)
    whole = saved_adapter(tmp_path / "whole", base)
    for kind, damage in DAMAGE.items():
        folder = tmp_path / kind
        shutil.copytree(whole, folder)
        change(folder, damage)
        report = report_on(folder)
        assert report["compared"] == "module_tree"
        assert (report["is_consistent"] is True) == peft_loads_all(base, folder), (kind, report["differences"][:3])
        assert (report["differences"] == []) == (report["is_consistent"] is True)


def test_ranks_in_fused_experts_are_told_with_the_base_beside(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "mixtral")
    folder = saved_adapter(tmp_path / "a", base, target_modules=["q_proj", "w1", "w2", "w3"])
    report = report_on(folder)
    assert (report["status"], report["warnings"]) == ("ok", [])
    live = check_lora_r_consistency(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder), None)
    assert report["actual_r_values"] == live["actual_r_values"]
    assert any(name.endswith("experts.gate_up_proj") for name in report["actual_r_values"])
    shutil.rmtree(base)
    assert report_on(folder)["status"] == "undetermined"


@pytest.mark.parametrize("family", ["deepseek_v3", "ernie4_5_moe"])
def test_layers_that_peft_takes_for_experts_are_told_with_the_base_beside(family: str, tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", family)
    config = TrainingConfig(model_name=str(base), r=4)
    model = attach_adapter(AutoModelForCausalLM.from_pretrained(base), config)
    model.save_pretrained(str(tmp_path / "a"))
    report = check_lora_r_consistency(tmp_path / "a", {"r": 4, "target_modules": "all-linear"})
    assert report["status"] == "ok", report["mismatched_layers"]
    assert report["actual_r_values"] == check_lora_r_consistency(model, config)["actual_r_values"]


def test_an_adapter_of_named_experts_is_found_in_the_fused_ones(tmp_path: Path) -> None:
    """As PEFT saved Mixtral's before transformers fused them."""
    base = saved_base(tmp_path / "base", "mixtral")
    folder = saved_adapter(tmp_path / "a", base, target_modules=["q_proj"])
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["q_proj", "w1", "w2", "w3"]}))

    def with_experts(tensors: dict[str, Any]) -> dict[str, Any]:
        for block in range(3):
            for expert in range(2):
                for name, (out, into) in {"w1": (24, 16), "w2": (16, 24), "w3": (24, 16)}.items():
                    half = f"base_model.model.model.layers.{block}.block_sparse_moe.experts.{expert}.{name}.lora_"
                    tensors |= {f"{half}A.weight": torch.zeros(4, into), f"{half}B.weight": torch.zeros(out, 4)}
        return tensors

    change(folder, with_experts)
    assert peft_loads_all(base, folder)
    assert report_on(folder)["differences"] == []
    change(folder, lambda t: {name: tensor for name, tensor in t.items() if ".experts.1.w3." not in name})
    assert not peft_loads_all(base, folder)
    report = report_on(folder)
    assert (report["compared"], report["is_consistent"]) == ("module_tree", False)


def test_a_bare_config_is_a_base_model_too(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "llama")
    folder = saved_adapter(tmp_path / "a", base)
    assert report_on(folder)["compared"] == "headers"
    (base / "model.safetensors").unlink()
    for name in (base, base / "config.json"):
        report = check_lora_r_consistency(folder, {"r": 4, "alpha": 8, "model_name": str(name)})
        assert (report["status"], report["compared"], report["differences"]) == ("ok", "module_tree", [])


def test_packed_weights_are_not_compared_and_the_modules_are(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "llama")
    folder = saved_adapter(tmp_path / "a", base)
    tensors = load_file(base / "model.safetensors")
    packed = {
        name: torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8) if "proj" in name else tensor
        for name, tensor in tensors.items()
    }
    save_file(packed, base / "model.safetensors")
    assert (report_on(folder)["status"], report_on(folder)["compared"]) == ("ok", "module_tree")
    change(folder, DAMAGE["width"])
    report = report_on(folder)
    assert [item["code"] for item in report["differences"]] == ["other_shape"]


def test_files_without_the_first_part_of_the_names_belong_to_the_same_model(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "gpt2")
    tensors = load_file(base / "model.safetensors")
    save_file(
        {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, base / "model.safetensors"
    )
    folder = saved_adapter(tmp_path / "a", base)
    assert (report_on(folder)["status"], report_on(folder)["compared"]) == ("ok", "module_tree")
    change(folder, DAMAGE["block"])
    assert report_on(folder)["is_consistent"] is False


def test_an_adapter_that_peft_refuses_for_its_modules_is_not_ok(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "gpt_neox")
    folder = saved_adapter(tmp_path / "a", saved_base(tmp_path / "other", "llama"))
    report = check_lora_r_consistency(folder, {"r": 4, "alpha": 8, "model_name": str(base)})
    assert (report["is_consistent"], report["compared"]) == (False, "module_tree")
    assert {item["code"] for item in report["differences"]} == {"not_in_model"}


def test_a_base_that_cannot_be_built_is_said(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", "llama")
    folder = saved_adapter(tmp_path / "a", base)
    (base / "model.safetensors").unlink()
    facts = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(facts | {"model_type": "none_such"}))
    report = report_on(folder)
    assert (report["status"], report["warnings"]) == ("ok", ["base_not_compared"])
    assert "none_such" in str(report["not_compared"])
