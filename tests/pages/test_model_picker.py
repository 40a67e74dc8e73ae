"""Where a model is asked for: those of this machine with what they take here, the catalogue, and any name that is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft, new_draft
from lora_backend.installation import this_installation
from pages.parts.widgets.models_here import forget_models
from tests.pages.plan_page import SMALL, answer
from tests.pages.screens import show, texts
from tests.tiny import stub_model

pytestmark = pytest.mark.usefixtures("places")
CATALOGUE = "meta-llama/Llama-3.1-8B"


@pytest.fixture(autouse=True)
def _own_list() -> None:
    forget_models()


def form_field(at: AppTest) -> Any:
    return next(box for box in at.selectbox if box.label.startswith("model\\_name") or box.label == "model_name")


def draft_of(text: str) -> Draft:
    return new_draft(this_installation().drafts, text)


def links(at: AppTest) -> list[str]:
    return [link.label for link in at.get("page_link")]


def test_the_config_form_offers_local_models_with_their_size_then_the_catalogue(tmp_path: Path) -> None:
    model = stub_model(tmp_path / "models/m")
    draft = draft_of("# mine\nr: 4\n")
    at = show("config", draft=draft.id)
    options = form_field(at).options
    assert options[0] == f"{model.name} · 10 B · ✓ · {model.parent}"
    assert any(option.startswith(f"{CATALOGUE} · 15 GiB · ") and option.endswith("↓") for option in options)
    form_field(at).select(str(model)).run()
    assert parse_config(draft.text()).values["model_name"] == str(model)
    assert draft.text().startswith("# mine")
    assert "Weights: 10 B, they fit in this machine's memory." in texts(at) or "they fit on one GPU" in texts(at)


def test_a_model_of_the_catalogue_that_is_not_here_says_so_and_has_a_way_to_its_download() -> None:
    at = show("config", draft=draft_of(f"model_name: {CATALOGUE}\n").id)
    assert "Download" in links(at)


def test_any_hub_id_may_be_typed_and_is_a_link_to_its_download_and_a_path_is_none() -> None:
    at = show("config", draft=draft_of("model_name: someone/some-model\n").id)
    assert "Download someone/some-model" in links(at)
    assert form_field(at).value == "someone/some-model"
    at = show("config", draft=draft_of("model_name: /no/such/folder\n").id)
    assert not [label for label in links(at) if label.startswith("Download /")]


def test_a_field_that_is_cleared_takes_the_line_out() -> None:
    draft = draft_of(f"model_name: {CATALOGUE}\nr: 4\n")
    at = show("config", draft=draft.id)
    form_field(at).select(None).run()
    assert draft.text() == "r: 4\n"


def test_an_option_of_a_page_that_is_no_longer_up_to_date_still_means_its_model() -> None:
    from pages.parts.widgets.model_picker import picked_name

    assert picked_name(f"{CATALOGUE} · 15.00 GiB · ✗ · ↓") == CATALOGUE
    assert picked_name("m · 513 MiB · ✓ · /models") == "/models/m"
    assert picked_name("  org/m ") == "org/m"
    assert picked_name(None) == ""


@pytest.mark.parametrize("value", ["5", "[a, b]"])
def test_a_name_that_is_no_text_is_still_shown(value: str) -> None:
    at = show("config", draft=draft_of(f"model_name: {value}\n").id)
    assert any("**error" in item.value for item in at.markdown)
    assert next(box for box in at.text_input if box.label == "model\\_name" or box.label == "model_name").value


def test_the_plan_page_takes_local_models_and_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pages.parts.plan.work.trace", answer())
    model = stub_model(tmp_path / "models/m", SMALL)
    (tmp_path / "bare.json").write_text(json.dumps(SMALL))
    at = show("plan", gpus="24")
    box = at.selectbox(key="plan-model")
    assert box.options[0].startswith(f"{model.name} · ")
    box.select(str(model)).run()
    assert at.query_params["model"] == str(model)
    assert not at.error
    at = show("plan", gpus="24", model=str(tmp_path / "bare.json"))
    assert at.selectbox(key="plan-model").value == str(tmp_path / "bare.json")
    assert not at.error


def test_markup_in_the_name_of_a_model_is_text(tmp_path: Path) -> None:
    name = "<b>x</b> [a](http://example.org)"
    at = show("config", draft=draft_of(f"model_name: '{name}'\n").id)
    assert form_field(at).value == name
    assert not at.exception
