"""What is evaluated and when stays true or is said, and the result of an import is never invalid for it."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.foreign.evaluation import NO_ROWS, ROWS
from lora_backend.config.foreign.import_file import import_text
from tests.config.foreign.examples import row

LF = "model_name_or_path: m\nfinetuning_type: lora\n"
TRL = "model_name_or_path: m\nuse_peft: true\n"
AXOLOTL = "base_model: m\nadapter: lora\nmicro_batch_size: 2\n"
TRAINER = "model_name_or_path: m\nper_device_train_batch_size: 2\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LF + "eval_dataset: other\neval_strategy: steps\neval_steps: 50\n", ["eval_strategy", "eval_steps"]),
        (LF + "val_size: 200\neval_strategy: steps\neval_steps: 50\n", ["eval_strategy", "eval_steps"]),
        (TRL + "dataset_test_split: test\neval_strategy: epoch\n", ["eval_strategy"]),
        (TRL + "evaluation_strategy: steps\n", ["evaluation_strategy"]),
        (TRL + "do_eval: true\ntest_split_size: 1000\neval_strategy: steps\neval_steps: 0.2\n", ["eval_strategy"]),
        (TRAINER + "eval_strategy: steps\nlogging_steps: 5\n", ["eval_strategy"]),
        (AXOLOTL + "val_set_size: 100\neval_steps: 20\n", ["eval_steps"]),
        (AXOLOTL + "val_set_size: 100\nevals_per_epoch: 4\n", ["evals_per_epoch"]),
        (AXOLOTL + "test_datasets: [{path: d.jsonl}]\neval_strategy: epoch\n", ["eval_strategy"]),
    ],
)
def test_without_rows_that_are_held_back_nothing_is_evaluated_and_it_is_said(text: str, said: list[str]) -> None:
    result = import_text(text)
    assert result.is_valid, [finding.message.text("en") for finding in result.findings]
    assert not {"eval_strategy", "eval_steps", "val_size"} & result.values.keys()
    for key in said:
        assert (row(result, key).outcome, row(result, key).message.template) == ("not_supported", NO_ROWS)
    assert not [item.key for item in result.assumed if item.target_key in ("eval_strategy", "eval_steps")]


@pytest.mark.parametrize(
    ("text", "key"), [(LF + "val_size: 200\n", "val_size"), (AXOLOTL + "val_set_size: 100\n", "val_set_size"), (TRL + "test_split_size: 1000\n", "test_split_size")],
)  # fmt: skip
def test_a_number_of_rows_is_no_share_and_is_never_taken_for_one(text: str, key: str) -> None:
    found = row(import_text(text), key)
    assert (found.outcome, found.message.template) == ("not_supported", ROWS)
    assert str(found.value) in found.message.text("en")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (LF + "val_size: 0.1\neval_strategy: steps\neval_steps: 0.25\n", {"eval_strategy": "epoch", "eval_steps": None}),
        (LF + "val_size: 0.1\neval_strategy: steps\neval_steps: 0.25\nmax_steps: 90\n", {"eval_strategy": "steps", "eval_steps": 23}),
        (LF + "val_size: 0.1\neval_strategy: steps\neval_steps: 30\n", {"eval_strategy": "steps", "eval_steps": 30}),
        (LF + "val_size: 0.1\neval_strategy: steps\nlogging_steps: 40\n", {"eval_strategy": "steps", "eval_steps": 40}),
        (LF + "val_size: 0.1\neval_strategy: steps\n", {"eval_strategy": "steps", "eval_steps": 500}),
        (LF + "save_steps: 0.1\nmax_steps: 100\n", {"save_steps": 10}),
        (LF + "save_steps: 0.1\n", {"save_steps": None}),
        (AXOLOTL + "val_set_size: 0.05\neval_steps: 0.25\n", {"eval_strategy": "epoch", "eval_steps": None, "val_size": 0.05}),
        (AXOLOTL + "val_set_size: 0.05\neval_strategy: steps\n", {"eval_strategy": "steps", "eval_steps": 500}),
        (AXOLOTL + "val_set_size: 0.05\nevals_per_epoch: 4\n", {"eval_strategy": "epoch", "val_size": 0.05}),
        (AXOLOTL + "val_set_size: 0.05\nevals_per_epoch: 1\n", {"eval_strategy": "epoch", "val_size": 0.05}),
        (AXOLOTL + "val_set_size: 0.05\nevals_per_epoch: 2\neval_strategy: steps\n", {"eval_strategy": "epoch"}),
        (AXOLOTL + "val_set_size: 0.05\nevals_per_epoch: 0\n", {"eval_strategy": None}),
    ],
)  # fmt: skip
def test_how_often_is_carried_or_comes_near(text: str, values: dict[str, Any]) -> None:
    result = import_text(text)
    assert {key: result.values.get(key) for key in values} == values
    assert result.is_valid


def test_once_an_epoch_in_the_place_of_more_is_said() -> None:
    result = import_text(f"{AXOLOTL}val_set_size: 0.05\nevals_per_epoch: 4\n")
    found = row(result, "evals_per_epoch")
    assert (found.outcome, found.target_value) == ("translated", "epoch")
    assert "not 4 times" in found.message.text("en")
    assert "rows_held_back_for_nothing" not in {finding.code for finding in result.findings}


def test_our_own_key_is_left_as_it_stands() -> None:
    """Its mistakes are the check's to tell, with their fixes."""
    result = import_text("model_name: m\ndropout: 0.1\neval_strategy: epoch\n")
    assert result.values["eval_strategy"] == "epoch"
    assert [finding.code for finding in result.findings if finding.severity == "error"] == ["evaluation_without_data"]
