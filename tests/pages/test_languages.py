"""Nothing on a page is left untranslated."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from tests.pages.english import ENGLISH, texts_of, without_code
from tests.pages.screens import PAGES, ROOT, finished_run
from tools.messages import problems


def test_the_chinese_catalogue_says_all_that_the_code_says() -> None:
    assert problems() == []


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("content", ["empty", "full"])
def test_a_chinese_page_holds_no_english_sentence(
    page: str, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))
    query = {"lang": "zh"}
    if content == "full":
        draft = new_draft(this_installation().drafts, "model_name: m\nr: 'x'\nlearnin_rate: 1\ntarget_batch_size: 7\n")
        run = finished_run(metrics__jsonl='{"step": 1, "loss": 3.0}\n')
        query |= {
            "config": {"draft": draft.id},
            "runs": {"run": run.id},
            "verify": {"adapter": "runs"},
            "data": {"dataset": "train.jsonl"},
        }.get(page, {})
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
    at.query_params["lang"] = "zh"
    at.run()
    if page != "home":
        at.switch_page(f"pages/{page}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    left = [text for text in texts_of(at) if ENGLISH.search(without_code(text))]
    assert left == []
