"""Where an export may be: nothing that is not an export of ours is ever replaced, written into or left through a link."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import DiskFullError
from lora_backend.preflight.export_place import (
    CARD_MARK,
    MARKER,
    ZIP_MARK,
    ExportError,
    ExportPlace,
    export_place,
    is_export,
    refuse_what_stands,
)
from lora_backend.preflight.export_room import ExportRoom
from lora_backend.runs.record.job_documents import ExportRequest
from lora_backend.shipping.staged_export import put, staging
from tests.world import HOSTILE, RUN, World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


def judged(world: World, output: str, to: Any = "adapter", **more: Any) -> ExportPlace:
    request = ExportRequest(adapter=str(world.root / "an-adapter"), to=to, output=output, **more)
    return export_place(request, world.root / "job" / "output", "name", world.installation)


def sentence(world: World, output: str, to: Any = "adapter", **more: Any) -> str:
    try:
        refuse_what_stands(judged(world, output, to, **more), may_replace=True)
    except ExportError as error:
        return str(error)
    return "it may be there"


@pytest.mark.parametrize("folder", ["runs", "drafts", "bin", "queue", "leases", "data", "chats", "uploaded_adapters", "runs/" + RUN, "RUNS", "Bin/x"])  # fmt: skip
def test_folders_of_flightdeck_are_refused(world: World, folder: str) -> None:
    for output in (world.installation.workspace / folder, world.installation.workspace / folder / "mine.zip"):
        assert "for other files" in sentence(world, str(output), bound=True)


def test_models_adapters_and_what_holds_other_places_are_refused(world: World) -> None:
    adapter = world.root / "an-adapter"
    adapter.mkdir()
    assert "contains a model or an adapter" in sentence(world, str(world.root / "models/m/export"))
    assert "contains a model or an adapter" in sentence(world, str(world.installation.workspace / "adapters/shop/1/export"))  # fmt: skip
    assert "is the adapter's own folder" in sentence(world, str(adapter))
    assert "is the adapter's own folder" in sentence(world, str(adapter / "export.zip"))
    for output in (world.installation.workspace, world.root, world.root / "home", Path("/")):
        assert "Choose another place" in sentence(world, str(output))


def test_a_browser_stays_below_the_output_roots(world: World) -> None:
    outside = str(world.root / "elsewhere" / "mine")
    assert "must be below" in sentence(world, outside, bound=True)
    assert judged(world, outside).standing == "nothing"
    assert judged(world, str(world.installation.workspace / "exports/mine.zip"), bound=True).is_file


def test_the_forms_of_each_target(world: World) -> None:
    folder = world.root / "elsewhere"
    (folder / "folder.zip").mkdir(parents=True)
    (folder / "file").write_text("mine")
    assert "is a folder, but the export is a file" in sentence(world, str(folder / "folder.zip"))
    assert "is a file, but the export is a folder" in sentence(world, str(folder / "file"))
    assert "is a file, so nothing can be written below it" in sentence(world, str(folder / "file" / "mine"))
    assert "It takes a file that ends in .gguf" in sentence(world, str(folder / "mine"), "gguf")
    assert "It takes a folder." in sentence(world, str(folder / "mine.zip"), "merged")
    assert "It takes a folder, or a file that ends in .md" in sentence(world, str(folder / "mine.zip"), "card")
    forms = {("adapter", "x"): False, ("adapter", "x.zip"): True, ("merged", "x"): False, ("gguf", "x.gguf"): True, ("card", "x.md"): True, ("card", "x"): False}  # fmt: skip
    assert {(to, name): judged(world, str(folder / name), to).is_file for to, name in forms} == forms


def test_a_link_and_a_folder_without_rights_are_refused(world: World) -> None:
    folder = world.root / "elsewhere"
    folder.mkdir()
    (folder / "link").symlink_to(world.root / "home")
    assert "is a link" in sentence(world, str(folder / "link"))
    closed = folder / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid():
        assert "is not writable" in sentence(world, str(closed / "mine"))


def test_without_a_place_it_goes_below_the_job(world: World) -> None:
    request = ExportRequest(adapter="/a", to="adapter")
    found = {}
    for to in ("adapter", "merged", "gguf", "card"):
        found[to] = export_place(request.but(to=to), world.root / "job/output", "shop", world.installation)
    assert {to: place.path.name for to, place in found.items()} == {"adapter": "shop.zip", "merged": "shop", "gguf": "shop.gguf", "card": "README.md"}  # fmt: skip
    assert {place.path.parent for place in found.values()} == {world.root / "job/output"}


def test_only_an_export_of_ours_is_replaced(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{}")
    (ours / MARKER).write_text(json.dumps({"to": "adapter", "files": {"adapter_config.json": 2}}))
    assert (is_export(ours), is_export(theirs)) == (True, False)
    (ours / "notes.txt").write_text("somebody's")
    assert not is_export(ours), "a file of somebody's would go along"
    (ours / "notes.txt").unlink()
    (ours / "inside").mkdir()
    assert not is_export(ours)
    for name, data, expected in (
        ("a.gguf", b"GGUF....flightdeck.export", True), ("b.gguf", b"GGUF....", False), ("c.gguf", b"flightdeck.export", False),
        ("a.md", f"---\n---\n{CARD_MARK}\n".encode(), True), ("b.md", b"# mine", False), ("a.txt", CARD_MARK.encode(), False),
        ("a.zip", b"PK..." + ZIP_MARK, True), ("b.zip", b"PK" + ZIP_MARK + b".", False),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        assert is_export(tmp_path / name) is expected, name
    (tmp_path / "link.zip").symlink_to(tmp_path / "a.zip")
    assert not is_export(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "theirs.zip", "w") as packed:
        packed.writestr("a", "b")
    assert not is_export(tmp_path / "theirs.zip")


@pytest.mark.parametrize("bound", [True, False])
def test_whatever_is_named_nothing_of_anybody_is_lost(world: World, bound: bool) -> None:
    before, done = world.snapshot(), 0
    for value in HOSTILE:
        output = world.of(value)
        for written in (output, str(world.installation.workspace / output) if "\0" not in output else output):
            try:
                place = judged(world, written, bound=bound)
                refuse_what_stands(place, may_replace=True)
                if place.path.is_relative_to(world.root):
                    with staging(place.path) as staged:
                        (staged / "made").mkdir()
                        put(staged / "made", place, "job", world.installation)
                    done += 1
            except (ExportError, OSError):
                continue
    assert world.lost(before) == []
    assert done > 10, "some of them are places like any other"


def test_too_little_room_is_a_sentence_with_figures() -> None:
    room = ExportRoom(needed_bytes=3 * 2**30, free_bytes=2**30, folder=Path("/data"))
    with pytest.raises(DiskFullError, match=r"^This export needs 3\.06 GiB, but /data has only 1\.00 GiB free\. Free some space, or choose another place\.$"):  # fmt: skip
        room.refuse_too_little()
    ExportRoom(2**20, 2**30, Path("/data")).refuse_too_little()
