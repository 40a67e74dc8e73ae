"""The data page through Streamlit's AppTest: what it shows of a file, what it refuses, and what an edit leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.installation import this_installation
from tests.pages.screens import show, texts
from tests.tiny import chats, write_rows

pytestmark = pytest.mark.usefixtures("places")

GOOD = json.dumps(chats()[0])


def drawn(at: AppTest) -> str:
    """The HTML of the rows."""
    return "\n".join(element.proto.body for element in at.get("html") if "<div" in element.proto.body)


def numbers(at: AppTest) -> list[int]:
    """Rows that are on the page, by their buttons."""
    keys = (str(button.key) for button in at.button)
    return [int(key.removeprefix("edit-")) for key in keys if key.startswith("edit-")]


def test_rows_are_shown_as_plain_turns_without_a_model_a_page_at_a_time(tmp_path: Path) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(6))
    at = show("data", dataset="chats.jsonl")
    assert numbers(at) == list(range(1, 11))
    assert "how tall is the tower" in drawn(at)
    at.button(key="page_after").click().run()
    assert numbers(at) == list(range(11, 21))
    assert at.query_params["page"] == "2"
    at.number_input(key="data-go-to").set_value(24).run()
    assert numbers(at) == [24]
    assert at.query_params["row"] == "24"
    at.button(key="row_before").click().run()
    assert numbers(at) == [23]


def test_what_a_row_holds_is_text_on_the_page(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)><b>**bold**</b>\u202e"
    write_rows(tmp_path / "x.jsonl", [{"messages": [{"role": hostile, "content": hostile}], hostile: hostile}])
    at = show("data", dataset="x.jsonl")
    assert "<img" not in drawn(at)
    assert "<b>" not in drawn(at)
    assert "&lt;img" in drawn(at)
    assert "\\u202e" in drawn(at)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("gone.jsonl", {"en": "There is no data set", "zh": "没有数据集"}),
        ("/etc/passwd", {"en": "outside the folders", "zh": "之外"}),
        ("../../../etc/passwd", {"en": "outside the folders", "zh": "之外"}),
        ("a\x00b", {"en": "outside the folders", "zh": "之外"}),
    ],
)
def test_a_data_set_that_cannot_be_shown_is_one_sentence(dataset: str, said: dict[str, str], lang: str) -> None:
    at = show("data", dataset=dataset, lang=lang)
    (error,) = at.error
    assert said[lang] in error.value


def test_a_bad_row_is_fixed_another_left_out_and_both_are_in_a_new_file(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_text(f"{GOOD}\n{{broken\n{GOOD}\n")
    at = show("data", dataset="chats.jsonl")
    assert "not JSON" in at.error[0].value
    at.button(key="edit-2").click().run()
    (field,) = at.text_area
    assert field.value == "{broken"
    field.set_value("[1, 2]").run()
    at.button(key="keep-2").click().run()
    assert any("must be a JSON object" in error.value for error in at.error)
    assert at.text_area[0].value == "[1, 2]", "what was typed stays"
    at.text_area[0].set_value('{"prompt": "a", "completion": "b"}').run()
    at.button(key="keep-2").click().run()
    assert "1 row changed" in texts(at)
    at.button(key="leave-3").click().run()
    assert "1 row changed, 1 row left out" in texts(at)
    at.button(key="write_edits").click().run()
    assert not at.error
    (made,) = this_installation().uploads.iterdir()
    assert at.query_params["dataset"] == made.name
    assert made.read_text() == f'{GOOD}\n{{"prompt": "a", "completion": "b"}}\n'
    assert source.read_text() == f"{GOOD}\n{{broken\n{GOOD}\n"
    assert numbers(at) == [1, 2]


def test_changes_can_be_taken_back_one_by_one_or_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl")
    at.button(key="leave-1").click().run()
    at.button(key="leave-2").click().run()
    at.button(key="restore-1").click().run()
    assert "1 row left out" in texts(at)
    at.button(key="discard_edits").click().run()
    assert "left out" not in texts(at)
    assert not this_installation().uploads.exists()


def test_edits_of_one_file_are_none_of_another(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write_rows(tmp_path / name, chats(1))
    at = show("data", dataset="a.jsonl")
    at.button(key="leave-1").click().run()
    at.query_params["dataset"] = "b.jsonl"
    at.run()
    assert "left out" not in texts(at)


def test_an_upload_with_bad_rows_is_kept_and_shown(tmp_path: Path) -> None:
    at = show("data")
    at.file_uploader(key="data_upload").set_value(
        ("chats.jsonl", f"{GOOD}\n{{broken".encode(), "application/json")
    ).run()
    assert not at.exception
    assert at.query_params["dataset"].startswith("chats-")
    assert numbers(at) == [1, 2]


def test_an_upload_that_is_no_data_set_is_one_sentence() -> None:
    at = show("data")
    at.file_uploader(key="data_upload").set_value(("chats.jsonl", b"", "application/json")).run()
    assert [error.value for error in at.error] == ["chats.jsonl is empty."]


def test_the_data_set_goes_into_a_new_draft_or_one_that_is_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(1))
    draft = new_draft(this_installation().drafts, "# mine\nmodel_name: m\nr: 4\n")
    at = show("data", dataset="chats.jsonl")
    at.selectbox(key="use_draft").set_value(draft.id).run()
    at.button(key="use_in_chosen").click().run()
    assert draft.text() == "# mine\nmodel_name: m\nr: 4\ndataset: chats.jsonl\n"
    at = show("data", dataset="chats.jsonl", model="org/other")
    at.button(key="use_in_new").click().run()
    made = open_draft(this_installation().drafts, at.query_params["draft"])
    assert made.text() == "model_name: org/other\ndataset: chats.jsonl\n"


def test_a_drafts_data_is_shown_by_the_drafts_address(tmp_path: Path) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(1))
    draft = new_draft(this_installation().drafts, "model_name: m\ndataset: chats.jsonl\n")
    at = show("data", draft=draft.id)
    assert numbers(at) == [1, 2, 3, 4]
    assert any("The model m lies outside" in warning.value for warning in at.warning)
    at.button(key="use_in_draft").click().run()
    assert at.query_params["draft"] == draft.id
