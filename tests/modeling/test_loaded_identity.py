"""An adapter in memory, held against the file that it was loaded from: by name, shape and value."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from lora_backend import check_lora_r_consistency
from lora_backend.errors import ModelError, RankMismatchError
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.modeling.rank_check import loaded_report, raise_on_mismatch
from lora_backend.verification.verdicts import tone, verdict
from tests.modeling.families import LLAMA
from tests.verification.reports import typed

Tensors = dict[str, torch.Tensor]
Q1 = "model.layers.1.self_attn.q_proj"


def llama() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LLAMA)


def saved(folder: Path, change: Callable[[Tensors], Tensors] | None = None, **config: Any) -> Path:
    """An adapter that was trained, its file changed afterwards."""
    model = get_peft_model(llama(), LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"]} | config))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    if change is not None:
        file = folder / "adapter_model.safetensors"
        save_file(change(load_file(file)), file, {"format": "pt"})
    return folder


def loaded(folder: Path, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(llama(), folder, **more)


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if not all(part in name for part in parts)}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


def codes(report: dict[str, Any]) -> dict[str, int]:
    found = [item["code"] for item in report["differences"]]
    return {code: found.count(code) for code in found}


def test_an_adapter_that_is_loaded_whole_is_ok_and_compared(tmp_path: Path) -> None:
    report = check_lora_r_consistency(loaded(saved(tmp_path)), None, loaded_from=tmp_path)
    assert (report["status"], report["compared"], report["differences"]) == ("ok", "loaded", [])
    assert check_lora_r_consistency(loaded(tmp_path), None)["compared"] is None, "nobody said what it was loaded from"


@pytest.mark.parametrize(
    ("change", "config", "expected"),
    [
        (renamed(".layers.1.", ".language_model.layers.1."), {}, {"not_in_model": 4, "not_from_file": 4}),
        (renamed("model.model.", "model._orig_mod.model."), {}, {"not_in_model": 12, "not_from_file": 12}),
        (without("layers.1", "q_proj", "lora_B"), {}, {"not_from_file": 1}),
        (lambda tensors: tensors | {"base_model.model.model.norm.lora_A.weight": torch.ones(4, 16)}, {}, {"not_in_model": 1}),
        (without("magnitude"), {"use_dora": True}, {"not_from_file": 6}),
        (without("layers.1.", "v_proj.lora_B.bias"), {"lora_bias": True}, {"not_from_file": 1}),
    ],
    ids=["half renamed", "compiled", "one half gone", "one too many", "magnitudes gone", "bias gone"],
)  # fmt: skip
def test_what_peft_drops_or_leaves_as_made_is_a_mismatch_by_name(
    change: Any, config: dict[str, Any], expected: dict[str, int], tmp_path: Path
) -> None:
    saved(tmp_path, change, **config)
    live = check_lora_r_consistency(loaded(tmp_path), None, loaded_from=tmp_path)
    of_worker = loaded_report(load_adapter(llama(), tmp_path), None).to_dict()
    for report in (live, of_worker):
        assert (report["status"], report["is_consistent"]) == ("mismatch", False)
        assert codes(report) == expected
        assert set(expected) <= set(report["warnings"])
        states = {record["name"]: record["state"] for record in report["layers"]}
        of_layers = {item["layer"] for item in report["differences"]} & set(states)
        assert "ok" not in {states[name] for name in of_layers}, "a layer that did not arrive is not in order"
    with pytest.raises(RankMismatchError) as raised:
        raise_on_mismatch(typed(live))
    assert live["differences"][0]["name"] in str(raised.value)


def test_a_refusal_keeps_the_sizes(tmp_path: Path) -> None:
    saved(tmp_path, lambda tensors: tensors | {f"base_model.model.{Q1}.lora_A.weight": torch.ones(4, 20)})
    report = loaded_report(load_adapter(llama(), tmp_path), None).to_dict()
    assert (report["status"], codes(report)) == ("mismatch", {"other_shape": 1})
    assert "load_refused" in report["warnings"]
    assert f"{Q1}.lora_A.weight (4×20 → 4×16)" in verdict(typed(report)).text("en")
    assert report["differences"][0]["file_shape"] == [4, 20]


def test_a_module_trained_whole_that_is_not_in_the_file_is_named_and_not_a_traceback(tmp_path: Path) -> None:
    saved(tmp_path, without("lm_head"), modules_to_save=["lm_head"])
    report = loaded_report(load_adapter(llama(), tmp_path), None).to_dict()
    assert [(item["code"], item["name"]) for item in report["differences"]] == [("not_from_file", "lm_head.weight")]


def test_sizes_that_were_ignored_are_said_after_loading(tmp_path: Path) -> None:
    """As with `ignore_mismatched_sizes`: every rank agrees, and nothing was loaded."""
    saved(tmp_path, lambda tensors: {name: torch.ones(9, 9) for name in tensors})
    report = check_lora_r_consistency(loaded(tmp_path, ignore_mismatched_sizes=True), None, loaded_from=tmp_path)
    assert (report["status"], codes(report)) == ("mismatch", {"other_shape": 12})


def test_values_that_changed_after_loading_are_said(tmp_path: Path) -> None:
    model = loaded(saved(tmp_path))
    with torch.no_grad():
        model.base_model.model.get_submodule(Q1).lora_B["default"].weight[0, 0] += 1
    report = check_lora_r_consistency(model, None, loaded_from=tmp_path)
    assert [(item["code"], item["name"]) for item in report["differences"]] == [("other_values", f"{Q1}.lora_B.weight")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", [f"{Q1}.lora_A", "lm_head"])
def test_values_that_are_no_numbers_are_said(part: str, value: float, tmp_path: Path) -> None:
    def spoil(tensors: Tensors) -> Tensors:
        return {name: tensor * value if part in name else tensor for name, tensor in tensors.items()}

    assert (
        "not_finite" not in loaded_report(load_adapter(llama(), saved(tmp_path / "whole")), None).to_dict()["warnings"]
    )
    saved(tmp_path, spoil, modules_to_save=["lm_head"])
    for report in (
        check_lora_r_consistency(loaded(tmp_path), None, loaded_from=tmp_path),
        loaded_report(load_adapter(llama(), tmp_path), None).to_dict(),
    ):
        assert (report["differences"], tone(typed(report))) == ([], "doubt")
        assert report["warnings"] == ["not_finite"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_another_dtype_in_the_file_is_no_other_value(dtype: torch.dtype, tmp_path: Path) -> None:
    saved(tmp_path, lambda tensors: {name: value.to(dtype) for name, value in tensors.items()})
    assert check_lora_r_consistency(loaded(tmp_path), None, loaded_from=tmp_path)["differences"] == []
    assert check_lora_r_consistency(loaded(tmp_path).bfloat16(), None, loaded_from=tmp_path)["differences"] == []


@pytest.mark.parametrize(
    ("dtype", "part", "count"), [(torch.int8, "lora_", 12), (torch.float8_e4m3fn, "lora_", 12), (torch.float16, "lora_B", 12)]
)  # fmt: skip
def test_a_dtype_that_no_lora_has_or_that_one_half_has_is_named(
    dtype: torch.dtype, part: str, count: int, tmp_path: Path
) -> None:
    saved(tmp_path, lambda t: {name: value.to(dtype) if part in name else value for name, value in t.items()})
    report = check_lora_r_consistency(loaded(tmp_path), None, loaded_from=tmp_path)
    assert (report["status"], codes(report)) == ("mismatch", {"unfit_dtype": count})
    assert report["differences"][0]["dtype"]


def test_a_model_is_read_through_its_wrappers_and_is_not_changed(tmp_path: Path) -> None:
    model = loaded(saved(tmp_path, use_dora=True, modules_to_save=["lm_head"]))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wrapped = torch.compile(model)
    assert check_lora_r_consistency(wrapped, None, loaded_from=tmp_path)["differences"] == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    layer = model.base_model.model.model.layers[1].self_attn
    layer.q_proj = torch.compile(layer.q_proj)
    assert check_lora_r_consistency(model, None, loaded_from=tmp_path)["differences"] == []


def test_a_model_that_transformers_put_its_adapter_on_is_compared(tmp_path: Path) -> None:
    model = llama()
    model.load_adapter(str(saved(tmp_path)))
    report = check_lora_r_consistency(model, None, loaded_from=tmp_path)
    assert (report["status"], report["compared"], report["differences"]) == ("ok", "loaded", [])
    with torch.no_grad():
        model.get_submodule(Q1).lora_A["default"].weight.zero_()
    assert codes(check_lora_r_consistency(model, None, loaded_from=tmp_path)) == {"other_values": 1}


def test_the_adapter_that_is_asked_for_is_compared(tmp_path: Path) -> None:
    model = loaded(saved(tmp_path / "one"))
    model.load_adapter(str(saved(tmp_path / "two", r=8)), "two")
    assert check_lora_r_consistency(model, None, "two", loaded_from=tmp_path / "two")["status"] == "ok"
    other = check_lora_r_consistency(model, None, "two", loaded_from=tmp_path / "one")
    assert codes(other) == {"other_shape": 12}


def test_a_hot_swapped_adapter_is_not_the_one_of_its_file(tmp_path: Path) -> None:
    from peft.utils.hotswap import hotswap_adapter, prepare_model_for_compiled_hotswap

    model = loaded(saved(tmp_path / "wide", r=8))
    prepare_model_for_compiled_hotswap(model, target_rank=8)
    hotswap_adapter(model, str(saved(tmp_path / "narrow", r=4)), adapter_name="default")
    report = check_lora_r_consistency(model, None, loaded_from=tmp_path / "narrow")
    assert (report["status"], codes(report)) == ("mismatch", {"other_shape": 12})


def test_a_folder_without_what_peft_loads_is_a_sentence_and_asks_no_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_adapter(llama(), tmp_path)
    (saved(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model-00001-of-00001.safetensors")
    with pytest.raises(ModelError, match=r"contains no adapter_model\.safetensors"):
        load_adapter(llama(), tmp_path)


def test_a_pickled_file_with_more_than_tensors_is_a_sentence(tmp_path: Path) -> None:
    tensors = load_file(saved(tmp_path) / "adapter_model.safetensors")
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save({**tensors, "step": 3}, tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"`step` in .* is not a tensor"):
        load_adapter(llama(), tmp_path)


def test_a_config_that_fits_no_module_is_a_sentence(tmp_path: Path) -> None:
    saved(tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"q_proj"', '"c_attn"').replace('"v_proj"', '"c_proj"'))
    with pytest.raises(ModelError, match="PEFT cannot load the adapter into this model"):
        load_adapter(copy.deepcopy(llama()), tmp_path)
