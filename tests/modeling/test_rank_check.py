"""The rank check of a model in memory, against the config that it was made from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, RankMismatchError
from lora_backend.i18n import use_language
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.load import load_model
from lora_backend.modeling.rank_check import check_lora_r_consistency, raise_on_mismatch
from tests.verification.reports import typed

Make = Callable[..., dict[str, Any]]

Q0, V1 = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"
PROMISED = {
    "is_consistent",
    "status",
    "expected_r",
    "actual_r_values",
    "mismatched_layers",
    "warnings",
    "layers",
}


def built(config: Make, **changes: Any) -> tuple[Any, dict[str, Any]]:
    values = config(target_modules=["q_proj", "v_proj"], **changes)
    asked = TrainingConfig(**values)
    return attach_adapter(load_model(asked), asked), values


def tamper(model: Any, name: str, half: str, r: int) -> None:
    """Give one matrix of a layer another rank, as a botched merge would."""
    layer = model.base_model.model.get_submodule(name)
    old = getattr(layer, half)["default"]
    sizes = (old.in_features, r) if half == "lora_A" else (r, old.out_features)
    getattr(layer, half)["default"] = torch.nn.Linear(*sizes, bias=False)


def test_a_model_that_is_as_asked_is_consistent(config: Make) -> None:
    model, values = built(config)
    report = check_lora_r_consistency(model, values)
    assert report.keys() >= PROMISED
    assert (report["is_consistent"], report["status"], report["expected_r"]) == (True, "ok", 4)
    assert (report["actual_r_values"][Q0], len(report["actual_r_values"])) == (4, 4)
    assert report["mismatched_layers"] == []
    record = next(layer for layer in report["layers"] if layer["name"] == V1)
    assert {key: record[key] for key in ("block", "module", "expected_r", "config_r", "a_r", "b_r", "state")} == {
        "block": 1, "module": "v_proj", "expected_r": 4, "config_r": 4, "a_r": 4, "b_r": 4, "state": "ok",
    }  # fmt: skip


def test_a_rank_pattern_is_followed(config: Make) -> None:
    model, values = built(config, rank_pattern={"layers.1.self_attn.v_proj": 2})
    report = check_lora_r_consistency(model, values)
    assert report["is_consistent"]
    assert (report["actual_r_values"][Q0], report["actual_r_values"][V1]) == (4, 2)
    without = check_lora_r_consistency(model, values | {"rank_pattern": None})
    assert without["mismatched_layers"] == [V1]


@pytest.mark.parametrize(("half", "found"), [("lora_A", (2, 4)), ("lora_B", (4, 2))])
def test_one_matrix_of_another_rank_is_named(half: str, found: tuple[int, int], config: Make) -> None:
    model, values = built(config)
    tamper(model, V1, half, 2)
    report = check_lora_r_consistency(model, values)
    assert (report["is_consistent"], report["mismatched_layers"]) == (False, [V1])
    assert report["actual_r_values"][V1] == found


def test_a_config_that_asks_for_another_rank_finds_every_layer_wrong(config: Make) -> None:
    model, values = built(config)
    report = check_lora_r_consistency(model, values | {"r": 16})
    assert (report["is_consistent"], len(report["mismatched_layers"])) == (False, 4)


@pytest.mark.parametrize("active", [None, []])
def test_without_an_active_adapter_its_layers_are_read_all_the_same(active: Any, config: Make) -> None:
    model, values = built(config)
    if active is None:
        model.active_adapter = None
    else:
        model.base_model.set_adapter(active)
    report = check_lora_r_consistency(model, values)
    assert (report["is_consistent"], len(report["layers"])) == (True, 4)


def test_an_adapter_that_the_model_does_not_have_is_an_answer(config: Make) -> None:
    model, values = built(config)
    report = check_lora_r_consistency(model, values, adapter_name="other")
    assert (report["is_consistent"], report["status"]) == (False, "no_lora_layers")


def test_a_base_model_gets_the_line_that_users_know(config: Make, caplog: pytest.LogCaptureFixture) -> None:
    values = config()
    base = load_model(TrainingConfig(**values))
    with caplog.at_level(logging.WARNING, "lora_backend"):
        report = check_lora_r_consistency(base, values)
        with use_language("zh"):
            check_lora_r_consistency(base, values)
    assert (report["is_consistent"], report["status"]) == (False, "no_lora_layers")
    assert "⚠️  Warning: no LoRA parameters found" in caplog.text
    assert "⚠️  警告: 未检测到任何LoRA参数" in caplog.text


def test_the_ranks_are_logged_as_a_table_and_a_mismatch_as_a_warning(
    config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    model, values = built(config)
    with caplog.at_level(logging.INFO, "lora_backend"):
        check_lora_r_consistency(model, values)
        tamper(model, V1, "lora_B", 2)
        check_lora_r_consistency(model, values)
    good, bad = (record for record in caplog.records if "rank check" in record.message)
    assert (good.levelno, bad.levelno) == (logging.INFO, logging.WARNING)
    assert sum(Q0 in line for line in good.message.splitlines()) == 1
    assert "A and B differ" in bad.message


def test_a_folder_and_the_model_that_it_came_from_name_the_same_layers(config: Make, tmp_path: Path) -> None:
    model, values = built(config)
    model.save_pretrained(tmp_path / "adapter")
    live = check_lora_r_consistency(model, values)
    folder = check_lora_r_consistency(tmp_path / "adapter", values)
    as_text = check_lora_r_consistency(str(tmp_path / "adapter"), values)
    assert folder["actual_r_values"] == live["actual_r_values"] == as_text["actual_r_values"]
    with pytest.raises(ModelError, match="none"):
        check_lora_r_consistency(tmp_path / "none", values)


def test_strict_says_how_many_layers_are_wrong_and_which_come_first(config: Make) -> None:
    model, values = built(config)
    raise_on_mismatch(typed(check_lora_r_consistency(model, values)))
    tamper(model, Q0, "lora_A", 2)
    tamper(model, V1, "lora_B", 2)
    report = check_lora_r_consistency(model, values)
    with pytest.raises(RankMismatchError, match=rf"^2 of \d+ LoRA layers have the wrong rank, first {Q0} .*, {V1} "):
        raise_on_mismatch(typed(report))
    with pytest.raises(RankMismatchError, match="no LoRA parameters found"):
        raise_on_mismatch(typed(check_lora_r_consistency(load_model(TrainingConfig(**values)), values)))
