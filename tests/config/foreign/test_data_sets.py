"""A file on this machine is taken as the data set; a data set of the hub, an address or a pattern is named and is not."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.foreign.import_file import import_text
from tests.config.foreign.examples import row

AXOLOTL = {"base_model": "m", "adapter": "lora"}
HUB = {
    "path": "org/hub-set",
    "data_files": ["train.jsonl"],
    "type": "completion",
    "field": "text",
    "split": "train[:10%]",
}


@pytest.mark.parametrize(
    ("entry", "file"),
    [
        ({"path": "data/train.jsonl", "type": "alpaca"}, "data/train.jsonl"),
        ({"path": "json", "data_files": ["data/train.jsonl"]}, "data/train.jsonl"),
        ({"path": "json", "data_files": "train.jsonl"}, "train.jsonl"),
        ({"path": "json", "data_files": {"train": "train.jsonl"}}, "train.jsonl"),
        ({"path": "./data", "data_files": "train.jsonl"}, "data/train.jsonl"),
        ({"path": "/data", "data_files": "train.jsonl"}, "/data/train.jsonl"),
        (HUB, None),
        ({"path": "org/hub-set", "split": "train"}, None),
        ({"path": "json", "data_files": ["a.jsonl", "b.jsonl"]}, None),
        ({"path": "json", "data_files": "data/*.jsonl"}, None),
        ({"path": "json", "data_files": "https://example.com/train.jsonl"}, None),
        ({"path": "hf://datasets/org/set/train.jsonl"}, None),
        ({"path": "s3://bucket/train.jsonl"}, None),
    ],
)  # fmt: skip
def test_a_local_file_is_taken_and_all_else_is_named(entry: dict[str, object], file: str | None) -> None:
    result = import_text(dump_yaml({**AXOLOTL, "datasets": [entry]}))
    assert result.values.get("dataset") == file
    found = row(result, "datasets")
    assert found.outcome == ("not_supported" if file is None else "translated")
    said = found.message.text("en")
    for key in entry.keys() - ({"path", "data_files"} if file else set()):
        assert f"`{key}: " in said


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ({"path": "a.csv", "type": "chat_template", "ds_type": "csv", "split": "train"}, {"dataset": "a.csv", "data_format": "messages"}),
        ({"path": "a.parquet", "type": "sharegpt"}, {"dataset": "a.parquet", "data_format": "sharegpt"}),
        ({"path": "a.jsonl", "type": "chat_template", "field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}},
            {"dataset": "a.jsonl", "data_format": "sharegpt"}),
        ({"path": "a.jsonl", "type": "chat_template", "field_messages": "dialog", "message_field_role": "who"},
            {"dataset": "a.jsonl", "data_format": "messages", "data_columns": {"messages": "dialog", "role": "who"}}),
        ({"path": "a.jsonl", "type": {"field_instruction": "q", "field_output": "completion", "format": "{instruction}", "no_input_format": "{instruction}"}},
            {"dataset": "a.jsonl", "data_format": "prompt_completion", "data_columns": {"prompt": "q"}}),
    ],
)  # fmt: skip
def test_how_rows_are_written_is_carried_where_it_means_the_same(entry: dict[str, Any], ours: dict[str, Any]) -> None:
    result = import_text(dump_yaml({**AXOLOTL, "datasets": [entry]}))
    assert {key: result.values.get(key) for key in ("dataset", "data_format", "data_columns") if key in result.values} == ours  # fmt: skip
    assert "Not carried over" not in row(result, "datasets").message.text("en")


@pytest.mark.parametrize("kind", ["alpaca", "completion", {"format": "Q: {instruction}", "no_input_format": "Q: {instruction}"}])  # fmt: skip
def test_a_prompt_that_only_axolotl_writes_is_named(kind: object) -> None:
    result = import_text(dump_yaml({**AXOLOTL, "datasets": [{"path": "a.jsonl", "type": kind}]}))
    assert "data_format" not in result.values
    assert "type: " in row(result, "datasets").message.text("en")


def test_every_key_of_every_entry_is_named() -> None:
    entries: list[dict[str, Any]] = [
        HUB,
        {"path": "b.jsonl", "shards": 4, "message_property_mappings": {"role": "from"}},
    ]
    for language in ("en", "zh"):
        said = row(import_text(dump_yaml({**AXOLOTL, "datasets": entries})), "datasets").message.text(language)
        for place, entry in enumerate(entries):
            for key in entry:
                assert f"`[{place}].{key}: " in said


def test_a_mixture_names_its_data_sets_and_the_rows_that_it_holds_back() -> None:
    mixture = {"datasets": [{"id": "org/set", "split": "train", "weight": 0.5}], "test_split_size": 1000}
    text = dump_yaml({"model_name_or_path": "m", "use_peft": True, "dataset_mixture": mixture})
    said = row(import_text(text), "dataset_mixture").message.text("en")
    for word in ("org/set", "weight: 0.5", "test_split_size: 1000"):
        assert word in said


@pytest.mark.parametrize(
    ("folder", "file"),
    [("dataset_dir: /rows\n", "/rows/a.jsonl"), ("", "a.jsonl"), ("dataset_dir: ONLINE\n", None), ("dataset_dir: REMOTE:org/set\n", None)],
)  # fmt: skip
def test_llamafactorys_folder_is_part_of_the_path_or_the_hub(folder: str, file: str | None) -> None:
    result = import_text(f"model_name_or_path: m\nfinetuning_type: lora\ndataset: a.jsonl\n{folder}")
    assert result.values.get("dataset") == file
    if folder:
        assert row(result, "dataset_dir").outcome == ("taken" if file else "not_supported")


@pytest.mark.parametrize("name", ["org/hub-set", "a,b", "https://example.com/a.jsonl"])
def test_a_name_of_trl_is_no_file(name: str) -> None:
    result = import_text(f"model_name_or_path: m\nuse_peft: true\ndataset_name: {name}\n")
    assert "dataset" not in result.values
    assert row(result, "dataset_name").outcome == "not_supported"


@pytest.mark.parametrize("key", ["test_datasets", "pretraining_dataset"])
def test_other_lists_of_data_sets_are_named_too(key: str) -> None:
    found = row(import_text(dump_yaml({**AXOLOTL, key: [HUB]})), key)
    assert found.outcome == "not_supported"
    for name in HUB:
        assert f"`[0].{name}: " in found.message.text("en")
