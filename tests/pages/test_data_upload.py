"""A large data set on the page, uploaded or named by its path: read once, in another process, however often the page runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend import outside
from lora_backend.config.drafts import Draft, new_draft
from lora_backend.data import question_rows, uploads
from lora_backend.installation import this_installation
from pages.parts.draft import upload as data_upload
from tests.data.large import LARGE, ROW
from tests.pages.screens import show, texts

pytestmark = pytest.mark.usefixtures("places")

NUM_ROWS = len(LARGE) // len(ROW)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read in a process of its own; in the page's no row may be parsed."""
    asked: list[str] = []
    call = outside.call

    def counted(function: str, *arguments: Any, **options: Any) -> Any:
        asked.append(str(arguments[0]))
        return call(function, *arguments, **options)

    def parsed(*_: object) -> None:
        raise AssertionError("parsed in the page's process")

    monkeypatch.setattr(outside, "call", counted)
    monkeypatch.setattr(question_rows, "parse_rows", parsed)
    return asked


def page(draft: Draft) -> AppTest:
    at = show("config", draft=draft.id)
    assert not at.exception
    return at


def draft_of(text: str) -> Draft:
    return new_draft(this_installation().drafts, text)


def test_a_large_upload_is_read_once_by_another_process(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[str] = []
    store = uploads.store_upload

    def counted(data: bytes, name: str, *arguments: Any, **options: Any) -> Any:
        stored.append(name)
        return store(data, name, *arguments, **options)

    monkeypatch.setattr(data_upload, "store_upload", counted)
    draft = draft_of("model_name: m\n")
    at = page(draft)
    at.file_uploader(key=f"data-{draft.id}").set_value(("chats.jsonl", LARGE, "application/jsonl")).run()
    for _ in range(3):
        assert any(f"{NUM_ROWS} rows, kept as" in success.value for success in at.success), texts(at)
        at.run()
    assert (len(stored), len(calls)) == (1, 1)
    (button,) = [button for button in at.button if str(button.key).startswith("use-")]
    button.click().run()
    assert not at.exception
    assert "dataset: chats-" in draft.text()
    assert len(calls) == 1, "the check knows the rows already"


def test_what_is_wrong_in_a_large_upload_stays_said_and_is_looked_for_once(calls: list[str]) -> None:
    draft = draft_of("model_name: m\n")
    at = page(draft)
    at.file_uploader(key=f"data-{draft.id}").set_value(("chats.jsonl", LARGE + b"{", "application/jsonl")).run()
    for _ in range(2):
        assert any(f"Line {NUM_ROWS + 1} of chats" in error.value for error in at.error), texts(at)
        at.run()
    assert len(calls) == 1


def test_a_large_data_set_named_by_its_path_is_read_once_too(calls: list[str]) -> None:
    folder = this_installation().uploads
    folder.mkdir(parents=True)
    Path(folder, "chats.jsonl").write_bytes(LARGE)
    at = page(draft_of("model_name: m\ndataset: chats.jsonl\n"))
    assert f"{NUM_ROWS} rows" in texts(at)
    at.run()
    assert not at.exception
    assert len(calls) == 1
