"""An expression that would be matched for ever: every question that meets it ends by its deadline, and is undecided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.rules import Facts
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ConfigError, ExpressionError
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.build import getEquipAdaptorModel
from lora_backend.modeling.health import adapter_health
from lora_backend.modeling.load import load_model
from lora_backend.modeling.rank_check import check_lora_r_consistency
from lora_backend.preflight.consequences import Consequence, consequences
from lora_backend.verification.rank_report import expected_ranks
from lora_backend.verification.verdicts import verdict
from lora_backend.worker.methods import check_loaded_ranks
from tests.hostile import NAMES
from tests.verification.reports import folder_report, typed
from tests.verification.slow import OURS, PEFTS, SLOW, adapter


def is_undecided(report: dict[str, Any]) -> bool:
    assert (report["is_consistent"], report["status"]) == (None, "expression_too_slow")
    assert report["actual_r_values"] == {}
    json.dumps(report)
    return (
        verdict(typed(report)).text("en")
        == f"The expression {SLOW} takes too long. Simplify it: avoid nested repeats such as `(a+)+`."
    )


@pytest.mark.parametrize("own", PEFTS, ids=str)
def test_an_adapters_own_expression_leaves_its_check_undecided(own: dict[str, Any], tmp_path: Path) -> None:
    assert is_undecided(folder_report(adapter(tmp_path / "a", **own), None))


@pytest.mark.parametrize("config", OURS, ids=str)
def test_a_configs_expression_leaves_the_check_undecided(config: dict[str, Any], tmp_path: Path) -> None:
    assert is_undecided(folder_report(adapter(tmp_path / "a"), {"r": 4, "alpha": 8} | config))


@pytest.mark.parametrize("own", [PEFTS[0], PEFTS[2]], ids=str)
def test_verify_says_it_and_ends_with_two(own: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    folder = adapter(tmp_path / "a", **own)
    assert main(["verify", str(folder)]) == 2
    assert "takes too long" in capsys.readouterr().out
    assert main(["verify", str(folder), "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["is_consistent"] is None
    assert "takes too long" in document["error"]


@pytest.mark.parametrize("config", OURS, ids=str)
def test_the_check_of_a_config_names_expression_key_and_line(config: dict[str, Any]) -> None:
    (key,) = config
    text = f"model_name: m\nr: 8\n{json.dumps(config)[1:-1]}\n"
    result = check_config(parse_config(text), Facts(linear_names=NAMES, linear_modules=("q_proj",)))
    (error,) = result.errors
    assert (error.code, error.key, error.line) == ("expression_too_slow", key, 3)
    assert error.message.text("en") == f"The expression {json.dumps(SLOW)} in `{key}` takes too long."


def test_all_keys_that_hold_it_are_named() -> None:
    config = {"model_name": "m", "rank_pattern": {SLOW: 8, "q_proj": 4}, "alpha_pattern": {SLOW: 8}}
    result = check_config(config, Facts(linear_names=NAMES, linear_modules=("q_proj",)))
    assert [error.key for error in result.errors] == ["rank_pattern", "alpha_pattern"]


@pytest.mark.parametrize("config", OURS, ids=str)
def test_a_loaded_model_is_undecided_and_none_is_given_an_adapter(config: dict[str, Any], tiny_model: Path) -> None:
    """PEFT would match it in this very process, where nothing could end it."""
    good = TrainingConfig(model_name=str(tiny_model), r=4, target_modules=["q_proj"], precision="fp32")
    model = attach_adapter(load_model(good), good)
    assert is_undecided(check_lora_r_consistency(model, good.model_dump() | config))
    with pytest.raises(ExpressionError, match="takes too long"):
        attach_adapter(load_model(good), good.model_copy(update=config))


@pytest.mark.parametrize("config", OURS, ids=str)
def test_nothing_is_built_from_such_a_config(config: dict[str, Any], tiny_model: Path) -> None:
    with pytest.raises((ConfigError, ExpressionError), match="takes too long"):
        getEquipAdaptorModel({"model_name": str(tiny_model), "precision": "fp32"} | config)


def test_an_adapter_is_not_loaded_into_a_model_with_it(tiny_model: Path, tmp_path: Path) -> None:
    question = {
        "adapter": str(adapter(tmp_path / "a", target_modules=SLOW)),
        "model_name": str(tiny_model),
        "config": {},
    }
    with pytest.raises(ExpressionError, match="takes too long"):
        check_loaded_ranks(question, lambda *_: None)


def test_its_values_are_not_judged(tmp_path: Path) -> None:
    with pytest.raises(ExpressionError, match="takes too long"):
        adapter_health(adapter(tmp_path / "a", alpha_pattern={SLOW: 8}))


def test_no_rank_is_promised_and_no_consequence_told() -> None:
    config = {"model_name": "m", "rank_pattern": {SLOW: 8}}
    with pytest.raises(ExpressionError, match="takes too long"):
        expected_ranks(config, NAMES)
    assert consequences(config, {}, ["rank_pattern"], None, linear_names=NAMES)["rank_pattern"] == Consequence()


def test_a_model_of_ten_thousand_layers_and_hundreds_of_patterns_is_checked(tmp_path: Path) -> None:
    """Nothing of it is slow, it is merely much: one by one it would be some ten million matches."""
    names = [f"model.layers.{block}.mlp.experts.{expert}.w1" for block in range(50) for expert in range(100)]
    ranks = {f"layers.{block}.mlp.experts.{expert}.w1": 4 for block in range(50) for expert in range(20)}
    assert set(expected_ranks({"r": 2, "rank_pattern": ranks, "target_modules": ["w1"]}, names).values()) == {2, 4}
