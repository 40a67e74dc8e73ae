"""The data page through Streamlit's AppTest: what it shows of a file, what it refuses, and what an edit leaves."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.data.kept_reports import keep_report
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from pages.parts.data import asking
from tests.pages.english import ENGLISH, without_code
from tests.pages.screens import charts, show, texts
from tests.pages.stub_worker import StubWorker
from tests.tiny import chats, stub_model, write_rows

pytestmark = pytest.mark.usefixtures("places")

GOOD = json.dumps(chats()[0])


def report(params: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What is counted of the rows of a file as far as lines tell: those that are no JSON are bad."""
    lines = Path(params["path"]).read_text("utf-8").splitlines()
    bad = [
        {"row": row, "line": row, "file": Path(params["path"]).name, "message": Message("no JSON").to_json()}
        for row, line in enumerate(lines, start=1)
        if not line.startswith('{"')
    ]
    found = {
        "form": "messages", "rows": len(lines) - len(bad), "bad_rows": bad, "num_bad_rows": len(bad), "duplicates": 0,
        "notes": [], "sha256": "0",
    }  # fmt: skip
    return found | more


COUNTS = {
    "rows": 8, "is_estimate": False, "tokens": 4000, "trained_tokens": 1000, "longest": 900, "cut": 2, "without_end": 2,
    "behind_cut": 0, "max_length": 512, "truncation": "cut_answer", "lengths": [5, 1, 2], "edges": [256, 512, 900],
    "padded_share": 0.25,
}  # fmt: skip


def drawn_rows(params: dict[str, Any]) -> dict[str, Any]:
    """Three pieces for each row that is asked for."""
    pieces = [
        {"text": "<|user|>", "is_trained": False, "is_special": True},
        {"text": "<b>hi</b>\n", "is_trained": True},
        {"text": "behind", "is_trained": False, "is_cut": True},
    ]
    rows = [{"row": row, "pieces": pieces, "tokens": 12, "trained_tokens": 4} for row in params.get("rows", [3])]
    return {"rows": rows, "count": len(rows), "is_whole": True}


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> StubWorker:
    """In the place of the torch process; each test has its own answers."""
    made = StubWorker({"count_data": report, "show_rows": drawn_rows})
    monkeypatch.setattr(asking, "worker", lambda: made)
    kept = asking.Asked()
    monkeypatch.setattr(asking, "asked", lambda: kept)
    return made


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(stub_model(tmp_path / "model"))


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
    at.button(key="page_right").click().run()
    assert numbers(at) == list(range(11, 21))
    assert at.query_params["page"] == "2"
    at.number_input(key="data-go-to").set_value(24).run()
    assert numbers(at) == [24]
    assert at.query_params["row"] == "24"
    at.button(key="row_left").click().run()
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
    assert any("the line is not JSON" in error.value for error in at.error)
    at.button(key="edit-2").click().run()
    (field,) = at.text_area
    assert field.value == "{broken"
    field.set_value("[1, 2]").run()
    at.button(key="keep-2").click().run()
    assert any("must be a JSON object" in error.value for error in at.error)
    assert at.text_area[0].value == "[1, 2]", "what was typed stays"
    fixed = json.dumps(chats()[1])
    at.text_area[0].set_value(json.dumps(chats()[1], indent=2)).run()
    at.button(key="keep-2").click().run()
    assert "1 row changed" in texts(at)
    at.button(key="leave-3").click().run()
    assert "1 row changed, 1 row left out" in texts(at)
    at.button(key="write_edits").click().run()
    assert not at.error
    (made,) = this_installation().uploads.iterdir()
    assert at.query_params["dataset"] == made.name
    assert made.read_text() == f"{GOOD}\n{fixed}\n"
    assert source.read_text() == f"{GOOD}\n{{broken\n{GOOD}\n"
    assert numbers(at) == [1, 2]


def test_changes_can_be_taken_back_one_by_one_or_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl")
    at.button(key="leave-1").click().run()
    at.button(key="leave-2").click().run()
    at.button(key="restore-1").click().run()
    assert "1 row left out" in texts(at)
    at.button(key="edit-3").click().run()
    at.button(key="leave-4").click().run()
    assert len(at.text_area) == 1, "the row that is open stays open"
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
    assert any("The model m is outside" in warning.value for warning in at.warning)
    at.button(key="use_in_draft").click().run()
    assert at.query_params["draft"] == draft.id


def with_counts(params: dict[str, Any]) -> dict[str, Any]:
    notes = [
        {"code": "cut", "count": 2, "rows": [2, 4]},
        {"code": "without_end", "count": 2, "rows": [2, 4]},
        {"code": "duplicate", "count": 1, "rows": [3]},
    ]
    counts = COUNTS | {"max_length": params["max_length"]} if params["model"] else None
    return report(params, notes=notes, duplicates=1, counts=counts)


def test_a_models_rows_have_trained_special_and_cut_tokens_told_apart(
    tmp_path: Path, model: str, stub: StubWorker
) -> None:
    stub.answers["count_data"] = with_counts
    write_rows(tmp_path / "chats.jsonl", chats(2))
    at = show("data", dataset="chats.jsonl", model=model, max_length="512")
    (params,) = stub.asked_of("show_rows")
    assert params["rows"] == list(range(1, 9))
    assert (params["model"], params["max_length"]) == (model, 512)
    html = drawn(at)
    assert "<mark " in html
    assert "&lt;b&gt;hi&lt;/b&gt;↵\n</mark>" in html, "escaped, and its line end is seen"
    assert "line-through" in html
    assert "behind</del>" in html
    shown = texts(at)
    assert "Row 1: 12 tokens, 4 of them trained on" in shown
    for figure in ("**4,000**", "**1,000 (25%)**", "**900**", "**25%**"):
        assert figure in shown
    at.run()
    assert len(stub.asked) == 2, "what was answered is not asked again"


def test_the_histogram_tells_what_is_cut_and_what_padding_costs(tmp_path: Path, model: str, stub: StubWorker) -> None:
    stub.answers["count_data"] = with_counts
    write_rows(tmp_path / "chats.jsonl", chats(2))
    at = show("data", dataset="chats.jsonl", model=model, max_length="512", view="lengths")
    (chart,) = charts(at)
    kept, cut = chart["data"]
    assert (kept["x"], kept["y"]) == (["1–256", "257–512"], [5, 1])
    assert (cut["x"], cut["y"], cut["name"]) == (["513–900"], [2], "cut")
    said = texts(at)
    assert "2 rows are longer than `max_length` `512`" in said or "2 rows are longer than `max_length` 512" in said
    assert "1.33 times as long" in said
    at.number_input(key="data-max_length").set_value(900).run()
    assert at.query_params["max_length"] == "900"
    assert stub.asked_of("count_data")[-1]["max_length"] == 900


def test_problems_lead_to_their_rows_which_can_be_left_out(tmp_path: Path, model: str, stub: StubWorker) -> None:
    stub.answers["count_data"] = with_counts
    source = write_rows(tmp_path / "chats.jsonl", chats(2))
    source.write_text(source.read_text() + "{broken\n")
    at = show("data", dataset="chats.jsonl", model=model, max_length="512", view="problems")
    assert any("1 row is bad (row 9)" in warning.value for warning in at.warning)
    assert any("repeats an earlier one" in info.value for info in at.info)
    assert {"Show 1 row", "Show 2 rows"} <= {button.label for button in at.button}
    at.button(key="leave-all-duplicate").click().run()
    at.button(key="leave-all-bad").click().run()
    assert "2 rows left out" in texts(at)
    at = show("data", dataset="chats.jsonl", model=model, only="cut")
    assert numbers(at) == [2, 4]
    assert "Only rows that are cut." in texts(at)


def test_a_count_under_way_leaves_the_rows_to_be_read_and_can_be_cancelled(
    tmp_path: Path, model: str, stub: StubWorker
) -> None:
    stub.waits = True
    write_rows(tmp_path / "chats.jsonl", chats(2))
    at = show("data", dataset="chats.jsonl", model=model)
    assert numbers(at) == list(range(1, 9))
    assert "how tall is the tower" in drawn(at), "plain, until they are written"
    for button in [button for button in at.button if str(button.key).startswith("cancel-")]:
        button.click()
        break
    at.run()
    assert len(stub.cancelled) == 1
    assert "Counting was cancelled." in texts(at)
    asked_before = len(stub.asked)
    at.run()
    assert len(stub.asked) == asked_before, "what was cancelled is not asked again by itself"
    next(button for button in at.button if str(button.key).startswith("again-")).click().run()
    assert len(stub.asked) == asked_before + 1


def test_what_the_torch_process_refuses_is_one_sentence_and_not_asked_again(
    tmp_path: Path, model: str, stub: StubWorker
) -> None:
    def refuse(_: dict[str, Any]) -> Any:
        raise DataError("The chat template refuses every row: <b>no</b>")

    stub.answers["count_data"] = refuse
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl", model=model)
    assert any("refuses every row" in warning.value for warning in at.warning)
    at.run()
    assert len(stub.asked_of("count_data")) == 1


def test_a_model_without_a_tokenizer_is_said_and_the_rows_stay_plain(tmp_path: Path, stub: StubWorker) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text("{}")
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl", model=str(tmp_path / "bare"))
    assert any("has no tokenizer" in warning.value for warning in at.warning)
    assert stub.asked_of("show_rows") == []
    assert "how tall is the tower" in drawn(at)


def test_a_form_can_be_overruled_and_columns_mapped(tmp_path: Path, stub: StubWorker) -> None:
    write_rows(tmp_path / "own.jsonl", [{"frage": "how tall", "antwort": "nine metres"}])
    at = show("data", dataset="own.jsonl")
    assert any("match no known form" in error.value for error in at.error)
    at.selectbox(key="data-format-auto").set_value("prompt_completion").run()
    assert at.query_params["data_format"] == "prompt_completion"
    at.selectbox(key="data-column-prompt-–").set_value("frage").run()
    at.selectbox(key="data-column-completion-–").set_value("antwort").run()
    assert json.loads(at.query_params["data_columns"]) == {"prompt": "frage", "completion": "antwort"}
    assert "as you chose" in texts(at)
    assert "prompt" in drawn(at)
    assert "nine metres" in drawn(at)
    assert not at.error


def test_a_search_asks_for_rows_that_hold_the_text(tmp_path: Path, model: str, stub: StubWorker) -> None:
    write_rows(tmp_path / "chats.jsonl", chats(2))
    at = show("data", dataset="chats.jsonl", model=model)
    at.text_input(key="data-search").set_value("green").run()
    assert stub.asked_of("show_rows")[-2]["search"] == "green"
    assert at.query_params["search"] == "green"
    assert numbers(at) == [3]
    assert "Matches: 1" in texts(at)


def test_a_table_is_shown_and_its_edit_is_a_new_file_of_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question,answer\nhow tall,nine metres\nwho,anna\n")
    at = show("data", dataset="t.csv")
    assert "nine metres" in drawn(at)
    at.button(key="leave-2").click().run()
    at.button(key="write_edits").click().run()
    (made,) = this_installation().uploads.iterdir()
    assert made.read_text() == '{"question": "how tall", "answer": "nine metres"}\n'
    assert at.query_params["dataset"] == made.name


def test_a_large_file_is_shown_from_its_beginning_and_not_read_on_the_pages_way(
    tmp_path: Path, stub: StubWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.waits = True
    monkeypatch.setattr("pages.parts.data.subject.MOST_AT_ONCE", 1000)
    monkeypatch.setattr("pages.parts.data.subject.open_row_file", lambda *_: pytest.fail("read whole"))
    write_rows(tmp_path / "chats.jsonl", chats(400))
    at = show("data", dataset="chats.jsonl")
    assert numbers(at) == list(range(1, 11))
    assert "Page 1" in texts(at)


def test_what_was_counted_before_is_there_at_once(tmp_path: Path, stub: StubWorker) -> None:
    path = write_rows(tmp_path / "chats.jsonl", chats(1))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    asked = DataQuestion(str(path))
    keep_report(
        asked, DataReport.read(report({"path": path}, sha256=sha256, rows=4, duplicates=3)), this_installation()
    )
    at = show("data", dataset="chats.jsonl")
    assert stub.asked == []
    assert any("3 duplicates" in str(caption.help) for caption in at.caption)


def test_a_table_of_bad_rows_has_every_column_in_every_language(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text(f"{GOOD}\n{{broken\n")
    for lang in ("en", "zh"):
        at = show("data", dataset="chats.jsonl", view="problems", lang=lang)
        (table,) = at.table
        assert len(set(table.value.columns)) == 4
        assert list(table.value.iloc[0])[:3] == ["chats.jsonl", "2", "2"]


def test_the_tokens_are_a_file_once_somebody_asks_for_it(tmp_path: Path, model: str, stub: StubWorker) -> None:
    line = '{"row": 1, "input_ids": [1], "labels": [-100], "tokens": ["<s>"]}\n'
    stub.answers["write_tokens"] = lambda _: {"text": line, "rows": 1, "is_whole": False}
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl", model=model)
    assert stub.asked_of("write_tokens") == []
    at.button(key="prepare_tokens").click().run()
    assert len(stub.asked_of("write_tokens")) == 1
    (download,) = at.get("download_button")
    assert download.proto.label == "Download"
    assert "1 row. Not all rows are in the file." in texts(at)


def test_an_upload_that_a_draft_cannot_train_on_is_fixed_on_the_data_page(tmp_path: Path) -> None:
    draft = new_draft(this_installation().drafts, "model_name: m\n")
    at = show("config", draft=draft.id)
    at.file_uploader(key=f"data-{draft.id}").set_value(("chats.jsonl", f"{GOOD}\n{{broken".encode(), "application/json")).run()  # fmt: skip
    assert any("max_bad_rows" in error.value for error in at.error)
    at.button(key=f"fix-{draft.id}").click().run()
    assert not at.exception
    (kept,) = this_installation().uploads.iterdir()
    assert (at.query_params["draft"], at.query_params["dataset"]) == (draft.id, kept.name)
    at = show("data", draft=draft.id, dataset=kept.name)
    at.button(key="leave-2").click().run()
    at.button(key="write_edits").click().run()
    at.button(key="use_in_draft").click().run()
    assert "dataset: chats-edited-" in draft.text()


def test_a_data_set_of_the_hubs_cache_is_offered_and_its_edit_is_named_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/datasets--org--talks/snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for name in ("train", "test"):
        write_rows(snapshot / f"{name}.jsonl", chats(1))
    at = show("data")
    assert "org/talks" in at.selectbox(key="data-dataset").options
    draft = new_draft(this_installation().drafts, "model_name: m\ndatasets:\n- path: org/talks\n  split: test\n")
    (snapshot / "test.jsonl").write_text(f"{GOOD}\n{{broken\n")
    at = show("data", draft=draft.id)
    assert numbers(at) == [1, 2]
    at.button(key="edit-2").click().run()
    assert at.text_area[0].value == "{broken"
    at.button(key="leave-2").click().run()
    at.button(key="write_edits").click().run()
    (made,) = this_installation().uploads.iterdir()
    assert made.name.startswith("talks-edited-")
    assert made.read_text() == GOOD + "\n"


def test_what_a_link_leads_to_outside_of_the_roots_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link.jsonl").symlink_to("/etc/passwd")
    for name in ("link.jsonl", "folder"):
        at = show("data", dataset=name)
        (error,) = at.error
        assert "outside" in error.value
        assert "root:" not in drawn(at)


def refusing(params: dict[str, Any]) -> dict[str, Any]:
    note = Message(N_("There is no data set {path}. Check the path."), {"path": "<b>x</b>"}).to_json()  # one of ours
    return {"rows": [{"row": row, "pieces": [], "note": note} for row in params["rows"]], "count": 1, "is_whole": True}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", ["cut.parquet", "latin.jsonl", "empty.jsonl", "quote.csv", "plain.json"])
def test_a_file_that_cannot_be_read_is_said_in_the_readers_language(name: str, lang: str, tmp_path: Path) -> None:
    content = {
        "cut.parquet": b"PAR1 and no more", "latin.jsonl": "{\"text\": \"\xe9\"}\n".encode("latin-1"), "empty.jsonl": b"\n",
        "quote.csv": b'a,b\n"x,y\n', "plain.json": b"[1, 2",
    }  # fmt: skip
    (tmp_path / name).write_bytes(content[name])
    at = show("data", dataset=name, lang=lang)
    said = [error.value for error in at.error] + [warning.value for warning in at.warning]
    assert said
    ours = [re.sub("（.*?）。?", "", without_code(text)) for text in said]  # in brackets: the words of a library
    assert lang == "en" or not any(map(ENGLISH.search, ours)), said


@pytest.mark.parametrize(("lang", "said"), [("en", "There is no data set"), ("zh", "没有数据集")])
def test_why_the_template_refuses_a_row_stands_at_that_row(
    lang: str, said: str, tmp_path: Path, model: str, stub: StubWorker
) -> None:
    stub.answers["show_rows"] = refusing
    write_rows(tmp_path / "chats.jsonl", chats(1))
    at = show("data", dataset="chats.jsonl", model=model, row="2", lang=lang)
    (warning,) = at.warning
    assert said in warning.value
    assert "<b>x" not in warning.value.replace("\\<", "")
    assert "who built the bridge" in drawn(at)
