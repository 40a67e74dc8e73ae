"""Drafts: undo and redo on disk, a second writer, the bin."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lora_backend.config import draft_history, drafts
from lora_backend.config.drafts import (
    Draft,
    DraftConflictError,
    delete_draft,
    list_drafts,
    new_draft,
    open_draft,
    restore_draft,
    revision_of,
)
from lora_backend.errors import ConfigError, FlightdeckError


def steps(draft: Draft, *texts: str) -> Draft:
    for text in texts:
        draft.save(text)
    return draft


def test_undo_and_redo_walk_through_every_text_in_another_process_too(tmp_path: Path) -> None:
    steps(new_draft(tmp_path, "r: 1\n"), "r: 2\n", "r: 3\n")
    (draft,) = list_drafts(tmp_path)
    assert draft.undo()
    again = open_draft(tmp_path, draft.id)
    assert again.undo()
    assert again.text() == "r: 1\n"
    assert not again.undo()
    assert again.redo()
    assert again.redo()
    assert again.text() == "r: 3\n"
    assert not again.redo()


def test_a_change_after_undo_drops_what_was_undone(tmp_path: Path) -> None:
    draft = steps(new_draft(tmp_path, "r: 1\n"), "r: 2\n")
    draft.undo()
    draft.save("r: 9\n")
    assert not draft.redo()
    assert draft.undo()
    assert draft.text() == "r: 1\n"


def test_saving_the_same_text_again_is_no_step(tmp_path: Path) -> None:
    draft = steps(new_draft(tmp_path, "r: 1\n"), "r: 1\n")
    assert not draft.undo()


def test_what_an_editor_outside_wrote_can_be_undone(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    (draft.path / "config.yaml").write_text("r: 5\n")
    assert draft.undo()
    assert draft.text() == "r: 1\n"
    assert draft.redo()
    assert draft.text() == "r: 5\n"


def test_a_draft_of_before_there_was_a_history_keeps_its_text_for_undo(tmp_path: Path) -> None:
    (tmp_path / "0123abcd").mkdir()
    (tmp_path / "0123abcd/config.yaml").write_text("r: 1\n")
    draft = steps(open_draft(tmp_path, "0123abcd"), "r: 2\n")
    assert draft.undo()
    assert draft.text() == "r: 1\n"


def test_the_history_is_bounded_in_steps_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft_history, "MAX_STEPS", 5)
    draft = steps(new_draft(tmp_path, "r: 0\n"), *(f"r: {number}\n" for number in range(1, 20)))
    assert len(draft.history.numbers()) == 5
    monkeypatch.setattr(draft_history, "MAX_HISTORY_BYTES", 10)
    draft.save("# " + "x" * 100)
    assert len(draft.history.numbers()) == 2, "the way back to the text before stays"
    assert draft.undo()
    assert draft.text() == "r: 19\n"


def test_the_second_of_two_writers_is_told_and_given_the_others_text(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    seen = revision_of(draft.text())
    draft.save("r: 2\n", seen)
    with pytest.raises(DraftConflictError, match="another tab") as refused:
        draft.save("r: 3\n", seen)
    assert (refused.value.mine, refused.value.theirs) == ("r: 3\n", "r: 2\n")
    assert draft.text() == "r: 2\n"


def test_two_writers_of_the_same_text_do_not_disturb_each_other(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    seen = revision_of(draft.text())
    draft.save("r: 2\n", seen)
    draft.save("r: 2\n", seen)
    assert draft.text() == "r: 2\n"


def test_a_deleted_draft_is_gone_until_it_is_brought_back_whole(tmp_path: Path) -> None:
    draft = steps(new_draft(tmp_path, "r: 1\n"), "r: 2\n")
    delete_draft(tmp_path, draft.id)
    assert list_drafts(tmp_path) == []
    with pytest.raises(ConfigError, match="does not exist"):
        open_draft(tmp_path, draft.id)
    restored = restore_draft(tmp_path, draft.id)
    assert restored.text() == "r: 2\n"
    assert restored.undo()
    with pytest.raises(ConfigError, match="does not exist"):
        restore_draft(tmp_path, draft.id)


def test_drafts_are_listed_by_their_last_change(tmp_path: Path) -> None:
    import os

    old, new = new_draft(tmp_path, "r: 1\n"), new_draft(tmp_path, "r: 2\n")
    os.utime(old.path / "config.yaml", (2_000_000_000, 2_000_000_000))
    os.utime(new.path / "config.yaml", (1_000_000_000, 1_000_000_000))
    assert [draft.id for draft in list_drafts(tmp_path)] == [old.id, new.id]
    assert list_drafts(tmp_path / "none") == []


def test_a_draft_that_is_being_launched_is_not_deleted_and_its_launch_is_kept(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")

    def launch() -> str:
        with pytest.raises(ConfigError, match="is being launched"):
            delete_draft(tmp_path, draft.id)
        return "run1"

    assert draft.launch_once(0, launch) == "run1"
    delete_draft(tmp_path, draft.id)
    assert restore_draft(tmp_path, draft.id).launches() == ["run1"]


def test_a_draft_that_is_deleted_while_its_text_waits_to_be_saved_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    locked = Draft._locked

    def deleted_first(self: Draft) -> FileLock:
        monkeypatch.setattr(Draft, "_locked", locked)
        lock = locked(self)
        delete_draft(tmp_path, draft.id)
        return lock

    monkeypatch.setattr(Draft, "_locked", deleted_first)
    with pytest.raises(ConfigError, match="does not exist"):
        draft.save("r: 2\n")
    assert list_drafts(tmp_path) == []
    assert restore_draft(tmp_path, draft.id).text() == "r: 1\n"


@pytest.mark.parametrize("then", ["launch", "delete"])
def test_a_draft_that_is_deleted_while_its_lock_is_waited_for_is_neither_launched_nor_deleted_again(
    then: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, launched = new_draft(tmp_path, "r: 1\n"), []

    def launch() -> str:
        launched.append("run1")
        return "run1"

    def deleted_first(*args: Any, **options: Any) -> FileLock:
        monkeypatch.setattr(drafts, "FileLock", FileLock)
        delete_draft(tmp_path, draft.id)
        return FileLock(*args, **options)

    monkeypatch.setattr(drafts, "FileLock", deleted_first)
    with pytest.raises(ConfigError, match="does not exist"):
        draft.launch_once(0, launch) if then == "launch" else delete_draft(tmp_path, draft.id)
    assert launched == []
    assert restore_draft(tmp_path, draft.id).launch_once(0, launch) == "run1"


def test_what_lies_in_a_drafts_old_place_is_not_deleted_when_it_is_brought_back(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    delete_draft(tmp_path, draft.id)
    draft.path.mkdir()
    (draft.path / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="stays in the trash"):
        restore_draft(tmp_path, draft.id)
    assert (draft.path / "thesis.tex").read_text() == "years"
    (draft.path / "thesis.tex").rename(draft.path / "draft.lock")
    assert restore_draft(tmp_path, draft.id).text() == "r: 1\n", "a lock that was left is nothing"


def test_no_draft_is_brought_back_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    draft = new_draft(tmp_path / "drafts", "r: 1\n")
    delete_draft(tmp_path / "drafts", draft.id)
    draft.path.symlink_to(tmp_path / "home")
    with pytest.raises(ConfigError, match="stays in the trash"):
        restore_draft(tmp_path / "drafts", draft.id)
    assert list((tmp_path / "home").iterdir()) == []


def test_no_draft_is_deleted_into_a_linked_bin(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    draft = new_draft(tmp_path / "drafts", "r: 1\n")
    (tmp_path / "drafts/.bin").symlink_to(tmp_path / "home")
    with pytest.raises(FlightdeckError, match="is a symbolic link"):
        delete_draft(tmp_path / "drafts", draft.id)
    assert (draft.text(), list((tmp_path / "home").iterdir())) == ("r: 1\n", [])


def test_texts_behind_a_linked_history_are_not_dropped(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for number in range(1, 4):
        (tmp_path / f"home/{number}.yaml").write_text("somebody's")
    draft = new_draft(tmp_path / "drafts", "r: 1\n")
    shutil.rmtree(draft.path / "history")
    (draft.path / "history").symlink_to(tmp_path / "home")
    with pytest.raises(FlightdeckError, match="symbolic link"):
        draft.save("r: 2\n")
    assert draft.text() == "r: 1\n"
    assert sorted(file.name for file in (tmp_path / "home").iterdir()) == ["1.yaml", "2.yaml", "3.yaml"]


def test_a_file_among_the_launches_that_is_none_is_passed_over(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 1\n")
    draft.launch_once(0, lambda: "run1")
    (draft.path / "launches/0-old").write_text("x")
    assert draft.launches() == ["run1"]


def test_a_launch_that_is_no_text_is_passed_over(tmp_path: Path) -> None:
    draft = new_draft(tmp_path, "r: 4\n")
    draft.launch_once(0, lambda: "a-run")
    (draft.path / "launches" / "1").write_bytes(b"\xff\xfe")
    assert draft.launches() == ["a-run"]
