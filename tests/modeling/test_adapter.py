"""The adapter sits on exactly the modules that the config names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.lora_layers import lora_layers_of_model
from lora_backend.modeling.rank_check import check_lora_r_consistency, rank_report
from tests.modeling.families import CONFIGS, HYBRIDS, on_meta

LLAMA_LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
TARGETS: dict[str, tuple[str, Any, set[str]]] = {
    "llama-all": ("llama", "all-linear", LLAMA_LINEAR),
    "llama-list": ("llama", ["q_proj", "mlp.up_proj"], {"q_proj", "up_proj"}),
    "llama-expression": ("llama", r"model\.layers\.\d+\.self_attn\.(q|v)_proj", {"q_proj", "v_proj"}),
    "gpt2-all": ("gpt2", "all-linear", {"c_attn", "c_proj", "c_fc"}),
    "gpt2-list": ("gpt2", ["c_attn"], {"c_attn"}),
    "bloom-all": ("bloom", "all-linear", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    "opt-list": ("opt", ["q_proj", "fc1"], {"q_proj", "fc1"}),
    "mixtral-list": ("mixtral", ["q_proj", "v_proj"], {"q_proj", "v_proj"}),
}


def asked(**changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {"model_name": "m", "r": 4, "alpha": 8}
    return TrainingConfig(**(values | changes))


def placed(model: torch.nn.Module) -> set[tuple[int | None, str]]:
    return {(layer.block, layer.module) for layer in lora_layers_of_model(model)}


@pytest.mark.parametrize("layers", [None, [1], [0, 2]])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_and_layers_give_exactly_these_modules(name: str, layers: list[int] | None) -> None:
    family, targets, modules = TARGETS[name]
    model = attach_adapter(on_meta(family), asked(target_modules=targets, target_layers=layers))
    wanted = {(block, module) for block in layers or [0, 1, 2] for module in modules}
    assert placed(model) == wanted
    assert {p.shape[0] for n, p in model.named_parameters() if "lora_A" in n} == {4}


def test_all_linear_leaves_the_head_alone_and_layers_leave_out_what_is_in_no_block() -> None:
    everywhere = placed(attach_adapter(on_meta("opt"), asked()))
    assert {module for block, module in everywhere if block is None} == {"project_in", "project_out"}
    one_block = placed(attach_adapter(on_meta("opt"), asked(target_layers=[1])))
    assert one_block == {(block, module) for block, module in everywhere if block == 1}


@pytest.mark.parametrize("family", CONFIGS)
def test_what_was_attached_is_consistent_with_the_config_that_asked_for_it(family: str) -> None:
    config = asked()
    report = check_lora_r_consistency(attach_adapter(on_meta(family), config), config)
    assert report["status"] == "ok", report["mismatched_layers"]


@pytest.mark.parametrize("family", CONFIGS)
def test_all_linear_means_the_same_modules_with_layers_as_without(family: str) -> None:
    names = {layer.name for layer in lora_layers_of_model(attach_adapter(on_meta(family), asked())) if layer.block == 1}
    some = attach_adapter(on_meta(family), asked(target_layers=[1]))
    assert {layer.name for layer in lora_layers_of_model(some)} == names


@pytest.mark.parametrize("layers", [None, [0]])
@pytest.mark.parametrize("targets", [["q_porj"], ["nothing", "here"], ".*zzz"])
def test_targets_that_match_nothing_are_refused_with_the_names_that_are_there(
    targets: Any, layers: list[int] | None
) -> None:
    with pytest.raises(ModelError, match="q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"):
        attach_adapter(on_meta("llama"), asked(target_modules=targets, target_layers=layers))


def test_blocks_that_the_model_does_not_have_are_refused_with_those_that_it_has() -> None:
    with pytest.raises(ModelError, match=r"names 3, 7, but the model has 3 blocks, numbered 0 to 2"):
        attach_adapter(on_meta("gpt2"), asked(target_layers=[0, 3, 7]))


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": "q_proj["},
        {"target_modules": "q_proj[", "target_layers": [0]},
        {"rank_pattern": {"q_proj[": 2}},
        {"alpha_pattern": {"q_proj[": 2}},
        {"target_modules": ".*layernorm"},
        {"r": 3, "init_lora_weights": "orthogonal"},
    ],
    ids=str,
)
def test_what_peft_cannot_attach_is_one_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        attach_adapter(on_meta("llama"), asked(**changes))


@pytest.mark.parametrize("layers", [None, [1]])
@pytest.mark.parametrize("family", HYBRIDS)
def test_all_linear_takes_every_layer_that_peft_allows_and_says_which_it_leaves_out(
    family: str, layers: list[int] | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = asked(target_layers=layers)
    with caplog.at_level("INFO"):
        model = attach_adapter(on_meta(family), config)
    tree = tree_of_model(model)
    left = {name for name in tree.linear if name.endswith(".out_proj")}
    wanted = {name for name in tree.linear if (layers is None or tree.block_of(name) in layers)} - left
    assert {layer.name for layer in lora_layers_of_model(model)} == wanted
    assert left
    assert "leaves out out_proj" in caplog.text
    found = rank_report(model, config, exact=True)
    assert (found.status, found.mismatched_layers) == ("ok", [])
