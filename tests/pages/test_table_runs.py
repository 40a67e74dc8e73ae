"""Many runs from a table on the config page: the preview, what is refused, and that no row is started twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import Draft, delete_draft, new_draft
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.planning.cost.profile import Profile
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.runs.record.run_labels import read_labels
from lora_backend.runs.record.run_store import list_runs
from lora_backend.runs.record.transitions import request_stop
from pages.parts.draft import table as table_runs
from tests.pages.plan_page import SMALL, TIGHT, profile_of
from tests.pages.screens import show
from tests.preflight.machines import on
from tests.run_files import attempt_of, record_of
from tests.tiny import stub_model


def no_trace(facts: Mapping[str, object], config: TrainingConfig) -> Profile:
    raise ModelError("no trace here, so there is no plan")


@pytest.fixture
def draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Draft]:
    """A draft on a machine whose CPU another run has, so that all of its runs wait."""
    for name, place in (("WORKSPACE", "ws"), ("HOME", "home"), ("MODEL_ROOTS", ""), ("DATA_ROOTS", "")):
        monkeypatch.setenv(f"FLIGHTDECK_{name}", str(tmp_path / place))
    monkeypatch.setattr(table_runs, "trace_within", lambda status: no_trace)
    stub_model(tmp_path / "m")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    leases = take(leases_folder(this_installation().workspace), ["cpu"], tmp_path / "other")
    assert leases
    yield new_draft(this_installation().drafts, f"model_name: {tmp_path / 'm'}\ndataset: a.jsonl\nr: 4\npkg: shop\n")
    for run in list_runs(this_installation().runs):
        request_stop(run)
    release(leases)


def with_table(draft: Draft, table: str) -> AppTest:
    at = show("config", draft=draft.id)
    at.text_area(key=f"table-{draft.id}").set_value(table)
    at.run()
    assert not at.exception
    return at


def preview_of(at: AppTest) -> dict[str, list[object]]:
    found = next(table.value for table in at.dataframe if "Verdict" in table.value)
    return {str(name): list(column) for name, column in found.items()}


def test_every_row_is_shown_as_what_it_will_be_and_started_once(draft: Draft) -> None:
    at = with_table(draft, "name\tversion\tr\none\t1\t8\ntwo\t2\t\n")
    rows = preview_of(at)
    assert (rows["Line"], rows["Name"], rows["version"]) == ([2, 3], ["one", "two"], ["1", "2"])
    assert rows["Verdict"] == ["✓ can start"] * 2
    at.button(key="start_table").click().run()
    runs = list_runs(this_installation().runs)
    assert sorted(str(record_of(run)["name"]) for run in runs) == ["one", "two"]
    assert [read_labels(run.path).tags for run in runs] == [[f"table-{draft.id}"]] * len(runs)
    assert at.query_params["filter"] == f"table-{draft.id}", "the table of runs shows these"

    again = with_table(draft, "name\tversion\tr\none\t1\t8\ntwo\t2\t\n")
    assert again.button(key="start_table").disabled
    assert all(str(verdict).startswith("started as ") for verdict in preview_of(again)["Verdict"])
    again.text_input(key=f"table-tag-{draft.id}").set_value("once more").run()
    assert not again.button(key="start_table").disabled
    assert len(list_runs(this_installation().runs)) == 2


def test_a_mended_row_starts_alone(draft: Draft) -> None:
    table = "name\tversion\tdataset\none\t1\t\ntwo\t2\tb.jsonl\n"
    data = this_installation().data_roots[0] / "b.jsonl"
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    at = with_table(draft, table)
    data.unlink()
    at.button(key="start_table").click().run()
    assert any("Line 3" in error.value for error in at.error)
    assert at.status[0].proto.expanded, "why it was refused is not hidden in a closed box"
    assert len(list_runs(this_installation().runs)) == 1
    at = with_table(draft, table.replace("b.jsonl", "a.jsonl"))
    assert [str(verdict)[:1] for verdict in preview_of(at)["Verdict"]] == ["s", "✓"]
    at.button(key="start_table").click().run()
    assert len(list_runs(this_installation().runs)) == 2


def test_a_row_with_an_error_is_named_and_nothing_can_be_started(draft: Draft) -> None:
    at = with_table(draft, "version,r\n1,8\n2,x\n1,4\n")
    good, bad, same = preview_of(at)["Verdict"]
    assert str(good).startswith("✓")
    assert (bad, same) == ("✗ r", "✗ see below")
    assert at.button(key="start_table").disabled
    assert any("Rows with errors: 2" in warning.value for warning in at.warning)
    said = [caption.value for caption in at.caption]
    assert any(text.startswith("Line 3: ") and "`r`" in text for text in said), said
    assert any(text.startswith("Line 4: ") and "line 2" in text for text in said)


def asked(at: AppTest) -> list[str]:
    """Questions about tight plans; what the page says of the base config alone is none."""
    said = [str(warning.value) for warning in at.warning]
    return [text for text in said if "Tight: " in text and "asks once" not in text]


def test_rows_that_are_tight_are_asked_about_once_for_all_of_them(
    draft: Draft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_model(tmp_path / "m", SMALL)
    on(monkeypatch, TIGHT)
    monkeypatch.setattr(table_runs, "trace_within", lambda status: lambda facts, config: profile_of(config))
    at = with_table(draft, "version,batch_size\n1,4\n2,1\n3,4\n")
    at.button(key="start_table").click().run()
    assert list_runs(this_installation().runs) == [], "nothing is started before the answer"
    (said,) = asked(at)
    assert said.startswith("2 of 3 rows are tight. Line 2: Tight: ")
    assert "Line 4: Tight: " in said
    at.button(key="start_table_anyway").click().run()
    accepted = {
        record_of(run)["config"]["version"]: attempt_of(run).get("accepted")
        for run in list_runs(this_installation().runs)
    }
    assert accepted == {"1": "tight", "2": None, "3": "tight"}
    again = with_table(draft, "version,batch_size\n1,4\n2,1\n3,4\n4,4\n")
    assert preview_of(again)["Verdict"][3] == "⚠ tight"
    again.button(key="start_table").click().run()
    (said,) = asked(again)
    assert said.startswith("Tight: "), "what was started before is not asked about again"


def test_a_table_that_is_none_is_a_sentence(draft: Draft) -> None:
    at = with_table(draft, "version\n")
    assert any("no rows" in error.value for error in at.error)


def test_an_uploaded_table_in_another_encoding_is_a_sentence(draft: Draft) -> None:
    at = show("config", draft=draft.id)
    at.file_uploader(key=f"table-file-{draft.id}").set_value(("runs.csv", "版本,r\n1,8\n".encode("gbk"), "text/csv"))
    at.run()
    assert any("runs.csv is not UTF-8 text" in error.value for error in at.error)


def test_a_reload_loses_neither_the_table_nor_its_tag(draft: Draft) -> None:
    at = with_table(draft, "version,r\n1,8\n")
    at.text_input(key=f"table-tag-{draft.id}").set_value("sweep").run()
    again = show("config", draft=draft.id)
    assert again.text_area(key=f"table-{draft.id}").value == "version,r\n1,8\n"
    assert again.text_input(key=f"table-tag-{draft.id}").value == "sweep"
    assert preview_of(again)["Verdict"] == ["✓ can start"]
    again.text_input(key=f"table-tag-{draft.id}").set_value("").run()
    assert show("config", draft=draft.id).text_input(key=f"table-tag-{draft.id}").value == "", "no tag was a choice too"


def test_an_uploaded_table_can_be_mended_in_the_field(draft: Draft) -> None:
    at = show("config", draft=draft.id)
    uploaded = ("runs.csv", "\ufeffversion,r\n1,x\n".encode(), "text/csv")
    at.file_uploader(key=f"table-file-{draft.id}").set_value(uploaded).run()
    assert at.text_area(key=f"table-{draft.id}").value == "version,r\n1,x\n"
    at.text_area(key=f"table-{draft.id}").set_value("version,r\n1,8\n").run()
    assert preview_of(at)["Verdict"] == ["✓ can start"]


def test_a_table_of_a_draft_that_is_gone_is_a_sentence(draft: Draft) -> None:
    at = show("config", draft=draft.id)
    delete_draft(this_installation().drafts, draft.id)
    at.text_area(key=f"table-{draft.id}").set_value("version\n1\n").run()
    assert not at.exception
    assert any("does not exist" in warning.value for warning in at.warning)


def test_a_tag_of_one_tab_takes_no_table_of_another(draft: Draft) -> None:
    one, other = show("config", draft=draft.id), show("config", draft=draft.id)
    one.text_area(key=f"table-{draft.id}").set_value("version\n1\n").run()
    other.text_input(key=f"table-tag-{draft.id}").set_value("sweep").run()
    assert (draft.table(), draft.table_tag()) == ("version\n1\n", "sweep")
