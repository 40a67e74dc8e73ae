"""An edit touches the lines of its keys alone: renames stay in place, lists and quotes keep their style."""

from __future__ import annotations

import pytest

from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.line_edits import UncutError, edited
from lora_backend.config.patch import DELETE

TEXT = """\
# a teammate's config
model_name:   "org/m"     # the base
lora_rank: 8              # how much it may learn

target_modules: [ q_proj,  "v_porj" ]   # attention only
target_layers:
    - 1
    # the middle
    - 2    # by hand
    - 30
learning_rate: 5e-4
rank_pattern:
  # wider
  q_proj: 16   # wide
  'v_proj': 8
num_epochs: '2'
dataset:                  # a file of rows
"""


def edit(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"lora_rank": DELETE, "r": 8}, edit("lora_rank: 8 ", "r: 8 ")),
        ({"lora_rank": DELETE, "r": 16}, edit("lora_rank: 8 ", "r: 16 ")),
        ({"lora_rank": DELETE, "r": 8, "alpha": 16}, edit("lora_rank: 8              # how much it may learn\n", "r: 8              # how much it may learn\nalpha: 16\n")),
        ({"lora_rank": DELETE}, edit("lora_rank: 8              # how much it may learn\n", "")),
        ({"model_name": "org/n"}, edit('"org/m"', '"org/n"')),
        ({"num_epochs": 2}, edit("'2'", "2")),
        ({"target_modules": ["q_proj", "v_proj"]}, edit('q_proj,  "v_porj"', 'q_proj,  "v_proj"')),
        ({"target_modules": ["q_proj"]}, edit('q_proj,  "v_porj"', "q_proj")),
        ({"target_modules": "all-linear"}, edit('[ q_proj,  "v_porj" ]', "all-linear")),
        ({"target_layers": [1, 2]}, edit("    - 30\n", "")),
        ({"target_layers": [0, 1, 29]}, edit("    - 1\n    # the middle\n    - 2    # by hand\n    - 30\n", "    - 0\n    - 1\n    - 29\n")),
        ({"target_layers": [1, 30, 31]}, edit("    # the middle\n    - 2    # by hand\n    - 30\n", "    - 30\n    - 31\n")),
        ({"target_layers": DELETE}, edit("target_layers:\n    - 1\n    # the middle\n    - 2    # by hand\n    - 30\n", "")),
        ({"rank_pattern": {"q_proj": 32, "v_proj": 8}}, edit("q_proj: 16 ", "q_proj: 32 ")),
        ({"rank_pattern": {"q_proj": 16}}, edit("  'v_proj': 8\n", "")),
        ({"rank_pattern": {"q_proj": 16, "v_proj": 8, "k_proj": 4}}, edit("  'v_proj': 8\n", "  'v_proj': 8\n  k_proj: 4\n")),
        ({"dataset": "d.jsonl"}, edit("dataset:   ", "dataset: d.jsonl   ")),
        ({"dataset": ["a", "b"]}, edit("dataset:                  # a file of rows\n", "dataset:                  # a file of rows\n- a\n- b\n")),
        ({"seed": 7}, TEXT + "seed: 7\n"),
        ({"learning_rate": 5e-4}, TEXT),
    ],
)  # fmt: skip
def test_an_edit_touches_the_lines_of_its_keys_alone(changes: dict[str, object], wanted: str) -> None:
    assert with_values(TEXT, changes) == wanted
    assert with_values(TEXT.replace("\n", "\r\n"), changes) == wanted.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text", ["a: &x [1]\nb: *x\n", "? r\n: 4\nb: 1\n", "{r: 4, b: 1}\n", "r: 4\nr: 5\n", "b: 1 # c\nr: 4", "# only a comment\n"]
)  # fmt: skip
def test_what_cannot_be_cut_is_written_anew_and_means_the_same(text: str) -> None:
    for changes in ({"r": 8}, {"b": DELETE}, {"a": DELETE, "c": [1]}, {"a": [2]}):
        was = parse_config(text).values
        wanted = {**was, **changes}
        written = parse_config(with_values(text, changes)).values
        assert written == {key: value for key, value in wanted.items() if value is not DELETE}


def test_a_mapping_on_one_line_is_not_cut() -> None:
    with pytest.raises(UncutError):
        edited("{r: 4}\n", {"r": 4}, {"r": 8})
