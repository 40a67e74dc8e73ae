"""A LoRA sits on exactly the modules that a config asks for, in every family: no fewer, no more."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.lora_layers import lora_layers_of_model, modules_saved_whole
from lora_backend.modeling.rank_check import rank_report
from lora_backend.verification.asked_layers import asked_of
from lora_backend.verification.refusals import refusals
from tests.modeling.families import MIXTURES, gemma3, on_meta, vision_language

R = 4
QKVO = r"self_attn\.[qkvo]_proj"
DEEPSEEK = r"self_attn\.(q_a|q_b|kv_b|o)_proj|self_attn\.kv_a_proj_with_mqa"
MLP, SHARED = r"mlp\.(gate|up|down)_proj", r"mlp\.shared_experts?\.(gate|up|down)_proj"
FUSED, ROUTER = r"mlp\.experts\.(gate_up|down)_proj", r"mlp\.gate\.weight"
NAMED = ["gate_proj", "up_proj", "down_proj"]
LINEAR_ATTENTION = r"linear_attn\.(in_proj_qkvz|in_proj_ba|out_proj)"

# family, target_modules → expression of what stands behind the block's number
CASES: list[tuple[str, Any, str]] = [
    ("llama", "all-linear", f"{QKVO}|{MLP}"),
    ("llama", ["mlp.up_proj", "q_proj"], r"mlp\.up_proj|self_attn\.q_proj"),
    ("llama", r"model\.layers\.\d+\.self_attn\.[qv]_proj", r"self_attn\.[qv]_proj"),
    ("mixtral", "all-linear", f"{QKVO}|{FUSED}|{ROUTER}"),
    ("mixtral", ["q_proj", "w1", "w2", "w3"], rf"self_attn\.q_proj|{FUSED}"),
    ("mixtral", ["w1", "w3"], r"mlp\.experts\.gate_up_proj"),
    ("mixtral", ["down_proj"], r"mlp\.experts\.down_proj"),
    ("mixtral", ["gate"], ROUTER),
    ("mixtral", ["q_proj", "v_proj"], r"self_attn\.[qv]_proj"),
    ("mixtral", r"model\.layers\.\d+\.self_attn\.[qv]_proj", r"self_attn\.[qv]_proj"),
    ("mixtral", r".*\.experts\.w[123]", FUSED),
    ("qwen2_moe", "all-linear", rf"{QKVO}|{SHARED}|mlp\.shared_expert_gate"),
    ("qwen2_moe", NAMED, f"{SHARED}|{FUSED}"),
    ("qwen2_moe", ["shared_expert.up_proj"], r"mlp\.shared_expert\.up_proj"),
    ("qwen3_moe", "all-linear", f"{QKVO}|{FUSED}|{ROUTER}"),
    ("qwen3_moe", NAMED, FUSED),
    ("olmoe", "all-linear", f"{QKVO}|{FUSED}|{ROUTER}"),
    ("deepseek_v2", "all-linear", f"{DEEPSEEK}|{MLP}|{SHARED}|{FUSED}|{ROUTER}"),
    ("deepseek_v3", "all-linear", f"{DEEPSEEK}|{MLP}|{SHARED}|{FUSED}|{ROUTER}"),
    ("deepseek_v3", NAMED, f"{MLP}|{SHARED}|{FUSED}"),
    ("deepseek_v3", ["shared_experts.down_proj"], r"mlp\.shared_experts\.down_proj"),
    ("deepseek_v3", ["shared_experts.down_proj", "q_a_proj"], r"mlp\.shared_experts\.down_proj|self_attn\.q_a_proj"),
    ("deepseek_v3", ["mlp.up_proj"], r"mlp\.up_proj"),
    ("deepseek_v3", ["experts.gate_proj", "experts.up_proj"], r"mlp\.experts\.gate_up_proj"),
    ("deepseek_v3", r".*\.shared_experts\..*", SHARED),
    ("ernie4_5_moe", "all-linear", f"{QKVO}|{MLP}|{SHARED}|{FUSED}|{ROUTER}"),
    ("qwen3_next", "all-linear", rf"{QKVO}|{LINEAR_ATTENTION}|{MLP}|{SHARED}|mlp\.shared_expert_gate|{FUSED}|{ROUTER}"),
    ("gpt_oss", "all-linear", QKVO),
    ("gpt_oss", ["q_proj", "gate_up_proj", "down_proj"], rf"self_attn\.q_proj|{FUSED}"),
    ("gpt_oss", ["router"], r"mlp\.router\.weight"),
    ("granitemoe", "all-linear", QKVO),
    ("granitemoe", ["input_linear", "output_linear"], r"block_sparse_moe\.experts\.(gate_up|down)_proj"),
    ("gemma3", "all-linear", f"{QKVO}|{MLP}"),
    ("gemma3", ["q_proj", "v_proj"], r"self_attn\.[qv]_proj"),
    ("gemma3", r".*\.q_proj", r"self_attn\.q_proj"),
    ("llava", "all-linear", f"{QKVO}|{MLP}"),
    ("llava", ["q_proj"], r"self_attn\.q_proj"),
]  # fmt: skip
TOWERS: list[tuple[str, Any, str]] = [
    ("gemma3", r".*vision_tower.*\.q_proj", r"vision_tower\..*\.q_proj"),
    ("gemma3", ["fc1"], r"vision_tower\..*\.fc1"),
    ("llava", ["multi_modal_projector.linear_1"], r"multi_modal_projector\.linear_1"),
    ("llava", ["q_proj", "linear_2"], r"language_model\..*\.q_proj|multi_modal_projector\.linear_2"),
]


def built(family: str) -> Any:
    return {"gemma3": gemma3, "llava": vision_language}.get(family, lambda: on_meta(family))()


def asked(**changes: Any) -> TrainingConfig:
    return TrainingConfig(**{"model_name": "m", "r": R, "alpha": 8, **changes})


def adapted(model: nn.Module) -> set[str]:
    return {layer.name for layer in lora_layers_of_model(model)}


def names_of(model: nn.Module) -> set[str]:
    """Modules, parameters that are no module's only weight, and the matrices of routers."""
    parameters = {name for name, _ in model.named_parameters() if not name.endswith((".weight", ".bias"))}
    routers = {name for name, _ in model.named_parameters() if name.endswith(".gate.weight") or "router" in name}
    return {name for name, _ in model.named_modules()} | parameters | routers


@pytest.mark.parametrize("layers", [None, [1], [0, 2]], ids=str)
@pytest.mark.parametrize(("family", "targets", "wanted"), CASES, ids=str)
def test_targets_in_layers_get_a_lora_and_nothing_else_does(
    family: str, targets: Any, wanted: str, layers: list[int] | None
) -> None:
    model = built(family)
    inside = rf"(model|model\.language_model)\.layers\.({'|'.join(map(str, layers or [0, 1, 2]))})\.({wanted})"
    names = {name for name in names_of(model) if re.fullmatch(inside, name)}
    config = asked(target_modules=targets, target_layers=layers)
    if not names:
        with pytest.raises(ModelError, match="None of the blocks"):
            attach_adapter(model, config)
        return
    assert adapted(attach_adapter(model, config)) == names


@pytest.mark.parametrize(("family", "targets", "wanted"), TOWERS, ids=str)
def test_a_tower_is_adapted_where_it_is_named(family: str, targets: Any, wanted: str) -> None:
    """Beside something of the text model, for rows of text train nothing in a tower alone."""
    model, text = built(family), r".*language_model.*\.down_proj"
    inside = [name for name in names_of(model) if re.fullmatch(rf"model\.({wanted})", name)]
    assert inside
    beside = [name for name in names_of(model) if re.fullmatch(text, name)]
    both = f"{targets}|{text}" if isinstance(targets, str) else [*targets, "down_proj"]
    assert adapted(attach_adapter(model, asked(target_modules=both))) == {*inside, *beside}


@pytest.mark.parametrize("family", MIXTURES)
@pytest.mark.parametrize("changes", [{}, {"target_layers": [1]}, {"target_modules": [*NAMED, "w1", "w2", "w3"], "rank_pattern": {"down_proj": 3}}], ids=str)  # fmt: skip
def test_an_adapter_of_a_mixture_loads_as_it_was_trained(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """By PEFT itself, which rewrites the names of such models at every load."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(MIXTURES[family])
    model = attach_adapter(copy.deepcopy(base), asked(**changes))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    rows = torch.randint(0, 32, (2, 6))
    model(input_ids=rows, labels=rows).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(base, str(tmp_path))
    ours, theirs = lora_layers_of_model(model), lora_layers_of_model(loaded)
    assert {(layer.name, layer.layer_r, layer.scaling) for layer in ours} == {
        (layer.name, layer.layer_r, layer.scaling) for layer in theirs
    }
    with torch.no_grad():
        assert torch.allclose(model.eval()(rows).logits, loaded.eval()(rows).logits, atol=1e-5)


RANKS: list[tuple[dict[str, Any], dict[str, int]]] = [
    ({}, {"experts.gate_up_proj": 2 * R, "experts.down_proj": R, "gate.weight": R, "q_proj": R}),
    ({"rank_pattern": {"w1": 2, "w3": 2}, "alpha_pattern": {"w1": 4, "w3": 4}}, {"experts.gate_up_proj": 4, "experts.down_proj": R}),
    ({"rank_pattern": {"gate_up_proj": 6, "w2": 1}}, {"experts.gate_up_proj": 6, "experts.down_proj": 1}),
    ({"rank_pattern": {"gate": 1}}, {"gate.weight": 1, "q_proj": R}),
    ({"target_modules": ["gate_up_proj", "q_proj"]}, {"experts.gate_up_proj": R, "q_proj": R}),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "ranks"), RANKS, ids=str)
@pytest.mark.parametrize("use_rslora", [False, True])
def test_each_part_of_a_fused_parameter_keeps_its_rank_and_scale(
    changes: dict[str, Any], ranks: dict[str, int], use_rslora: bool
) -> None:
    config = asked(**changes, use_rslora=use_rslora)
    layers = lora_layers_of_model(attach_adapter(on_meta("mixtral"), config))
    for ending, rank in ranks.items():
        found = [layer for layer in layers if layer.name.endswith(f".{ending}")]
        assert [layer.layer_r for layer in found] == [rank] * 3
    if "rank_pattern" not in changes:
        assert {round(layer.scaling or 0, 9) for layer in layers} == {8 / R**0.5 if use_rslora else 8 / R}


@pytest.mark.parametrize("is_named", [False, True], ids=["all-linear", "named"])
@pytest.mark.parametrize("family", [*MIXTURES, "gemma3"])
def test_what_was_attached_passes_the_strict_check(family: str, is_named: bool) -> None:
    config = asked()
    if is_named:
        own = {"mixtral": ["w1", "w2", "w3"], "gpt_oss": ["gate_up_proj", "down_proj"], "granitemoe": ["input_linear"]}
        first = "q_a_proj" if family == "deepseek_v3" else "q_proj"
        config = asked(target_layers=[1], target_modules=[first, *own.get(family, NAMED)])
    report = rank_report(attach_adapter(built(family), config), config, exact=True)
    assert report.status == "ok", report.mismatched_layers
    assert not {"unexpected_layer", "unmatched_target", "missing_layer_index"} & set(report.warnings)


@pytest.mark.parametrize(
    ("family", "changes"), [("mixtral", {"target_modules": ["q_proj", "w1", "w2", "w3"]}), ("gemma3", {})]
)
def test_a_block_that_was_not_asked_for_fails_the_strict_check(family: str, changes: dict[str, Any]) -> None:
    model = attach_adapter(built(family), asked(**changes))
    report = rank_report(model, asked(**changes, target_layers=[1]), exact=True)
    assert report.status == "mismatch"
    assert all(re.search(r"\.layers\.[02]\.", name) for name in report.mismatched_layers)
    assert {record.state for record in report.layers} == {"ok", "unasked"}


def test_modules_to_save_are_those_of_the_name_and_not_of_its_end() -> None:
    model = attach_adapter(on_meta("llama"), asked(target_modules=["q_proj"], modules_to_save=["norm"]))
    assert modules_saved_whole(model) == ["model.norm"]


def test_biases_of_a_tower_stay_as_they_are() -> None:
    model = attach_adapter(vision_language(), asked(bias="all"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("vision_tower" in name or "projector" in name for name in trained)


REFUSED: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("llama", {"target_modules": ["mlp.q_proj"]}, "unmatched_target", {"target_modules": ["self_attn.q_proj"]}),
    ("llama", {"target_modules": ["q_porj"]}, "unmatched_target", {"target_modules": ["q_proj"]}),
    ("llama", {"target_modules": "q_proj"}, "unmatched_target", {"target_modules": ["q_proj"]}),
    ("llama", {"target_modules": ["zzz"]}, "unmatched_target", {"target_modules": "all-linear"}),
    ("llama", {"target_modules": ["q_proj", "mlp"]}, "unfit_target", {"target_modules": ["q_proj", "gate_proj", "up_proj", "down_proj"]}),
    ("llama", {"target_modules": ["q_proj", "norm"]}, "unfit_target", {"target_modules": ["q_proj"]}),
    ("llama", {"modules_to_save": ["nonsense"]}, "unmatched_module_to_save", {"modules_to_save": None}),
    ("llama", {"modules_to_save": ["lm_head", "embed_token"]}, "unmatched_module_to_save", {"modules_to_save": ["lm_head", "embed_tokens"]}),
    ("llama", {"modules_to_save": ["layers"]}, "unsavable_module", {"modules_to_save": None}),
    ("mixtral", {"target_modules": ["q_proj", "w1"]}, "half_of_fused", {"target_modules": ["q_proj", "w1", "w3"]}),
    ("mixtral", {"target_modules": ["experts.1.w1"]}, "single_experts", {"target_modules": ["w1", "w3"]}),
    ("mixtral", {"target_modules": ["w1", "w3"], "rank_pattern": {"w1": 2}}, "uneven_parts", {"rank_pattern": None, "alpha_pattern": None}),
    ("mixtral", {"lora_dropout": 0.05}, "experts_dropout", {"lora_dropout": None}),
    ("gpt_oss", {"use_dora": True, "target_modules": ["down_proj"]}, "experts_dora", {"use_dora": None}),
    ("deepseek_v3", {"init_lora_weights": "pissa"}, "experts_start", {"init_lora_weights": None}),
    ("deepseek_v3", {"target_modules": ["shared_experts.up_proj"], "lora_dropout": 0.1}, "experts_dropout", {"lora_dropout": None}),
    ("qwen3_next", {"target_modules": ["q_proj"], "target_layers": [0]}, "no_target_in_layers", {"target_layers": [1]}),
    ("mamba", {"target_modules": ["in_proj", "out_proj"]}, "refused_target", {"target_modules": ["in_proj"]}),
    ("falcon_h1", {"target_modules": ["q_proj", "out_proj"]}, "refused_target", {"target_modules": ["q_proj"]}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "code", "fix"), REFUSED, ids=str)
def test_what_cannot_be_is_refused_with_the_nearest_config_that_can(
    family: str, changes: dict[str, Any], code: str, fix: dict[str, Any]
) -> None:
    config = asked(**changes)
    tree = tree_of_model(on_meta(family))
    found = refusals(config.model_dump(), asked_of(config.model_dump(), tree), tree)
    assert (found[0].code, found[0].changes[0].to_json()) == (code, fix)
    with pytest.raises(ModelError) as raised:
        attach_adapter(on_meta(family), config)
    assert str(raised.value) == f"{found[0].message.text()} {found[0].remedy.text()}"
    fixed = {key: value for key, value in {**changes, **fix}.items() if value is not None}
    attach_adapter(on_meta(family), asked(**fixed))
