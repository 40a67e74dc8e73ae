"""Exports that were replaced: in the bin with where they were, put back, or gone for good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.errors import RunError
from lora_backend.installation import this_installation
from lora_backend.runs.history.replaced_exports import ENTRY, ExportBin


@pytest.fixture
def trash(workspace: Path) -> ExportBin:
    return ExportBin(this_installation())


def test_a_file_and_a_folder_come_back_where_they_were(trash: ExportBin, workspace: Path) -> None:
    places = [workspace / "out/mine.zip", workspace / "out/mine"]
    places[0].parent.mkdir(parents=True)
    places[0].write_bytes(b"zip")
    places[1].mkdir()
    (places[1] / "file").write_text("x")
    for place in places:
        trash.put(place, "the-job")
    assert not any(place.exists() for place in places)
    found = trash.list()
    assert {binned.place for binned in found} == set(map(str, places))
    assert {binned.replaced_by for binned in found} == {"the-job"}
    for binned in found:
        trash.restore(binned.id)
    assert places[0].read_bytes() == b"zip"
    assert (places[1] / "file").read_text() == "x"
    assert trash.list() == []


def test_it_goes_nowhere_that_nobody_may_export_to(trash: ExportBin, workspace: Path, tmp_path: Path) -> None:
    place = workspace / "mine.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"zip")
    binned = trash.put(place, "job")
    entry = binned.path.parent / ENTRY
    facts = json.loads(entry.read_text())
    entry.write_text(json.dumps(facts | {"place": str(tmp_path / "elsewhere.zip")}))
    with pytest.raises(RunError, match="outside the output folders"):
        trash.restore(binned.id)
    entry.write_text(json.dumps(facts))
    place.write_bytes(b"another")
    with pytest.raises(RunError, match="exists again"):
        trash.restore(binned.id)
    with pytest.raises(RunError, match="There is no export"):
        trash.restore("../../x")
    assert place.read_bytes() == b"another"


def test_emptied_it_is_gone(trash: ExportBin, workspace: Path) -> None:
    place = workspace / "mine.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"zip")
    trash.put(place, "job")
    assert trash.empty() == 1
    assert list(trash.folder.iterdir()) == []
