"""`getEquipAdaptorModel` checks before it loads, says what it found, and gives a model with its adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from lora_backend import build_lora_model, check_config_consistency, getEquipAdaptorModel
from lora_backend.errors import ConfigError, ModelError

Make = Callable[..., dict[str, Any]]


def test_the_model_carries_the_adapter_and_only_that_trains(config: Make) -> None:
    model = getEquipAdaptorModel(config(target_modules=["q_proj"], r=3, alpha=6))
    assert isinstance(model, PeftModel)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 4
    assert all("q_proj.lora_" in name for name in trainable)
    assert build_lora_model is getEquipAdaptorModel


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"r": "16"}, "`r`"),
        ({"r": True}, "`r`"),
        ({"rnak": 8}, "`rnak`"),
        ({"model_name": ...}, "`model_name` is missing"),
        ({"learning_rate": float("nan")}, "`learning_rate`"),
        ({"target_layers": [0, 2]}, "numbered 0 to 1"),
        ({"target_modules": ["q_porj"]}, "q_porj"),
        ({"batch_size": 4, "target_batch_size": 6}, "not a multiple"),
    ],
    ids=str,
)
def test_a_config_with_errors_raises_before_anything_is_loaded(
    changes: dict[str, Any], said: str, config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lora_backend"), pytest.raises(ConfigError, match=said) as raised:
        getEquipAdaptorModel(config(**changes))
    assert isinstance(raised.value, ValueError)
    assert "loading" not in caplog.text


def test_all_errors_come_at_once(config: Make) -> None:
    with pytest.raises(ConfigError, match=r"`r`.*`lora_dropout`"):
        getEquipAdaptorModel(config(r=0, lora_dropout=1.5))


@pytest.mark.parametrize("key", ["model_name", "r", "precision", "target_modules"])
def test_a_value_of_a_foreign_type_is_a_config_error(key: str, config: Make, tiny_model: Path) -> None:
    """Callers hold paths, numpy's numbers and torch's types."""
    import numpy as np

    values = {"model_name": tiny_model, "r": np.int64(4), "precision": torch.float32, "target_modules": {"q_proj"}}
    with pytest.raises(ConfigError, match=f"`{key}`"):
        getEquipAdaptorModel(config(**{key: values[key]}))


def test_warnings_are_logged_and_the_model_is_built(config: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lora_backend"):
        getEquipAdaptorModel(config(target_modules=["q_proj", "q_proj", "nothing"]))
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert any("repeated_entry" in text for text in warnings)
    assert any("nothing" in text for text in warnings)
    assert "r = 4 (default 16)" in caplog.text


def test_a_model_that_is_not_here_is_a_model_error(config: Make) -> None:
    with pytest.raises(ModelError, match="flightdeck download someone/some-model"):
        getEquipAdaptorModel(config(model_name="someone/some-model"))


@pytest.mark.parametrize("key", ["check_r_consistency", "strict_r_check"])
def test_the_ranks_are_checked_where_that_is_asked_for(
    key: str, config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lora_backend"):
        getEquipAdaptorModel(config())
        assert "rank check" not in caplog.text
        getEquipAdaptorModel(config(**{key: True}))
    assert "rank check: 14 of 14 LoRA layers have the expected rank" in caplog.text


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["q_proj", "lm_head"]])
def test_modules_outside_the_blocks_are_the_models_too(targets: list[str], config: Make) -> None:
    """PEFT puts LoRA on head and embedding; the check must not say that the model does not have them."""
    report = check_config_consistency(config(target_modules=targets))
    assert report["is_valid"], report["issues"]
    assert not any("does not have" in text for text in report["issues"])


def test_a_regular_expression_that_is_none_is_found_by_the_check(config: Make) -> None:
    for changes in ({"target_modules": "q_proj["}, {"rank_pattern": {"q_proj[": 2}}):
        assert not check_config_consistency(config(**changes))["is_valid"]
        with pytest.raises(ConfigError):
            getEquipAdaptorModel(config(**changes))
