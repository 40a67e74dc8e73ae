"""The demo's act with a tiny model in the place of the real one: from the button to what it learned, and on to the chat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lora_backend.demo.model import demo_model_dir
from tests.browser.conftest import Dashboard, badge, free_port, press_by_key, settled
from tests.browser.patience import STARTS_MS, expect
from tests.tiny import make_model

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def with_demo_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    """A dashboard whose cache holds the demo's model already: a tiny one of that name."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))
    make_model(demo_model_dir(tmp_path / "cache"))
    running = Dashboard(tmp_path, free_port())
    running.start()
    yield running
    running.kill()


def test_from_the_button_to_what_it_learned_by_the_keyboard_alone(with_demo_model: Dashboard, page: Page) -> None:
    settled(page, with_demo_model.url)
    press_by_key(page.get_by_role("button", name="Start the demo"))
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    expect(badge(page, "Finished")).to_be_visible(timeout=STARTS_MS)
    learned = page.get_by_test_id("stMetric")
    expect(learned.filter(has_text="English: right answers").first).to_contain_text("/ 24")
    expect(learned.filter(has_text="Chinese: right answers").first).to_contain_text("/ 24")
    expect(learned.filter(has_text="Ranks").first).to_contain_text("OK")
    press_by_key(page.get_by_role("link", name="Try it").or_(page.get_by_role("button", name="Try it")).first)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    settled(page, with_demo_model.url)  # the demo is the main act only until there was one
    expect(page.get_by_text("Last results")).to_be_visible()
    expect(page.get_by_role("button", name="Start the demo")).to_have_attribute("data-testid", "stBaseButton-secondary")
