"""What a config asks of an adapter beside its ranks (DoRA, alpha, targets), with adapters that PEFT saved itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from lora_backend import check_lora_r_consistency
from lora_backend.verification.coverage import coverage, targets_of
from lora_backend.verification.shapes import LoraLayer
from lora_backend.verification.verdicts import tone, verdict
from lora_backend.verification.wrong_values import wrong_values
from tests.verification.layouts import ATTENTION, Zoo, gpt2, llama, lora, own, trained
from tests.verification.reports import folder_report, layers_report, typed

Tensors = dict[str, torch.Tensor]


def saved(folder: Path, config: Any, base: Callable[[], Any] = llama) -> Path:
    trained(get_peft_model(base(), config)).save_pretrained(folder)
    return folder


def change(folder: Path, tensors: Callable[[Tensors], Tensors] = dict, **values: Any) -> Path:
    """Other tensors and other values in its `adapter_config.json`."""
    file, written = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    save_file({key: tensor.contiguous() for key, tensor in tensors(load_file(file)).items()}, file)
    written.write_text(json.dumps(json.loads(written.read_text()) | values))
    return folder


def records(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {record["name"]: record for record in report["layers"]}


# ------------------------------------------------------------------------------------ AdaLoRA


def adalora(targets: list[str]) -> AdaLoraConfig:
    return AdaLoraConfig(init_r=6, target_r=3, tinit=0, tfinal=1, total_step=6, target_modules=targets)


def test_every_key_of_an_adalora_that_peft_saved_is_one_that_it_loads(tmp_path: Path) -> None:
    folder = saved(tmp_path, adalora(["q_proj", "v_proj"]))
    report = folder_report(folder, None)
    assert (report["status"], "keys_will_not_load" in report["warnings"]) == ("ok", False)
    stored = load_file(folder / "adapter_model.safetensors")
    name = "base_model.model." + ATTENTION.format(0, "q_proj") + ".lora_A"
    live = dict(PeftModel.from_pretrained(llama(), folder).named_parameters())
    assert torch.equal(live[f"{name}.default"], stored[name])


def test_adalora_keys_in_the_manner_of_plain_lora_are_dropped_and_said(tmp_path: Path) -> None:
    folder = change(
        saved(tmp_path, adalora(["q_proj"])),
        lambda all_: {key.replace("lora_A", "lora_A.weight"): all_[key] for key in all_},
    )
    assert "keys_will_not_load" in folder_report(folder, None)["warnings"]


# ------------------------------------------------------------------------------------ DoRA


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda all_: {key: tensor for key, tensor in all_.items() if part not in key or "magnitude" not in key}


@pytest.mark.parametrize(
    ("base", "targets"),
    [(llama, ("q_proj", "embed_tokens", "lm_head")), (gpt2, ("c_attn", "wte")), (Zoo, ("conv1", "conv2", "table"))],
    ids=["llama", "gpt2", "zoo"],
)
def test_dora_with_its_magnitudes_is_ok_on_every_kind_of_layer(base: Any, targets: Any, tmp_path: Path) -> None:
    config = lora(4, targets, use_dora=True)
    model = trained(get_peft_model(base(), config))
    assert check_lora_r_consistency(model, own(model))["status"] == "ok"
    assert folder_report(saved(tmp_path, config, base), None)["status"] == "ok"


@pytest.mark.parametrize(
    ("tensors", "values", "layers", "code"),
    [
        (without(""), {}, 4, "no_magnitude"),
        (without("layers.1.self_attn.v_proj"), {}, 1, "no_magnitude"),
        (lambda all_: {key: all_[key][:5] if "0.self_attn.q_proj.lora_mag" in key else all_[key] for key in all_}, {}, 1, "wrong_magnitude"),
        (dict, {"use_dora": False}, 4, "unexpected_magnitude"),
    ],
    ids=["none", "one missing", "wrong size", "not asked for"],
)  # fmt: skip
def test_dora_whose_magnitudes_do_not_fit_is_a_mismatch(
    tensors: Any, values: dict[str, Any], layers: int, code: str, tmp_path: Path
) -> None:
    report = folder_report(change(saved(tmp_path, lora(use_dora=True)), tensors, **values), None)
    assert (report["status"], report["is_consistent"]) == ("mismatch", False)
    assert (len(report["mismatched_layers"]), code in report["warnings"]) == (layers, True)
    assert set(report["actual_r_values"].values()) == {4}, "the rank itself is right"
    assert "wrong rank" not in verdict(typed(report)).text("en")
    assert "magnitude" in verdict(typed(report)).text("en")


def test_a_live_dora_without_a_magnitude_is_a_mismatch() -> None:
    model = trained(get_peft_model(llama(), lora(use_dora=True)))
    name = ATTENTION.format(1, "q_proj")
    del model.get_submodule(f"base_model.model.{name}").lora_magnitude_vector["default"]
    report = check_lora_r_consistency(model, own(model))
    assert (report["status"], report["mismatched_layers"]) == ("mismatch", [name])


def test_a_config_that_asks_for_dora_of_a_plain_lora_leaves_it_in_doubt(tmp_path: Path) -> None:
    folder = saved(tmp_path, lora())
    asked = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_dora": True}
    report = folder_report(folder, asked)
    assert (report["status"], "other_dora" in report["warnings"], tone(typed(report))) == ("ok", True, "doubt")
    assert "other_dora" not in folder_report(folder, asked | {"use_dora": False})["warnings"]


# ------------------------------------------------------------------------------------ alpha and scaling

ASKED = {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize(
    ("more", "expected_scaling"),
    [
        ({"alpha": 64}, 16.0),
        ({"use_rslora": True}, 4.0),
        ({"alpha_pattern": {"q_proj": 2}}, 0.5),
        ({"alpha": None}, None),
    ],
)
def test_another_alpha_than_the_configs_is_in_doubt_and_shown(more: Any, expected_scaling: Any, tmp_path: Path) -> None:
    folder = saved(tmp_path, lora(4))
    assert "wrong_scaling" not in folder_report(folder, ASKED)["warnings"]
    report = folder_report(folder, ASKED | more)
    found = records(report)[ATTENTION.format(0, "q_proj")]
    assert (report["status"], tone(typed(report))) == ("ok", "doubt"), "the ranks themselves are right"
    assert (found["alpha"], found["scaling"], found["expected_scaling"]) == (8, 2.0, expected_scaling)
    assert ("wrong_scaling" in report["warnings"]) is (expected_scaling is not None)


def test_a_config_of_ours_without_alpha_means_its_default(tmp_path: Path) -> None:
    report = folder_report(saved(tmp_path, lora(4)), {"r": 4, "target_modules": ["q_proj", "v_proj"]})
    assert {record["expected_alpha"] for record in report["layers"]} == {32}
    assert "wrong_scaling" in report["warnings"]


# ------------------------------------------------------------------------------------ targets


def test_modules_that_an_expression_excludes_are_not_missed(tmp_path: Path) -> None:
    folder = saved(tmp_path, lora(4, "all-linear", exclude_modules=r".*mlp.*"), lambda: llama(4))
    written = json.loads((folder / "adapter_config.json").read_text())
    assert "gate_proj" in written["target_modules"], "PEFT writes the endings out all the same, from some 20 modules on"
    assert "unmatched_target" not in folder_report(folder, None)["warnings"]


def test_with_the_base_models_names_an_expression_hides_no_typo() -> None:
    layers = [LoraLayer("model.layers.0.self_attn.q_proj", (4, 8), (8, 4))]
    names = ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.0.mlp.up_proj"]
    config = {"target_modules": ["q_proj", "k_proj", "up_proj"], "exclude_modules": r".*mlp.*"}
    entries = coverage(config, targets_of(config), layers, base_names=names)
    assert {entry.entry: entry.warning for entry in entries} == {"q_proj": None, "k_proj": "unmatched_target"}
    report = layers_report(layers, {"r": 4, **config}, base_names=names, on_disk=True)
    assert "unmatched_target" in report["warnings"]


@pytest.mark.parametrize(
    ("entry", "base_names", "near"),
    [
        ("o_proj", (), None),
        ("o_porj", (), None),
        ("o_porj", ("model.layers.0.self_attn.o_proj",), "o_proj"),
        ("o_proj", ("model.layers.0.self_attn.o_proj",), None),
    ],
    ids=["a target beside it", "a typo beside it", "a typo of a module", "a module"],
)
def test_no_module_is_offered_that_is_targeted_already_nor_for_one_that_is_there(
    entry: str, base_names: tuple[str, ...], near: str | None
) -> None:
    layers = [LoraLayer("model.layers.0.self_attn.q_proj", (4, 8), (8, 4))]
    config = {"target_modules": ["q_proj", entry]}
    found = {one.entry: one.near for one in coverage(config, targets_of(config), layers, base_names=base_names)}
    assert found[entry] == near


@pytest.mark.parametrize("keeps_off", [["mlp.up_proj"], ["up_proj"], "model.*up_proj"])
def test_an_entry_that_may_be_excluded_is_not_called_unmatched(keeps_off: Any) -> None:
    layers = [LoraLayer("model.layers.0.self_attn.q_proj", (4, 8), (8, 4))]
    config = {"target_modules": ["q_proj", "up_proj"], "exclude_modules": keeps_off}
    assert not any(entry.warning for entry in coverage(config, targets_of(config), layers))


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"target_modules": ["q_proj", "o_proj"]}, "unmatched_target"),
        ({"target_modules": ["q_proj"], "target_layers": [0, 1, 2]}, "missing_layer_index"),
    ],
)
def test_a_targeted_module_or_block_without_lora_is_a_warning_and_not_green(
    config: dict[str, Any], code: str, tmp_path: Path
) -> None:
    report = folder_report(saved(tmp_path, lora(4, ("q_proj",))), {"r": 4, "alpha": 8, **config})
    assert (report["status"], report["is_consistent"]) == ("ok", True)
    assert (code in report["warnings"], tone(typed(report))) == (True, "doubt")


def test_a_layer_that_the_config_does_not_target_is_told_from_a_wrong_rank(tmp_path: Path) -> None:
    folder = saved(tmp_path, lora(4))
    report = folder_report(folder, {"r": 4, "alpha": 8, "target_modules": ["q_proj"]})
    found = records(report)
    assert (report["status"], "unexpected_layer" in report["warnings"]) == ("ok", True)
    assert found[ATTENTION.format(0, "v_proj")]["state"] == "not_targeted"
    assert found[ATTENTION.format(0, "v_proj")]["expected_r"] is None, "nothing is expected of it"
    assert found[ATTENTION.format(0, "q_proj")]["state"] == "ok"
    other = folder_report(folder, {"r": 32, "alpha": 64, "target_modules": ["q_proj"]})
    assert {record["state"] for record in other["layers"]} == {"mismatch", "not_targeted"}
    assert len(other["mismatched_layers"]) == 4, "it has not even the rank that the config gives"
    assert "2 LoRA layers are not targeted" in verdict(typed(other)).text("en")


# ------------------------------------------------------------------------------------ values of a wrong type

WRONG = {
    "text": ("rank_pattern", {"q_proj": "4"}), "yes or no": ("rank_pattern", {"q_proj": True}), "a fraction": ("rank_pattern", {"q_proj": 4.0}),
    "negative": ("rank_pattern", {"q_proj": -4}), "nothing": ("rank_pattern", {"q_proj": None}), "a list": ("rank_pattern", ["q_proj"]),
    "an alpha in words": ("alpha_pattern", {"q_proj": "8"}), "no alpha": ("alpha_pattern", {"q_proj": None}), "r in words": ("r", "4"), "r as yes": ("r", True), "a fraction of r": ("r", 4.5),
    "alpha in words": ("lora_alpha", "8"), "alpha as yes": ("lora_alpha", True), "a number to target": ("target_modules", 7), "a map to target": ("target_modules", {"q_proj": 1}),
    "numbers to target": ("target_modules", ["q_proj", 3]), "yes to exclude": ("exclude_modules", True), "blocks in words": ("layers_to_transform", ["0"]), "dora in words": ("use_dora", "no"),
    "rslora in words": ("use_rslora", "no"), "a module to save as text": ("modules_to_save", "lm_head"),
    "no rank pattern": ("rank_pattern", None), "no alpha pattern": ("alpha_pattern", None), "a bias of no kind": ("bias", "yes"), "bias as no": ("bias", False), "no bias": ("bias", None),
    "a task of no kind": ("task_type", "CHAT"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG.values(), ids=WRONG)
def test_a_value_that_peft_cannot_use_is_named_and_nothing_is_green(key: str, value: Any, tmp_path: Path) -> None:
    report = folder_report(change(saved(tmp_path, lora(4)), **{key: value}), None)
    assert "wrong_value" in report["warnings"]
    assert [entry["key"] for entry in report["coverage"] if entry["warning"] == "wrong_value"] == [key]
    assert (report["is_consistent"] is True, tone(typed(report)) == "good") == (False, False)


def test_rows_of_adalora_that_are_no_list_are_refused_by_peft() -> None:
    assert list(wrong_values({"rank_pattern": {"q_proj.lora_E": [True, False]}}, is_adalora=True)) == []
    assert list(wrong_values({"peft_type": "ADALORA", "rank_pattern": None}, is_adalora=True)) == []
    assert list(wrong_values({"rank_pattern": {"q_proj.lora_E": 3}}, is_adalora=True)) == [
        ("rank_pattern", "q_proj.lora_E: 3")
    ]


def test_a_wrong_value_of_the_config_to_check_against_leaves_its_layers_undecided(tmp_path: Path) -> None:
    report = folder_report(saved(tmp_path, lora(4)), ASKED | {"rank_pattern": {"q_proj": "4"}})
    assert {name.rpartition(".")[2]: record["state"] for name, record in records(report).items()} == {
        "q_proj": "undetermined",
        "v_proj": "ok",
    }
    assert report["is_consistent"] is None
    assert 'q_proj: "4"' in verdict(typed(report)).text("en")


def test_a_wrong_value_of_the_adapters_own_config_is_told_from_one_of_the_given(tmp_path: Path) -> None:
    report = folder_report(change(saved(tmp_path, lora(4)), rank_pattern={"q_proj": "4"}), ASKED)
    (entry,) = (entry for entry in report["coverage"] if entry["warning"] == "wrong_value")
    assert entry["key"] == "adapter_config.json: rank_pattern"
    assert report["is_consistent"] is None, "PEFT cannot load it, so its ranks prove nothing"


@pytest.mark.parametrize(
    "values",
    [{}, {"rank_pattern": {}, "exclude_modules": None, "modules_to_save": ["lm_head"], "layers_to_transform": 1}],
)
def test_what_peft_takes_is_no_wrong_value(values: dict[str, Any], tmp_path: Path) -> None:
    assert "wrong_value" not in folder_report(change(saved(tmp_path, lora(4)), **values), None)["warnings"]
