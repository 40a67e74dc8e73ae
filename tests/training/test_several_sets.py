"""Real runs over several sets with shares, and with rows to evaluate on in a file of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import DataChangedError
from lora_backend.runs.history.reproduce import reproduction
from lora_backend.trainer.direct_run import train_in_folder
from tests.run_files import attempt_of, points_of, set_attempt
from tests.tiny import chats, write_rows
from tests.training.helpers import adapter_bytes, curve, failed_run, made_ready, resumed, run, stopped_at

Make = Callable[..., dict[str, Any]]


@pytest.fixture
def sets(tmp_path: Path) -> list[dict[str, Any]]:
    """12 rows of one file, half of 8 of another, each of 4 twice: 24 an epoch."""
    entries: list[dict[str, Any]] = []
    for name, number, share in (("a", 3, 1), ("b", 2, 0.5), ("c", 1, 2)):
        path = write_rows(tmp_path / f"{name}.jsonl", chats(number))
        entries.append({"path": str(path), **({"share": share} if share != 1 else {})})
    return entries


def several(config: Make, sets: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return config(dataset=..., datasets=sets, batch_size=4, num_epochs=2, save_steps=3, **changes)


def test_an_epoch_has_the_rows_of_the_shares_and_a_stop_in_it_changes_nothing(
    config: Make, workspace: Path, sets: list[dict[str, Any]]
) -> None:
    whole = run(workspace, several(config, sets))
    assert points_of(whole)[-1]["step"] == 12, "two epochs of 24 rows in batches of 4"
    log = whole.train_log.read_text()
    assert "12 of them an epoch" in log
    assert "4 of them an epoch" in log
    assert "8 of them an epoch" in log
    stopped = resumed(stopped_at(workspace, several(config, sets), 8))
    assert curve(stopped) == curve(whole)
    assert adapter_bytes(stopped) == adapter_bytes(whole)


def test_each_set_is_written_down_and_the_one_that_changed_is_named(
    config: Make, workspace: Path, sets: list[dict[str, Any]]
) -> None:
    folder = stopped_at(workspace, several(config, sets), 4)
    before = attempt_of(folder)
    assert [one["path"] for one in before["data_sets"]] == [one["path"] for one in sets]
    assert len({one["sha256"] for one in before["data_sets"]} | {before["data_sha256"]}) == 4
    assert reproduction(folder).data_sha256.differs is False
    changed = Path(sets[1]["path"])
    changed.write_text(changed.read_text() + json.dumps(chats(1)[0]) + "\n")
    assert reproduction(folder).data_sha256.differs is True
    with pytest.raises(DataChangedError, match=r"b\.jsonl has changed since the run last read it") as refused:
        resumed(folder)
    assert "a.jsonl" not in str(refused.value)


def test_changed_sets_are_trained_on_once_that_is_confirmed(
    config: Make, workspace: Path, sets: list[dict[str, Any]]
) -> None:
    from lora_backend.config.data_now import sha256_now

    values = several(config, sets)
    folder = stopped_at(workspace, values, 4)
    changed = Path(sets[2]["path"])
    changed.write_text(changed.read_text() + json.dumps(chats(1)[0]) + "\n")
    made_ready(folder)
    set_attempt(folder, accepted_data_sha256=sha256_now(values))
    train_in_folder(folder)
    assert folder.state().state == "finished"


def test_rows_of_a_file_are_evaluated_and_none_is_held_back(config: Make, workspace: Path, tmp_path: Path) -> None:
    apart = write_rows(tmp_path / "apart.jsonl", chats(3))
    folder = run(workspace, config(eval_dataset=str(apart), eval_strategy="epoch", num_epochs=2))
    assert [point["step"] for point in points_of(folder) if "eval_loss" in point] == [4, 8], "16 rows an epoch"
    assert attempt_of(folder)["eval_sha256"]


def test_a_bad_row_names_the_file_of_its_set(config: Make, workspace: Path, sets: list[dict[str, Any]]) -> None:
    Path(sets[1]["path"]).write_text("no JSON\n")
    _, sentence = failed_run(workspace, several(config, sets))
    assert "b.jsonl" in sentence


def test_a_folder_with_splits_is_trained_on_by_the_split_that_is_named(
    config: Make, workspace: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    for name, number in (("train-0.jsonl", 2), ("train-1.jsonl", 1), ("test.jsonl", 1)):
        write_rows(tmp_path / "folder" / name, chats(number))
    sets = [{"path": str(tmp_path / "folder")}, {"path": str(tmp_path / "folder"), "split": "test"}]
    folder = stopped_at(workspace, config(dataset=..., datasets=sets, num_epochs=1), 2)
    assert [one["split"] for one in attempt_of(folder)["data_sets"] if one.get("split")] == ["test"]
    assert reproduction(folder).data_sha256.differs is False, "the hash of a folder is that of its split's files"
    write_rows(tmp_path / "folder" / "test.jsonl", chats(2))
    with pytest.raises(DataChangedError):
        resumed(folder)
    write_rows(tmp_path / "folder" / "test.jsonl", chats(1))
    assert points_of(resumed(folder))[-1]["step"] == 4, "12 rows of one split and 4 of the other"
