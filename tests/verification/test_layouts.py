"""The rank check on every layout that PEFT writes, with adapters made by PEFT itself, live and read back from disk."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from transformers import LlamaConfig, LlamaForCausalLM

from lora_backend import check_lora_r_consistency
from lora_backend.errors import ModelError, RankMismatchError
from lora_backend.modeling.rank_check import raise_on_mismatch
from tests.verification.layouts import ATTENTION, Zoo, gpt2, llama, lora, mixtral, own, trained
from tests.verification.reports import typed

CONSISTENT: dict[str, tuple[Callable[[], Any], LoraConfig, set[int]]] = {
    "linear": (llama, lora(), {4}),
    "all-linear": (llama, lora(3, "all-linear"), {3}),
    "expression": (llama, lora(3, r".*\.0\..*q_proj"), {3}),
    "rank-pattern": (llama, lora(4, rank_pattern={"layers.1.self_attn.q_proj": 2, "q_proj": 3}), {2, 3, 4}),
    "rslora": (llama, lora(use_rslora=True, alpha_pattern={"q_proj": 32}), {4}),
    "dora": (llama, lora(use_dora=True), {4}),
    "lora-bias": (gpt2, lora(4, ("c_attn",), lora_bias=True), {4}),
    "conv1d-of-gpt2": (gpt2, lora(4, ("c_attn", "c_fc")), {4}),
    "embedding-and-head": (llama, lora(4, ("embed_tokens", "lm_head")), {4}),
    "convolutions": (Zoo, lora(4, ("conv1", "conv2")), {4}),
    "grouped-convolution": (Zoo, lora(4, ("grouped",)), {4}),
    "attention-and-its-output": (Zoo, lora(4, ("attention",), rank_pattern={"attention": 2}), {2}),
    "whole-modules-beside": (llama, lora(modules_to_save=["lm_head"]), {4}),
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_a_layout_is_read_right_from_the_live_model(name: str) -> None:
    base, config, ranks = CONSISTENT[name]
    model = trained(get_peft_model(base(), copy.deepcopy(config)))
    report = check_lora_r_consistency(model, own(model))
    assert report["status"] == "ok", report["mismatched_layers"]
    assert set(report["actual_r_values"].values()) == ranks
    assert report["warnings"] == []


@pytest.mark.parametrize("name", [name for name in CONSISTENT if name != "grouped-convolution"])
def test_a_layout_is_read_right_from_its_folder(name: str, tmp_path: Path) -> None:
    base, config, _ = CONSISTENT[name]
    model = trained(get_peft_model(base(), copy.deepcopy(config)))
    model.save_pretrained(tmp_path)
    live = check_lora_r_consistency(model, own(model))
    report = check_lora_r_consistency(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()))
    assert report["status"] == "ok", report["mismatched_layers"]
    assert report["actual_r_values"] == live["actual_r_values"]


def test_a_grouped_convolution_on_disk_cannot_be_told(tmp_path: Path) -> None:
    trained(get_peft_model(Zoo(), lora(4, ("grouped",)))).save_pretrained(tmp_path)
    report = check_lora_r_consistency(tmp_path, {"r": 4, "target_modules": ["grouped"]})
    assert (report["status"], report["is_consistent"]) == ("undetermined", None)
    assert report["actual_r_values"] == {"grouped": (4, 1)}


def test_experts_are_divided_out_live_and_cannot_be_told_on_disk(tmp_path: Path) -> None:
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    model = trained(get_peft_model(mixtral(), lora(2, ("q_proj",), target_parameters=parameters)))
    report = check_lora_r_consistency(model, own(model))
    assert report["status"] == "ok"
    assert report["actual_r_values"]["model.layers.0.mlp.experts.down_proj"] == 2
    model.save_pretrained(tmp_path)
    assert check_lora_r_consistency(tmp_path, own(model))["status"] == "undetermined"


def test_adalora_goes_by_its_initial_rank_live_and_by_the_rows_that_are_left_on_disk(tmp_path: Path) -> None:
    config = AdaLoraConfig(
        init_r=6, target_r=2, tinit=0, tfinal=1, total_step=6, deltaT=1, target_modules=["q_proj", "v_proj"]
    )
    model = get_peft_model(llama(), config)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    ids = torch.randint(0, 32, (2, 8))
    for step in range(6):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    live = check_lora_r_consistency(model, own(model))
    assert (live["status"], live["expected_r"]) == ("ok", 6)
    model.save_pretrained(tmp_path)
    on_disk = check_lora_r_consistency(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()))
    assert on_disk["status"] == "ok", on_disk
    assert sum(on_disk["actual_r_values"].values()) < 24


def test_block_diagonal_b_is_multiplied_by_its_blocks(tmp_path: Path) -> None:
    from peft.tuners.lora.config import BdLoraConfig

    config = lora(4, ("q_proj",), use_bdlora=BdLoraConfig(target_modules_bd_b=["q_proj"], nblocks=2))
    model = trained(get_peft_model(llama(), config))
    assert check_lora_r_consistency(model, own(model))["status"] == "ok"
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(check_lora_r_consistency(tmp_path, saved)["actual_r_values"].values()) == {4}


def test_the_old_merged_linear_is_read(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 4, "target_modules": ["c_attn"], "enable_lora": [True, False, True]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    tensors = {"lora_A.weight": torch.ones(8, 16), "lora_B.weight": torch.ones(32, 4, 1)}
    save_file(
        {f"base_model.model.h.0.c_attn.{k}": v for k, v in tensors.items()}, tmp_path / "adapter_model.safetensors"
    )
    report = check_lora_r_consistency(tmp_path, config)
    assert report["status"] == "ok"
    assert "legacy_merged_linear" in report["warnings"]


@pytest.mark.parametrize("other", ["VeraConfig", "LoHaConfig", "RandLoraConfig", "DeloraConfig", "GraloraConfig"])
def test_another_tuner_is_not_asked(other: str, tmp_path: Path) -> None:
    model = get_peft_model(llama(), getattr(peft, other)(r=4, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    for subject in (model, tmp_path):
        report = check_lora_r_consistency(subject, own(model))
        assert (report["status"], report["is_consistent"]) == ("not_lora", None)


def test_wrappers_do_not_hide_the_layers() -> None:
    model = trained(get_peft_model(llama(), lora()))
    expected = check_lora_r_consistency(model, own(model))["actual_r_values"]
    assert check_lora_r_consistency(torch.compile(model), own(model))["actual_r_values"] == expected

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = model

    assert check_lora_r_consistency(Wrapper(), lora())["actual_r_values"] == expected


def test_a_config_that_asks_for_another_rank_names_every_layer() -> None:
    model = trained(get_peft_model(llama(), lora(4)))
    report = check_lora_r_consistency(model, {"r": 8, "target_modules": ["q_proj", "v_proj"]})
    assert report["is_consistent"] is False
    assert len(report["mismatched_layers"]) == 4
    with pytest.raises(RankMismatchError, match="4 LoRA layers"):
        raise_on_mismatch(typed(report))


def test_a_module_that_the_config_targets_and_that_has_no_lora_is_a_mismatch() -> None:
    model = trained(get_peft_model(llama(), lora(4, ("q_proj",))))
    report = check_lora_r_consistency(model, {"r": 4, "target_modules": ["q_proj", "v_proj"]})
    assert report["mismatched_layers"] == [ATTENTION.format(0, "v_proj"), ATTENTION.format(1, "v_proj")]


def test_a_merged_and_unloaded_model_has_no_lora_and_says_so_in_the_known_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = get_peft_model(llama(), lora()).merge_and_unload()
    report = check_lora_r_consistency(model, lora())
    assert (report["status"], report["is_consistent"]) == ("no_lora_layers", False)
    assert "⚠️  " in caplog.text


def test_what_is_odd_is_a_code() -> None:
    def codes(change: Callable[[Any], Any], config: Any = None) -> set[str]:
        model = trained(get_peft_model(llama(), lora(4)))
        changed = change(model)
        return set(
            check_lora_r_consistency(changed if isinstance(changed, nn.Module) else model, config or own(model))[
                "warnings"
            ]
        )

    layer = lambda model: model.base_model.model.model.layers[0].self_attn.q_proj  # noqa: E731
    assert codes(lambda model: None) == set()
    assert codes(lambda model: layer(model).scaling.update(default=9.0)) == {"wrong_scaling"}
    assert codes(lambda model: layer(model).r.update(default=9)) == {"stale_layer_r"}
    assert codes(lambda model: layer(model).lora_A["default"].weight.data[2:].zero_()) == {"zero_padded"}
    assert codes(lambda model: layer(model).lora_A["default"].weight.requires_grad_(False)) == {"A_frozen"}
    assert codes(lambda model: model.merge_adapter()) == {"merged"}
    assert codes(lambda model: get_peft_model(llama(), lora(4))) == {"untrained"}
    typo = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "o_porj"], "layers_to_transform": [0, 1, 7]}
    assert codes(lambda model: None, typo) == {"unmatched_target", "missing_layer_index"}
    patterns = {"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 4, "layers.0.self_attn.q_proj": 4, "self_attn": 2}}
    assert codes(lambda model: None, patterns) == {"unmatched_rank_pattern", "shadowed_rank_pattern"}
    assert codes(lambda model: None, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}) == {"unexpected_layer"}


def test_a_near_miss_is_offered() -> None:
    model = trained(get_peft_model(llama(), lora(4)))
    report = check_lora_r_consistency(model, {"r": 4, "target_modules": ["q_porj", "v_proj"]})
    (entry,) = [entry for entry in report["coverage"] if entry["warning"]]
    assert (entry["entry"], entry["near"], entry["layers"]) == ("q_porj", "q_proj", 0)


def test_odd_folders_are_results(tmp_path: Path) -> None:
    def saved(name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
        folder = tmp_path / name
        trained(get_peft_model(llama(), lora(4))).save_pretrained(folder)
        file = folder / "adapter_model.safetensors"
        save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file)
        return check_lora_r_consistency(folder, json.loads((folder / "adapter_config.json").read_text()))

    empty = saved("empty", lambda t: {k: torch.empty(0) if "layers.0" in k else v for k, v in t.items()})
    assert (empty["status"], "empty_tensor" in empty["warnings"]) == ("mismatch", True)
    flat = saved("flat", lambda t: {k: v.flatten() if "layers.1" in k else v for k, v in t.items()})
    assert (flat["status"], "flat_tensor" in flat["warnings"]) == ("mismatch", True)
    turned = saved("turned", lambda t: {k: v.T for k, v in t.items()})
    assert (turned["status"], "transposed" in turned["warnings"]) == ("mismatch", True)
    assert set(turned["actual_r_values"].values()) == {None}
    compiled = saved("compiled", lambda t: {k.replace("layers.0.", "layers.0._orig_mod."): v for k, v in t.items()})
    assert (compiled["status"], "keys_will_not_load" in compiled["warnings"]) == ("ok", True)
    half = saved("half", lambda t: {k: v for k, v in t.items() if "layers.1.self_attn.v_proj.lora_B" not in k})
    assert half["actual_r_values"][ATTENTION.format(1, "v_proj")] == (4, None)
    none = saved("none", lambda t: {"other": torch.ones(1)})
    assert (none["status"], none["is_consistent"]) == ("no_lora_layers", False)


def test_a_pickled_file_is_read_without_running_it(tmp_path: Path) -> None:
    trained(get_peft_model(llama(), lora(4))).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    torch.save(tensors, tmp_path / "adapter_model.bin")
    assert "two_weight_files" in check_lora_r_consistency(tmp_path, lora(4))["warnings"]
    (tmp_path / "adapter_model.safetensors").unlink()
    assert check_lora_r_consistency(tmp_path, lora(4))["status"] == "ok"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match="code"):
        check_lora_r_consistency(tmp_path, lora(4))
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_not_descended_into_and_names_the_subfolders_that_hold_an_adapter(tmp_path: Path) -> None:
    model = trained(get_peft_model(llama(), lora(4), adapter_name="other"))
    model.save_pretrained(tmp_path)
    for name in (None, "other"):
        report = check_lora_r_consistency(tmp_path, lora(4), adapter_name=name)
        assert (report["status"], report["subfolders"]) == ("no_adapter_here", ["other"])
    assert check_lora_r_consistency(tmp_path / "other", lora(4))["status"] == "ok"


def test_experts_named_without_their_module_are_experts_too(tmp_path: Path) -> None:
    """As PEFT itself writes Mixtral's w1, w2 and w3."""
    trained(get_peft_model(mixtral(), lora(2, ("q_proj", "w1", "w2", "w3")))).save_pretrained(tmp_path)
    report = check_lora_r_consistency(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()))
    assert (report["status"], report["warnings"]) == ("undetermined", ["base_not_compared"])


def test_experts_whose_a_and_b_disagree_are_a_mismatch(tmp_path: Path) -> None:
    trained(
        get_peft_model(mixtral(), lora(2, ("q_proj",), target_parameters=["mlp.experts.down_proj"]))
    ).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    (key,) = [key for key in tensors if "experts" in key and "lora_B" in key]
    save_file(tensors | {key: tensors[key][:, :4].contiguous()}, file)
    report = check_lora_r_consistency(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()))
    assert (report["status"], report["actual_r_values"]["model.layers.0.mlp.experts"]) == ("mismatch", (8, 4))


def test_a_pruned_adalora_that_is_loaded_again_goes_by_what_its_budget_left(tmp_path: Path) -> None:
    model = get_peft_model(
        llama(), AdaLoraConfig(init_r=4, target_r=2, total_step=9, tinit=0, tfinal=0, target_modules=["q_proj"])
    )
    kept = {
        f"model.layers.{block}.self_attn.q_proj.lora_E": [True] * (block + 1) + [False] * (3 - block)
        for block in (0, 1)
    }
    own(model).rank_pattern = dict(kept)
    trained(model).save_pretrained(tmp_path)
    reloaded = PeftModel.from_pretrained(llama(), tmp_path)
    report = check_lora_r_consistency(reloaded, own(reloaded))
    assert (report["status"], list(report["actual_r_values"].values())) == ("ok", [1, 2])


@pytest.mark.parametrize("asked", [16, 32])
def test_a_square_layer_of_the_wrong_rank_is_read_and_not_called_transposed(asked: int) -> None:
    model = trained(get_peft_model(llama(), lora(4, ("q_proj",))))  # 16 × 16
    report = check_lora_r_consistency(model, lora(asked, ("q_proj",)))
    assert (report["status"], set(report["actual_r_values"].values())) == ("mismatch", {4})
    assert "transposed" not in report["warnings"]


def test_a_grouped_convolution_of_the_wrong_rank_is_a_mismatch_on_disk(tmp_path: Path) -> None:
    trained(get_peft_model(Zoo(), lora(4, ("grouped",)))).save_pretrained(tmp_path)
    assert check_lora_r_consistency(tmp_path, {"r": 8, "target_modules": ["grouped"]})["mismatched_layers"] == [
        "grouped"
    ]


def test_a_healthy_adapter_gives_no_warning_whatever_it_was_asked_for() -> None:
    tied = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=1,
            num_attention_heads=4,
            tie_word_embeddings=True,
        )
    )
    configs: list[tuple[Any, Any, Any]] = [
        (tied, lora(4, ("embed_tokens", "lm_head"), ensure_weight_tying=True), None),
        (llama(), lora(4, "all-linear", exclude_modules=["q_proj"]), "same"),
        (llama(), lora(4, modules_to_save=["lm_head"], bias="all"), None),
        (llama(), lora(4), {"target_modules": ["q_proj", "v_proj"], "r": 4, "alpha": 8}),
    ]
    for base, config, user in configs:
        asked = copy.deepcopy(config)
        model = trained(get_peft_model(base, config))
        report = check_lora_r_consistency(model, asked if user == "same" else user or own(model))
        assert (report["status"], report["warnings"], report["mismatched_layers"]) == ("ok", [], [])


def test_a_base_weight_that_trains_is_said() -> None:
    model = trained(get_peft_model(llama(), lora(4)))
    model.base_model.model.lm_head.weight.requires_grad_(True)
    assert check_lora_r_consistency(model, own(model))["warnings"] == ["base_trains"]


def test_a_config_without_a_rank_is_ours_at_its_default_or_cannot_be_decided() -> None:
    model = trained(get_peft_model(llama(), lora(16)))
    assert check_lora_r_consistency(model, {"target_modules": ["q_proj", "v_proj"]})["status"] == "ok", (
        "our default is 16"
    )
    report = check_lora_r_consistency(model, {"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"]})
    assert (report["status"], report["expected_r"]) == ("undetermined", None)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x80\x04K\x01."])
def test_a_damaged_bin_file_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (tmp_path / "adapter_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="adapter_model"):
        check_lora_r_consistency(tmp_path, None)


def test_the_adapter_that_is_asked_for_is_the_one_that_is_read() -> None:
    model = get_peft_model(llama(), lora(4, ("q_proj",)))
    model.add_adapter("wide", lora(8))
    trained(model)
    assert set(check_lora_r_consistency(model, lora(4, ("q_proj",)))["actual_r_values"].values()) == {4}
    wide = check_lora_r_consistency(model, model.peft_config["wide"], adapter_name="wide")
    assert (wide["status"], len(wide["layers"])) == ("ok", 4)


def test_a_reload_that_lost_every_tensor_is_seen(tmp_path: Path) -> None:
    trained(get_peft_model(llama(), lora(4))).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    model = PeftModel.from_pretrained(llama(), tmp_path, ignore_mismatched_sizes=True)
    report = check_lora_r_consistency(model, own(model))
    assert (report["status"], report["warnings"]) == ("ok", ["untrained"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_exactly_the_corrupted_layer_is_named(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    modules = data.draw(
        st.lists(st.sampled_from(["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]), min_size=1, unique=True)
    )
    pattern = data.draw(st.dictionaries(st.sampled_from(modules), st.integers(1, 6), max_size=3))
    model = trained(
        get_peft_model(
            llama(data.draw(st.integers(1, 3))), lora(data.draw(st.integers(1, 6)), modules, rank_pattern=pattern)
        )
    )
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert check_lora_r_consistency(folder, own(model))["status"] == "ok"
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    victim = data.draw(st.sampled_from(sorted(tensors)))
    axis = 0 if "lora_A" in victim else 1
    tensors[victim] = torch.cat([tensors[victim]] * 2, dim=axis).contiguous()
    save_file(tensors, file)
    report = check_lora_r_consistency(folder, config)
    assert report["mismatched_layers"] == [victim.removeprefix("base_model.model.").rsplit(".lora_", 1)[0]]


@pytest.mark.parametrize("wrap", [torch.compile, checkpoint_wrapper], ids=["compile", "checkpoint"])
def test_a_wrapper_around_each_lora_layer_leaves_no_mark(wrap: Any, tmp_path: Path) -> None:
    model = trained(get_peft_model(llama(), lora(4, rank_pattern={"q_proj": 2})))
    expected = check_lora_r_consistency(model, own(model))
    for name, module in list(model.named_modules()):
        if name.endswith(("q_proj", "v_proj")):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, wrap(module))
    report = check_lora_r_consistency(model, own(model))
    assert (report["status"], report["warnings"]) == ("ok", [])
    assert report["actual_r_values"] == expected["actual_r_values"]


def test_a_shape_that_no_rank_gives_is_no_rank() -> None:
    parameters = ["mlp.experts.down_proj"]
    model = trained(get_peft_model(mixtral(), lora(4, ("q_proj",), target_parameters=parameters)))
    name = "model.layers.0.mlp.experts.down_proj"
    assert check_lora_r_consistency(model, own(model))["actual_r_values"][name] == 4
    (layer,) = [module for module in model.modules() if hasattr(module, "parameter_name")]
    layer.lora_A["default"].weight = nn.Parameter(torch.randn(17, layer.lora_A["default"].weight.shape[1]))
    report = check_lora_r_consistency(model, own(model))
    assert (report["actual_r_values"][name], report["mismatched_layers"]) == (None, [name]), "17 rows for 4 experts"


def test_each_entry_that_matched_nothing_is_named_whatever_its_key(tmp_path: Path) -> None:
    parameters = ["mlp.experts.down_proj"]
    model = trained(get_peft_model(mixtral(), lora(4, ("q_proj",), target_parameters=parameters)))
    asked = own(model).to_dict() | {"target_parameters": ["experts.dwon_proj"], "alpha_pattern": {"k_proj": 4}}
    report = check_lora_r_consistency(model, asked | {"peft_type": "LORA"})
    assert {"unmatched_target_parameter", "unmatched_alpha_pattern"} <= set(report["warnings"])
    good = check_lora_r_consistency(model, own(model))
    assert [entry["layers"] for entry in good["coverage"] if entry["key"] == "target_parameters"] == [1]


def test_modules_that_peft_made_parameters_of_experts_are_found_there() -> None:
    asked = lora(2, ("q_proj", "w1", "w2", "w3"))
    model = get_peft_model(mixtral(), copy.deepcopy(asked))
    assert "unmatched_target" not in check_lora_r_consistency(model, asked)["warnings"]
    model = get_peft_model(mixtral(), lora(2, ("q_proj",)))
    assert "unmatched_target" in check_lora_r_consistency(model, asked)["warnings"]


def test_a_whole_module_with_children_is_found_on_disk(tmp_path: Path) -> None:
    trained(get_peft_model(llama(), lora(4, modules_to_save=["mlp"]))).save_pretrained(tmp_path)
    report = check_lora_r_consistency(tmp_path, json.loads((tmp_path / "adapter_config.json").read_text()))
    (entry,) = [entry for entry in report["coverage"] if entry["key"] == "modules_to_save"]
    assert (entry["layers"], report["warnings"]) == (2, ["base_not_compared"])
