"""Several sets with shares, and rows to evaluate on: what a config may say of them, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.named_data import paths_in, rows_of_epoch, with_paths
from lora_backend.launching.table_rows import cell_value
from lora_backend.runs.record.changes import classify

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "a", "datasets": [{"path": "b"}]}, "Both `dataset` and `datasets` are set; training uses only one of them."),
    ({"datasets": [{"path": "a", "share": 0}, {"path": "b", "share": 0.0}]}, "The shares in `datasets` sum to 0, so there are no rows to train on."),
    ({"datasets": [{"path": "a", "share": -1}]}, "`datasets[1].share` is -1, but must be a number, at least 0, at most 1000."),
    ({"datasets": [{"path": "b"}, {"path": "a", "share": "2"}]}, "`datasets[2].share` is \"2\", but must be a number, at least 0, at most 1000."),
    ({"datasets": [{"path": "b"}, {"path": "a", "share": True}]}, "`datasets[2].share` is true, but must be a number, at least 0, at most 1000."),
    ({"datasets": [{"path": "a"}, {"path": "b"}, {"path": "a", "share": 3}]}, '`datasets` names "a" twice.'),
    ({"datasets": [{"share": 1}]}, "`datasets[1].path` is missing."),
    ({"datasets": [{"path": ""}]}, "`datasets[1].path` is \"\", but must be a text."),
    ({"datasets": [{"path": "a", "weight": 1}]}, "`datasets[1].weight` is not a known key; it would be ignored."),
    ({"datasets": []}, "`datasets` is [], but must be a list, each entry a mapping with `path`, `share`, `split`."),
    ({"datasets": ["a", "b"]}, "`datasets` is [\"a\", \"b\"], but must be a list, each entry a mapping with `path`, `share`, `split`."),
    ({"datasets": {"path": "a"}}, "`datasets` is {\"path\": \"a\"}, but must be a list, each entry a mapping with `path`, `share`, `split`."),
    ({"eval_dataset": "e", "val_size": 0.1, "eval_strategy": "epoch"}, "Both `eval_dataset` and `val_size` are set; evaluation uses only one of them."),
]  # fmt: skip


@pytest.mark.parametrize(("values", "sentence"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    (found,) = check_config({"model_name": "m", **values}).errors
    assert found.message.text("en") == sentence


def test_a_set_named_twice_is_put_together_by_one_click() -> None:
    values = {"model_name": "m", "datasets": [{"path": "a"}, {"path": "b"}, {"path": "a", "share": 3}]}
    (found,) = check_config(values).errors
    assert found.fix is not None
    assert check_config(values | found.fix.sets).findings == ()
    assert found.fix.sets == {"datasets": [{"path": "a", "share": 4}, {"path": "b"}]}


def test_several_sets_and_rows_to_evaluate_on_are_good() -> None:
    text = """
model_name: m
datasets:
- path: a.jsonl
- {path: org/name, share: 0.5, split: train}
- {path: a.jsonl, split: other}
eval_dataset: e.jsonl
eval_strategy: epoch
"""
    assert check_config(parse_config(text)).findings == ()


def test_rows_to_evaluate_on_that_nobody_evaluates_are_said() -> None:
    (found,) = check_config({"model_name": "m", "eval_dataset": "e"}).findings
    assert (found.severity, found.code) == ("warning", "eval_dataset_for_nothing")


def test_every_path_is_found_and_can_be_bound_wherever_it_stands() -> None:
    values = {"questions": "q", "datasets": [{"path": "a", "share": 2}, 7, {"path": None}, {"path": "b", "split": "s"}]}
    found = list(paths_in(values))
    assert [(one.key, one.place, one.path, one.share, one.split) for one in found] == [
        ("datasets", 0, "a", 2, None), ("datasets", 3, "b", 1, "s"), ("questions", None, "q", 1, None),
    ]  # fmt: skip
    bound = with_paths(values, {one: f"/{one.path}" for one in found})
    assert bound["datasets"] == [{"path": "/a", "share": 2}, 7, {"path": None}, {"path": "/b", "split": "s"}]
    assert bound["questions"] == "/q"
    assert values["datasets"][0] == {"path": "a", "share": 2}, "what was given stays as it was"


def test_an_epoch_takes_of_a_set_what_its_share_says() -> None:
    assert [rows_of_epoch(10, share) for share in (1, 0.5, 2, 0.25, 0.01, 0)] == [10, 5, 20, 2, 1, 0]


def test_other_sets_or_shares_are_refused_on_resume_and_other_rows_to_evaluate_on_are_not() -> None:
    before = {"datasets": [{"path": "a"}, {"path": "b"}]}
    assert set(classify(before, {"datasets": [{"path": "a", "share": 2}, {"path": "b"}]})["refused"]) == {"datasets"}
    assert set(classify(before, before | {"eval_dataset": "e"})["safe"]) == {"eval_dataset"}


def test_a_cell_of_a_table_holds_sets_as_yaml() -> None:
    assert cell_value("datasets", "[{path: a, share: 0.5}, {path: b}]") == [{"path": "a", "share": 0.5}, {"path": "b"}]
