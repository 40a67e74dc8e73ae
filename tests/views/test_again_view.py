"""How a run is made again: the page and `runs show` say the same, from one view."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.commands.run_again import again_lines
from lora_backend.i18n import use_language
from lora_backend.runs.history.reproduce import reproduction
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.again_view import again
from tests.run_files import add_start, make_run
from tests.tiny import chats, write_rows


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    data = write_rows(tmp_path / "rows.jsonl", chats())
    values = {"model_name": "m", "dataset": str(data), "r": 4}
    return make_run(
        tmp_path / "ws/runs", config=values, config_text="model_name: m\n", argv=["a"], data_sha256="0" * 64
    )


def rows(run: RunStore) -> dict[str, tuple[str, str]]:
    with use_language("en"):
        return {row[0].text(): (row[1].text(), row[2].text()) for row in again(reproduction(run)).rows}


def test_each_thing_is_told_as_it_was_then_and_is_now(run: RunStore, tmp_path: Path) -> None:
    found = rows(run)
    assert found["Hash of the data"][0] == "0" * 16
    assert len(found["Hash of the data"][1]) == 16
    (tmp_path / "rows.jsonl").unlink()
    assert rows(run)["Hash of the data"] == ("0" * 16, "cannot be read")
    about = json.loads(run.run_json.read_text())
    run.run_json.write_text(
        json.dumps(about | {"data_sha256": None, "code": None, "versions": {"torch": "0.1", "none-such": "2"}})
    )
    found = rows(run)
    assert found["Hash of the data"][0] == found["Commit of the code"][0] == "not recorded"
    assert found["torch"][0] == "0.1"
    assert found["none-such"] == ("2", "not installed")


def test_a_terminal_shows_all_rows_and_sentences_of_the_view(run: RunStore) -> None:
    add_start(run, versions={"torch": "0.2"}, changes={"r": 8})
    found = reproduction(run)
    view = again(found)
    assert view.notes, "another version, and another r"
    with use_language("en"):
        lines = again_lines(found)
        assert lines[0] == "To reproduce it:"
        assert view.command is not None
        assert view.command in lines[1]
        shown = "\n".join(lines)
        for cell in (*(cell for row in view.rows for cell in row), *view.warnings, *view.notes):
            assert cell.text() in shown
