"""What the values of an adapter say, and the ranks proposed from it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import AdaLoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from lora_backend.errors import ModelError
from lora_backend.modeling.health import adapter_health, singular_values, spectrum_figures
from lora_backend.verification.layer_health import LayerHealth
from lora_backend.verification.proposal import as_rank_pattern, propose_ranks
from tests.verification.layouts import llama, lora, mixtral, trained


def edited(folder: Path, change: dict[str, torch.Tensor]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(load_file(file) | change, file)


@pytest.mark.parametrize("shape", [(4, 7, 9), (8, 5, 6), (3, 3, 40)])
def test_singular_values_are_those_of_the_product(shape: tuple[int, int, int]) -> None:
    rank, width, height = shape
    a, b = torch.randn(rank, width, dtype=torch.float64), torch.randn(height, rank, dtype=torch.float64)
    found, wanted = singular_values(a, b), torch.linalg.svdvals(b @ a)
    common = min(len(found), len(wanted))
    torch.testing.assert_close(found[:common], wanted[:common], rtol=1e-9, atol=1e-9)


def test_effective_rank_counts_directions_that_matter() -> None:
    assert spectrum_figures(torch.tensor([1.0, 1.0, 1.0, 1.0]))["effective_rank"] == pytest.approx(4)
    one = spectrum_figures(torch.tensor([5.0, 0.0, 0.0]))
    assert (one["effective_rank"], one["needed_rank"], one["norm"]) == (pytest.approx(1), 1, pytest.approx(5))
    assert spectrum_figures(torch.zeros(3)) == {"norm": 0.0, "effective_rank": 0.0, "needed_rank": 0}


def test_a_layer_that_uses_one_direction_is_told_from_one_that_uses_all(tmp_path: Path) -> None:
    trained(get_peft_model(llama(), lora(4, ("q_proj",)))).save_pretrained(tmp_path)
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    row = torch.randn(1, 16)
    edited(tmp_path, {key: row.repeat(4, 1)})
    health = {record.name: record for record in adapter_health(tmp_path)}
    assert health["model.layers.0.self_attn.q_proj"].effective_rank == pytest.approx(1, abs=0.05)
    whole = health["model.layers.1.self_attn.q_proj"]
    assert (whole.effective_rank or 0) > 2
    assert (whole.needed_rank or 0) > 1


def test_nan_and_layers_that_add_nothing_are_said(tmp_path: Path) -> None:
    get_peft_model(llama(), lora(4, ("q_proj",))).save_pretrained(tmp_path)
    assert all(record.adds_nothing for record in adapter_health(tmp_path)), "B starts at zero"
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    edited(tmp_path, {key: torch.full((16, 4), float("nan"))})
    health = {record.name: record for record in adapter_health(tmp_path)}
    assert health["model.layers.0.self_attn.q_proj"].has_nonfinite
    assert not health["model.layers.1.self_attn.q_proj"].has_nonfinite


def test_the_values_of_adalora_are_those_that_it_adds(tmp_path: Path) -> None:
    config = AdaLoraConfig(init_r=4, target_modules=["q_proj"], total_step=10)
    trained(get_peft_model(llama(), config)).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    product = tensors[f"{prefix}B"] @ torch.diag(tensors[f"{prefix}E"].flatten()) @ tensors[f"{prefix}A"]
    (record, _) = adapter_health(tmp_path)
    assert record.norm == pytest.approx(float(product.norm()), rel=1e-4)


@pytest.mark.parametrize("names", [["down_proj"], ["gate_up_proj", "down_proj"]])
def test_experts_have_no_single_spectrum(names: list[str], tmp_path: Path) -> None:
    parameters = [f"mlp.experts.{name}" for name in names]
    model = trained(get_peft_model(mixtral(), lora(2, ("q_proj",), target_parameters=parameters)))
    model.save_pretrained(tmp_path)
    health = {record.name: record for record in adapter_health(tmp_path)}
    experts = health["model.layers.0.mlp.experts"]
    assert (experts.norm, experts.effective_rank, experts.adds_nothing) == (None, None, False)
    assert propose_ranks(list(health.values()), dict.fromkeys(health, 2)).keys() == {"model.layers.0.self_attn.q_proj"}


def test_a_folder_without_lora_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no LoRA adapter"):
        adapter_health(tmp_path)


@given(st.dictionaries(st.text("abc", min_size=1), st.floats(0.01, 50), min_size=1, max_size=30), st.integers(0, 400))
def test_proposed_ranks_keep_the_total_and_follow_use(used: dict[str, float], extra: int) -> None:
    health = [LayerHealth(name, "float32", False, False, effective_rank=value) for name, value in used.items()]
    total = len(used) + extra
    proposed = propose_ranks(health, dict.fromkeys(used, 1), total)
    assert sum(proposed.values()) == total
    assert min(proposed.values()) >= 1
    ordered = sorted(used, key=lambda name: used[name])
    assert all(proposed[low] <= proposed[high] + 1 for low, high in pairwise(ordered))


def test_a_proposal_becomes_r_and_the_exceptions_to_it() -> None:
    assert as_rank_pattern({"a": 4, "b": 4, "c": 7}) == (4, {"c": 7})
