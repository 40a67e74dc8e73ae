"""An adapter's folder read from its headers alone: states, sentences, and files that others have spoilt. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lora_backend.errors import ModelError
from lora_backend.verification.passport import check_passport, write_passport
from lora_backend.verification.rank_report import expected_ranks
from lora_backend.verification.verdicts import verdict
from lora_backend.views.rank_view import rank_text
from tests.verification.reports import folder_report, typed

OWN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def layer(block: int, module: str) -> str:
    return f"model.layers.{block}.self_attn.{module}"


def halves(name: str, rank_a: int, rank_b: int | None = None) -> dict[str, Any]:
    return {
        f"base_model.model.{name}.lora_A.weight": np.ones((rank_a, 6), np.float32),
        f"base_model.model.{name}.lora_B.weight": np.ones((5, rank_b or rank_a), np.float32),
    }


def adapter(
    folder: Path, ranks: dict[str, int | tuple[int, int]] | None = None, own: Any = OWN, blocks: int = 2
) -> Path:
    """An adapter of two modules a block, rank 4 but for `ranks`."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Any] = {}
    for name in (layer(block, module) for block in range(blocks) for module in ("q_proj", "v_proj")):
        rank = (ranks or {}).get(name, 4)
        tensors |= halves(name, *rank) if isinstance(rank, tuple) else halves(name, rank)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(own))
    return folder


def test_a_shard_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    folder = adapter(tmp_path)
    tensors = load_file(folder / "adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    names = sorted(tensors)
    for number, part in enumerate((names[:4], names[4:]), 1):
        save_file({name: tensors[name] for name in part}, folder / f"adapter_model-{number:05d}-of-00002.safetensors")
    report = folder_report(folder, None)
    assert (len(report["layers"]), report["warnings"][0]) == (4, "sharded"), "PEFT loads none of them"
    (folder / "adapter_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="adapter_model-00002-of-00002"):
        folder_report(folder, None)


def test_a_layer_of_the_passport_that_has_no_tensor_is_missing(tmp_path: Path) -> None:
    folder, names = adapter(tmp_path), [layer(block, "q_proj") for block in (0, 1, 2)]
    ranks = dict.fromkeys([*names, layer(2, "o_proj")], 4)
    write_passport(folder, config={}, starts=[], ranks=ranks)
    report = folder_report(folder, None)
    assert (report["status"], report["mismatched_layers"]) == ("mismatch", [layer(2, "q_proj")]), (
        "o_proj is not targeted"
    )
    assert report["layers"][-1]["state"] == "missing"


def test_a_damaged_passport_keeps_nobody_from_reading_the_ranks(tmp_path: Path) -> None:
    folder = adapter(tmp_path)
    (folder / "flightdeck.json").write_text("{")
    assert folder_report(folder, None)["status"] == "ok"
    with pytest.raises(ModelError):
        check_passport(folder)


def test_a_config_that_says_nothing_asks_for_the_default_rank(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path), {})
    assert (report["status"], report["expected_r"]) == ("mismatch", 16)


@pytest.mark.parametrize("r", [None, "eight", True])
def test_a_config_whose_rank_is_no_number_is_what_the_verdict_blames(r: Any, tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path), {"r": r, "peft_type": "LORA"})
    assert (report["status"], report["is_consistent"], report["expected_r"]) == ("undetermined", None, None)
    assert "Set `r`" in verdict(typed(report)).text("en")


UNLOADABLE = {
    "another adapter's name": lambda key: key.replace(".weight", ".other.weight"),
    "no weight behind the half": lambda key: key.removesuffix(".weight"),
    "the base layer of a module without LoRA": lambda key: key.replace("q_proj.", "q_proj.base_layer."),
    "a wrapper in the middle": lambda key: key.replace("layers.0.", "layers.0.module."),
}


def renamed(folder: Path, rename: Callable[[str], str]) -> dict[str, Any]:
    """The report on an adapter whose tensors are called otherwise."""
    file = adapter(folder) / "adapter_model.safetensors"
    save_file({rename(key): tensor for key, tensor in load_file(file).items()}, file)
    return folder_report(folder, None)


@pytest.mark.parametrize("spoil", UNLOADABLE.values(), ids=UNLOADABLE)
def test_keys_that_peft_would_drop_are_said(spoil: Callable[[str], str], tmp_path: Path) -> None:
    assert "keys_will_not_load" in renamed(tmp_path, spoil)["warnings"]


def test_an_adapters_own_name_in_its_keys_is_no_fault(tmp_path: Path) -> None:
    report = renamed(tmp_path, lambda key: key.replace(".weight", ".default.weight"))
    assert (report["status"], report["warnings"]) == ("ok", ["base_not_compared"])


def test_a_half_that_was_compiled_by_itself_is_read_and_will_not_load(tmp_path: Path) -> None:
    report = renamed(tmp_path, lambda key: key.replace("lora_A.weight", "lora_A.default._orig_mod.weight"))
    assert (report["status"], report["warnings"]) == ("ok", ["keys_will_not_load", "base_not_compared"])


def test_an_adapter_agrees_with_itself(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path), None)
    assert (report["status"], report["is_consistent"], report["expected_r"]) == ("ok", True, 4)
    assert report["actual_r_values"] == {layer(block, module): 4 for block in (0, 1) for module in ("q_proj", "v_proj")}
    assert report["mismatched_layers"] == []
    assert "4 of 4 LoRA layers have" in verdict(typed(report)).text("en")
    assert "4" in verdict(typed(report)).text("zh")


def test_exactly_the_layer_of_another_rank_is_named(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path, {layer(1, "v_proj"): 3}), None)
    assert (report["status"], report["is_consistent"]) == ("mismatch", False)
    assert report["mismatched_layers"] == [layer(1, "v_proj")]
    assert layer(1, "v_proj") in verdict(typed(report)).text("en")
    assert layer(1, "v_proj") in rank_text(typed(report))


def test_a_against_b_shows_both_ranks(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path, {layer(0, "q_proj"): (4, 3)}), None)
    assert report["mismatched_layers"] == [layer(0, "q_proj")]
    (record,) = [record for record in report["layers"] if record["name"] == layer(0, "q_proj")]
    assert (record["a_r"], record["b_r"], record["state"]) == (4, 3, "a_against_b")


def test_a_given_config_is_what_ranks_are_held_against(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path), {"r": 8, "target_modules": ["q_proj", "v_proj"]})
    assert (report["status"], report["expected_r"], len(report["mismatched_layers"])) == ("mismatch", 8, 4)
    assert {record["config_r"] for record in report["layers"]} == {4}, "what the adapter's own config says"


def test_the_first_rank_pattern_that_matches_counts(tmp_path: Path) -> None:
    own = {**OWN, "rank_pattern": {"layers.0.self_attn.q_proj": 2, "q_proj": 3}}
    folder = adapter(tmp_path, {layer(0, "q_proj"): 2, layer(1, "q_proj"): 3}, own)
    assert folder_report(folder, None)["status"] == "ok"
    turned = {**own, "rank_pattern": dict(reversed(own["rank_pattern"].items()))}  # type: ignore[attr-defined]
    report = folder_report(folder, turned)
    assert report["mismatched_layers"] == [layer(0, "q_proj")]
    assert "shadowed_rank_pattern" in report["warnings"]


@pytest.mark.parametrize(
    ("own", "status", "is_consistent", "said"),
    [
        (None, "no_adapter_here", False, "no adapter"), ({"r": 4}, "not_peft", None, "not PEFT"), ({"peft_type": "LOHA", "r": 4}, "not_lora", None, "not a LoRA"),
        ({"peft_type": None}, "not_peft", None, "not PEFT"),
    ],
)  # fmt: skip
def test_a_folder_that_holds_something_else_is_told_by_name(
    own: Any, status: str, is_consistent: bool | None, said: str, tmp_path: Path
) -> None:
    adapter(tmp_path, own=own)
    if own is None:
        (tmp_path / "adapter_config.json").unlink()
    report = folder_report(tmp_path, None)
    assert (report["status"], report["is_consistent"]) == (status, is_consistent)
    assert said in verdict(typed(report)).text("en")
    assert verdict(typed(report)).text("zh") != verdict(typed(report)).text("en")


def test_an_adapter_without_lora_tensors_says_so_in_the_known_words(tmp_path: Path) -> None:
    save_file({"other": np.ones(1)}, adapter(tmp_path) / "adapter_model.safetensors")
    report = folder_report(tmp_path, None)
    assert (report["status"], report["is_consistent"]) == ("no_lora_layers", False)
    assert verdict(typed(report)).text("en").startswith("⚠️  ")


def test_folders_below_that_hold_an_adapter_are_named_and_not_entered(tmp_path: Path) -> None:
    adapter(tmp_path / "second", {layer(0, "q_proj"): 3})
    adapter(tmp_path / "first")
    for name in (None, "first", "third"):
        report = folder_report(tmp_path, None, name)
        assert (report["status"], report["is_consistent"]) == ("no_adapter_here", False)
        assert report["subfolders"] == ["first", "second"]
    assert folder_report(tmp_path / "first", None)["status"] == "ok"


def test_a_config_with_a_byte_order_mark_is_refused_as_peft_refuses_it(tmp_path: Path) -> None:
    file = adapter(tmp_path) / "adapter_config.json"
    file.write_text(file.read_text(), encoding="utf-8-sig")
    with pytest.raises(ModelError, match="byte order mark"):
        folder_report(tmp_path, None)


def test_shards_without_an_index_are_one_adapter(tmp_path: Path) -> None:
    (adapter(tmp_path) / "adapter_model.safetensors").unlink()
    save_file(halves(layer(0, "q_proj"), 4), tmp_path / "adapter_model-00001-of-00002.safetensors")
    save_file(halves(layer(1, "q_proj"), 3), tmp_path / "adapter_model-00002-of-00002.safetensors")
    assert folder_report(tmp_path, None)["actual_r_values"] == {layer(0, "q_proj"): 4, layer(1, "q_proj"): 3}


def test_hundreds_of_layers_are_all_in_the_report(tmp_path: Path) -> None:
    report = folder_report(adapter(tmp_path, {layer(400, "v_proj"): 5}, blocks=441), None)
    assert (len(report["layers"]), report["mismatched_layers"]) == (882, [layer(400, "v_proj")])
    assert len(rank_text(typed(report)).splitlines()) == 883
    assert len(verdict(typed(report)).text("en")) < 300


def test_a_damaged_or_absent_file_raises_a_sentence(tmp_path: Path) -> None:
    weights = adapter(tmp_path) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors"):
        folder_report(tmp_path, None)
    with pytest.raises(ModelError, match="no adapter folder"):
        folder_report(tmp_path / "none", None)
    with pytest.raises(ModelError, match="no adapter folder"):
        folder_report(weights, None)


def test_pickled_weights_are_not_opened_by_the_light_half(tmp_path: Path) -> None:
    (adapter(tmp_path) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="without torch"):
        folder_report(tmp_path, None)


ODD: list[Any] = [
    0,
    -1,
    1.5,
    True,
    "x",
    "(",
    [],
    [1],
    ["("],
    [None],
    [[1]],
    {},
    {"q_proj": None},
    {"q_proj": "x"},
    {"(": 1},
]
KEYS_OF_PEFT = [
    "peft_type", "r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "exclude_modules",
    "modules_to_save", "target_parameters", "enable_lora", "use_bdlora", "use_rslora", "init_r",
]  # fmt: skip


@pytest.mark.parametrize("peft_type", ["LORA", "ADALORA"])
@pytest.mark.parametrize("key", KEYS_OF_PEFT)
def test_a_spoilt_adapter_config_is_a_result_or_a_sentence(key: str, peft_type: str, tmp_path: Path) -> None:
    """Adapters come from others; whatever stands in their JSON, a check says something and never falls over."""
    fell_over = []
    adapter(tmp_path)
    for value in ODD:
        (tmp_path / "adapter_config.json").write_text(json.dumps({**OWN, "peft_type": peft_type, key: value}))
        try:
            report = folder_report(tmp_path, None)
            assert verdict(typed(report)).text("en")
            assert rank_text(typed(report))
        except ModelError:
            continue
        except Exception as error:
            fell_over.append(f"{value!r}: {type(error).__name__}: {error}")
    assert fell_over == []


@pytest.mark.parametrize(
    "key", ["r", "alpha", "target_modules", "rank_pattern", "alpha_pattern", "target_layers", "modules_to_save"]
)
def test_a_config_of_ours_that_is_wrong_is_a_result_or_a_sentence(key: str, tmp_path: Path) -> None:
    """`verify --config` takes any file."""
    fell_over = []
    adapter(tmp_path)
    for value in ODD:
        try:
            folder_report(tmp_path, {"r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"], key: value})
        except ValueError:
            continue
        except Exception as error:
            fell_over.append(f"{value!r}: {type(error).__name__}: {error}")
    assert fell_over == []


@pytest.mark.parametrize(
    "text", ["", "[1]", "{oops", '{"config": [1]}', '{"config": "x"}', '{"tensors_sha256": 3}', "[" * 50_000]
)
def test_a_spoilt_passport_is_a_result_or_a_sentence(text: str, tmp_path: Path) -> None:
    (adapter(tmp_path) / "flightdeck.json").write_text(text)
    try:
        parts = check_passport(tmp_path, {"r": 4})
    except ModelError:
        return
    assert {part.verdict for part in parts} <= {"same", "different", "unknown"}


def test_expected_ranks_follow_targets_layers_and_patterns() -> None:
    names = [layer(block, module) for block in range(3) for module in ("q_proj", "k_proj", "v_proj")]
    config = {"r": 4, "target_modules": ["q_proj", "v_proj"], "target_layers": [0, 2], "rank_pattern": {"layers.2.self_attn.v_proj": 9}}  # fmt: skip
    assert expected_ranks(config, names) == {
        layer(0, "q_proj"): 4,
        layer(0, "v_proj"): 4,
        layer(2, "q_proj"): 4,
        layer(2, "v_proj"): 9,
    }
    assert expected_ranks({"r": 4, "target_modules": "all-linear"}, names) == dict.fromkeys(names, 4)
    assert expected_ranks({"r": 4, "target_modules": r".*\.1\..*k_proj"}, names) == {layer(1, "k_proj"): 4}
