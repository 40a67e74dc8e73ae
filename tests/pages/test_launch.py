"""A launch from a draft that is refused: each refusal has its way on, one click away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft, new_draft
from lora_backend.installation import this_installation
from lora_backend.launching import launch
from lora_backend.models.tree import ModuleTree
from lora_backend.preflight.trees import tree_of
from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.run_store import RunStore
from pages.parts.draft import session
from tests.pages.plan_page import SMALL, TIGHT, profile_of
from tests.pages.screens import finished_run, show, texts
from tests.preflight.machines import on
from tests.tiny import stub_model, write_rows

pytestmark = pytest.mark.usefixtures("places")

Attempts = list[dict[str, Any]]


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """What would have been started: planned as ever, with the torch process and the supervisor replaced at their edges."""
    stub_model(tmp_path / "small", SMALL)
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}] * 4)
    started: Attempts = []

    def start_run(request: object, path: object, argv: object, attempt: Attempt) -> RunStore:
        started.append(attempt.to_json())
        return finished_run()

    monkeypatch.setattr(launch, "start_run", start_run)
    monkeypatch.setattr("pages.parts.draft.launch.trace_within", lambda _: lambda _, config: profile_of(config))
    return started


def draft_of(folder: Path, **keys: Any) -> Draft:
    values = {"model_name": str(folder / "small"), "dataset": str(folder / "rows.jsonl"), **keys}
    return new_draft(
        this_installation().drafts,
        "# mine\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()),
    )


def launched(draft: Draft) -> AppTest:
    at = show("config", draft=draft.id)
    at.button(key="launch").click().run()
    assert not at.exception, at.exception
    return at


def test_a_map_with_a_gpu_that_is_gone_is_refused_and_made_anew_with_one_click(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path, batch_size=1, max_length=512, device_map={"model": 2, "lm_head": 0})
    on(monkeypatch, "6,6")
    at = show("config", draft=draft.id)
    assert at.button(key="launch").disabled
    assert "`device_map` names GPU 2, but this machine has 2" in texts(at)
    (anew,) = [button for button in at.button if button.key.startswith("unblock-0-no_such_device")]
    anew.click().run()
    assert draft.text().startswith("# mine")
    values = parse_config(draft.text()).values
    assert "device_map" not in values
    assert values["use_balanced_device_map"] is True
    at.button(key="launch").click().run()
    (attempt,) = attempts
    assert set(attempt["plan"]["device_map"].values()) == {0, 1}


BIG = {"batch_size": 16, "max_length": 2048}


def test_what_does_not_fit_is_asked_about_and_the_best_remedy_is_one_click(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path, **BIG)
    on(monkeypatch, "12")
    at = launched(draft)
    assert attempts == []
    assert any(item.value.startswith("It does not fit: GPU 0 (12 GiB)") for item in at.warning)
    change = at.button(key="apply_remedy")
    assert any(f"{change.label.removeprefix('Change it: ')} saves" in item.value for item in at.caption)
    change.click().run()
    assert draft.text().startswith("# mine")
    before = {"model_name": str(tmp_path / "small"), "dataset": str(tmp_path / "rows.jsonl"), **BIG}
    values = parse_config(draft.text()).values
    changed = {key: value for key, value in values.items() if before.get(key) != value}
    assert ", ".join(f"{key}: {json.dumps(value)}" for key, value in changed.items()).replace('"', "") in change.label
    assert not {"apply_remedy", "start_anyway"} & {button.key for button in at.button}
    at.button(key="launch").click().run()
    (attempt,) = attempts
    assert attempt["plan"]["fits"]
    assert "anyway" not in attempt


def test_what_does_not_fit_starts_all_the_same_where_that_is_asked_for_and_is_not_asked_about_again(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path, **BIG)
    on(monkeypatch, "12")
    at = launched(draft)
    text = draft.text()
    at.button(key="start_anyway").click().run()
    (attempt,) = attempts
    assert attempt["anyway"] is True
    assert not attempt["plan"]["fits"]
    assert draft.text() == text
    assert len(draft.launches()) == 1
    assert session.IN_DOUBT not in at.session_state


def test_what_is_tight_is_asked_about_once_and_said_before(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path)
    on(monkeypatch, TIGHT)
    at = launched(draft)
    assert attempts == []
    assert [item.value.startswith("Tight: ") for item in at.warning] == [True], (
        "and not said a second time as a warning"
    )
    assert at.button(key="apply_remedy")
    again = show("config", draft=draft.id)
    assert not again.button(key="launch").disabled, "its cost is known now: a warning, and no blocker"
    assert any(item.value.startswith("Tight: ") and "asks once" in item.value for item in again.warning)
    again.button(key="launch").click().run()
    assert [item.value.startswith("Tight: ") for item in again.warning] == [True], "said once, by the question"
    at.button(key="start_anyway").click().run()
    (attempt,) = attempts
    assert attempt["accepted"] == attempt["plan"]["verdict"] == "tight"
    assert "anyway" not in attempt, "it still waits for whoever has its GPU"
    assert len(draft.launches()) == 1
    assert session.IN_DOUBT not in at.session_state


def test_who_accepts_what_is_tight_is_asked_again_where_it_does_not_fit_any_more(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path)
    on(monkeypatch, TIGHT)
    at = launched(draft)
    on(monkeypatch, "6")
    at.button(key="start_anyway").click().run()
    assert attempts == []
    assert any(item.value.startswith("It does not fit: ") for item in at.warning)


def test_a_gpu_that_goes_while_the_question_stands_is_said_after_start_anyway(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path, device_map={"": 1}, **BIG)
    on(monkeypatch, "12,12")
    at = launched(draft)
    on(monkeypatch, "12")
    at.button(key="start_anyway").click().run()
    assert attempts == []
    assert texts(at).count("names GPU 1, but this machine has 1") == 1
    assert at.button(key="unblock-0-no_such_device-0")


def test_two_things_that_are_wrong_with_the_model_share_one_button(tmp_path: Path, attempts: Attempts) -> None:
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5/config.json").write_text('{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}')
    at = show("config", draft=draft_of(tmp_path, model_name=str(tmp_path / "t5")).id)
    assert not at.exception, at.exception
    assert "encoder-decoder (t5)" in texts(at)
    assert "no weights" in texts(at)
    assert len([box for box in at.selectbox if str(box.key).startswith("model-")]) == 1


def test_what_planning_finds_wrong_with_the_modules_stands_where_the_check_says_it(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(tmp_path, modules_to_save=["nonsense"])
    proj = "model.layers.0.self_attn.q_proj"
    built = ModuleTree("llama", {proj: "Linear"}, {f"{proj}.weight": (8, 8)}, linear=(proj,), targetable=(proj,))

    def trace(facts: dict[str, Any], config: Any) -> Any:
        tree_of(facts, lambda _: built, this_installation())
        return profile_of(config)

    monkeypatch.setattr("pages.parts.draft.launch.trace_within", lambda _: trace)
    at = show("config", draft=draft.id)
    assert "No problems found." in texts(at)
    at.button(key="launch").click().run()
    assert attempts == []
    assert texts(at).count("names nonsense") == 1
    assert "No problems found." not in texts(at)
    assert at.button(key="launch").disabled
