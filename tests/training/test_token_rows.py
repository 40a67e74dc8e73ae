"""Large sets are labelled batch by batch and small ones beforehand: to the same adapter, in whole batches, counted exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from lora_backend.data.example_file import open_examples
from lora_backend.errors import DataError
from lora_backend.tokens import token_rows
from lora_backend.tokens.labels import Labeller, LabelRules
from lora_backend.tokens.token_rows import TokenRows, is_large
from tests.run_files import points_of
from tests.tiny import chats, write_rows
from tests.training.helpers import adapter_bytes, curve, failed_run, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]
TOO_LONG = {"prompt": "how tall is the tower " * 5, "completion": "nine"}
"""Its answer begins behind the cut of the tests."""
LIMIT = 12


@pytest.fixture
def rows_of(tiny_model: Path, tmp_path: Path) -> Callable[..., TokenRows]:
    labeller = Labeller(AutoTokenizer.from_pretrained(tiny_model), LabelRules(LIMIT))

    def make(*sets: Sequence[dict[str, Any]], is_lazy: bool, most_bad: int = 0) -> TokenRows:
        files = {}
        for number, rows in enumerate(sets):
            path = write_rows(tmp_path / f"{number}.jsonl", list(rows))
            files[path.name] = open_examples(path, tmp_path / "kept")
        return TokenRows(files, labeller, most_bad=most_bad, is_lazy=is_lazy)

    return make


def pairs(*numbers: int) -> list[dict[str, Any]]:
    """Rows with so many words in their answers."""
    return [{"prompt": "who", "completion": " ".join(["bridge"] * number)} for number in numbers]


def test_rows_are_the_same_whenever_they_are_labelled(rows_of: Callable[..., TokenRows]) -> None:
    sets = pairs(1, 5, 2), pairs(3, 30)
    before, later = rows_of(*sets, is_lazy=False), rows_of(*sets, is_lazy=True)
    numbers = [4, 0, 3, 2, 2, 1]
    assert before.__getitems__(numbers) == later.__getitems__(numbers) == [before[number] for number in numbers]
    assert [len(row["input_ids"]) for row in later.__getitems__(numbers)] == [12, 3, 5, 4, 4, 7]
    assert (before.numbers_of(0), before.numbers_of(1)) == (range(3), range(3, 5))
    assert before.longest(2) == later.longest(2) == [4, 1]
    assert before.most_tokens() == later.most_tokens() == LIMIT


def test_a_row_that_teaches_nothing_is_left_out_of_a_small_set_and_followed_by_the_next_in_a_large_one(
    rows_of: Callable[..., TokenRows],
) -> None:
    rows = [*pairs(1), TOO_LONG, TOO_LONG, *pairs(2)]
    before = rows_of(rows, is_lazy=False)
    assert before.trainable(np.arange(4, dtype=np.int32)).tolist() == [0, 3]
    later = rows_of(rows, is_lazy=True)
    assert later.__getitems__([0, 1, 2, 3]) == [before[0], before[3], before[3], before[3]]
    assert rows_of([*pairs(1), TOO_LONG], is_lazy=True)[1] == rows_of(pairs(1), is_lazy=True)[0], "from the beginning"
    with pytest.raises(DataError, match="nothing left to learn"):
        rows_of([TOO_LONG, TOO_LONG], is_lazy=True)[0]


@pytest.mark.parametrize("is_lazy", [True, False])
def test_each_row_is_counted_once_however_often_it_is_read(rows_of: Callable[..., TokenRows], is_lazy: bool) -> None:
    rows = rows_of([*pairs(1, 1, 30), TOO_LONG], is_lazy=is_lazy)
    for _ in range(3):
        rows.__getitems__([2, 0, 3, 1])
    (counts,) = rows.counts
    assert (counts.seen, counts.tokens, counts.trained_tokens, counts.longest) == (4, 18, 15, 32)
    assert (counts.cut.rows, counts.without_end.rows, counts.behind_cut.rows) == ([3, 4], [3], [4])


def test_a_set_is_large_by_its_rows_or_by_its_bytes(
    rows_of: Callable[..., TokenRows], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = open_examples(write_rows(tmp_path / "d.jsonl", [*pairs(1, 2)]), tmp_path / "kept")
    assert not is_large([examples])
    monkeypatch.setattr(token_rows, "MOST_KEPT_ROWS", 3)
    assert is_large([examples, examples])
    monkeypatch.undo()
    monkeypatch.setattr(token_rows, "MOST_KEPT_BYTES", 10)
    assert is_large([examples])


@pytest.fixture
def by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every set counts as a large one."""
    monkeypatch.setattr(token_rows, "MOST_KEPT_ROWS", 0)


WITH_SPLIT: dict[str, Any] = {
    "val_size": 0.25,
    "eval_strategy": "epoch",
    "num_epochs": 2,
    "batch_size": 2,
    "save_steps": 4,
}


def test_a_run_is_the_same_to_the_bit_whenever_its_rows_are_labelled(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(workspace, config(**WITH_SPLIT))
    monkeypatch.setattr(token_rows, "MOST_KEPT_ROWS", 0)
    later = run(workspace, config(**WITH_SPLIT))
    assert curve(later) == curve(before)
    assert adapter_bytes(later) == adapter_bytes(before)
    assert "labelled batch by batch" in later.train_log.read_text()
    assert "16 of 16 rows" in later.train_log.read_text(), "all of them were counted by the end"


@pytest.mark.usefixtures("by_batch")
def test_a_large_set_with_shares_goes_on_from_any_step_as_if_nothing_had_happened(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    rows = chats(3)
    sets = [
        {"path": str(write_rows(tmp_path / "a.jsonl", rows)), "share": 1.5},
        {"path": str(write_rows(tmp_path / "b.jsonl", [*chats(1), long_chat()])), "share": 0.5},
    ]
    values = config(
        dataset=..., datasets=sets, max_length=24, num_epochs=3, batch_size=2, save_steps=5, logging_steps=2
    )
    whole = run(workspace, values)
    stopped = resumed(stopped_at(workspace, values, 12))
    assert curve(stopped) == curve(whole)
    assert adapter_bytes(stopped) == adapter_bytes(whole)
    assert points_of(whole)[-1]["step"] == 3 * 10, "18 rows of the one set and 2 of the other in each epoch"


def long_chat() -> dict[str, Any]:
    question = {"role": "user", "content": "how tall is the tower " * 20}
    return {"messages": [question, {"role": "assistant", "content": "the tower is nine metres tall"}]}


def test_rows_that_are_all_behind_the_cut_are_refused_before_a_model_is_loaded(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "long.jsonl", [long_chat(), long_chat()])
    folder, sentence = failed_run(workspace, config(dataset=str(data), max_length=24), DataError)
    assert sentence.startswith("No row has anything left to learn within `max_length` 24.")
    assert "stage loading" not in folder.train_log.read_text()


def test_the_log_says_what_was_read_and_what_became_of_it(config: Make, workspace: Path, tmp_path: Path) -> None:
    rows = [*chats(2), *chats(1), long_chat()]
    data = tmp_path / "some.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"messages": []}\n')
    folder = run(workspace, config(dataset=str(data), max_length=24, max_bad_rows=1, num_epochs=1))
    log = folder.train_log.read_text()
    assert "13 rows of messages, 1 bad ones left out, 8 duplicates; 12 of them an epoch (share 1)" in log
    assert "13 of 13 rows" in log
    assert "1 cut, 0 without end, 1 behind the cut" in log
    assert "1 row is left out" in log
    assert points_of(folder)[-1]["step"] == 3
