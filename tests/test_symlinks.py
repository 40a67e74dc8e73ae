"""A link in a folder of ours is followed by nobody, and one in a model's folder only within the roots."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from lora_backend.atomic import write_atomic
from lora_backend.bounded import open_regular
from lora_backend.runs.record.locked_files import append_jsonl, lock_file, open_to_append, read_json, read_jsonl
from lora_backend.symlinks import (
    LinkRefusedError,
    is_unlinked_file,
    is_unlinked_folder,
    links_below,
    open_unlinked,
    refuse_ways_out,
)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.json").write_text('{"secret": 1}\n')
    (tmp_path / "run").mkdir()
    return folder


@pytest.mark.parametrize("way", ["file", "folder", "within"])
def test_neither_a_linked_file_nor_one_in_a_linked_folder_is_opened(way: str, tmp_path: Path, outside: Path) -> None:
    path = tmp_path / "run/a.json"
    if way == "file":
        path.symlink_to(outside / "a.json")
    elif way == "within":
        (tmp_path / "run/b.json").write_text('{"secret": 1}\n')
        path.symlink_to("b.json")
    else:
        path = tmp_path / "run/attempts/a.json"
        path.parent.symlink_to(outside)
    named = path.parent if way == "folder" else path
    for open_it in (
        lambda: open_regular(path, follow=False),
        lambda: open_unlinked(path, os.O_RDONLY),
        lambda: open_to_append(path),
    ):
        with pytest.raises(LinkRefusedError, match=f"{named} is a symbolic link, which is not followed here"):
            open_it()
    assert not is_unlinked_file(path)
    assert read_json(path) is None
    assert list(read_jsonl(path)) == []


def test_a_file_and_a_missing_one_are_opened_as_ever(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert is_unlinked_file(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError) as raised:
        open_unlinked(tmp_path / "b", os.O_RDONLY)
    assert raised.value.filename == str(tmp_path / "b")
    with pytest.raises(NotADirectoryError):
        open_unlinked(tmp_path / "a.json/b", os.O_RDONLY)


def test_what_adds_to_a_file_or_locks_it_makes_none_behind_a_link(tmp_path: Path, outside: Path) -> None:
    link = tmp_path / "run/metrics.jsonl"
    link.symlink_to(outside / "new")
    with pytest.raises(LinkRefusedError):
        append_jsonl(link, {"step": 1})
    with pytest.raises(LinkRefusedError), lock_file(link):
        pass
    assert os.listdir(outside) == ["a.json"]  # noqa: PTH208


def test_a_file_that_replaces_a_link_leaves_what_it_named(tmp_path: Path, outside: Path) -> None:
    link = tmp_path / "run/labels.json"
    link.symlink_to(outside / "a.json")
    write_atomic(link, "new")
    assert (outside / "a.json").read_text() == '{"secret": 1}\n'
    assert not link.is_symlink()
    assert link.read_text() == "new"


def test_nothing_is_written_into_a_linked_folder(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "run/attempts").symlink_to(outside)
    with pytest.raises(LinkRefusedError, match="attempts is a symbolic link"):
        write_atomic(tmp_path / "run/attempts/1.json", "{}")
    assert os.listdir(outside) == ["a.json"]  # noqa: PTH208


def test_a_link_that_comes_and_goes_is_never_followed(tmp_path: Path, outside: Path) -> None:
    """The look and the opening are one step: whoever swaps a folder for a link in between gains nothing."""
    place, done = tmp_path / "run/attempts", threading.Event()
    ours = tmp_path / "run/ours"
    ours.mkdir()
    (ours / "a.json").write_text('{"ours": 1}')

    def swap() -> None:
        while not done.is_set():
            ours.rename(place)
            place.rename(ours)
            place.symlink_to(outside)
            place.unlink()

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        found = [read_json(place / "a.json") for _ in range(3000)]
    finally:
        done.set()
        swapper.join()
    assert not [one for one in found if one and "secret" in one]


def test_links_are_named_by_their_place_and_not_entered(tmp_path: Path, outside: Path) -> None:
    run = tmp_path / "run"
    (run / "attempts").mkdir()
    (run / "theirs").mkdir()
    (run / "attempts/1.json").symlink_to(outside / "a.json")
    (run / "theirs/x").symlink_to(outside / "a.json")
    (run / "adapter").symlink_to(outside)
    (outside / "inner").symlink_to(outside / "a.json")
    assert links_below(run) == ["adapter", "attempts/1.json", "theirs/x"]
    assert links_below(run, ("attempts", "adapter")) == ["adapter", "attempts/1.json"]
    assert links_below(run / "adapter") == []
    assert is_unlinked_folder(run)
    assert not is_unlinked_folder(run / "adapter")


def test_a_snapshot_of_the_hubs_cache_passes_and_a_link_out_of_the_roots_does_not(
    tmp_path: Path, outside: Path
) -> None:
    cache = tmp_path / "hub"
    snapshot = cache / "models--a--b/snapshots/1234"
    snapshot.mkdir(parents=True)
    (cache / "models--a--b/blobs").mkdir()
    (cache / "models--a--b/blobs/abcd").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abcd")
    refuse_ways_out(snapshot, (cache,))
    (snapshot / "tokenizer.json").symlink_to(outside / "a.json")
    with pytest.raises(
        LinkRefusedError,
        match=rf"^tokenizer.json in {snapshot} is a symbolic link to a place outside the allowed folders",
    ):
        refuse_ways_out(snapshot, (cache,))
    refuse_ways_out(snapshot, (cache, outside))
