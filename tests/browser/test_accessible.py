"""Every page for those who see little, press with a finger, or use the keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from lora_backend.config.drafts import new_draft
from tests.adapter_files import write_adapter
from tests.browser.conftest import Dashboard, free_port, idle, press, press_by_key, settled
from tests.browser.contrast import CONTRAST, SMALL
from tests.browser.patience import WAITS_MS, expect
from tests.run_files import end_run, make_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ALL_WIDGETS = ("home", "draft", "rows", "run", "docs")
"""Pages that have, among them, every kind of element."""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDGETS = """
import streamlit as st
st.title("Widgets")
st.header("Of Streamlit's own")
st.file_uploader("Upload")
st.selectbox("Choose", ["a", "b"], help="help", accept_new_options=True)
st.multiselect("Several", ["a", "b"], default=["a"])
st.metric("Loss", "1", chart_data=[3, 2, 1], chart_type="line", border=True)
st.slider("Much", 0, 10, 3)
st.toggle("On")
st.dataframe({"a": [1, 2]})
st.table({"a": [1, 2]})
st.tabs(["One", "Two"])
st.expander("More").write("x")
st.segmented_control("Which", ["a", "b"], default="a")
st.code("a: 1", language="yaml")
"""
"""The same widgets as ours, alone: what axe finds there is Streamlit's. docs/accessibility.md says what that is."""


@pytest.fixture(scope="module")
def places(shared_tiny: Dashboard) -> dict[str, str]:
    """Page → its address, filled."""
    run = make_run(shared_tiny.workspace / "runs", config={"model_name": "m", "r": 4}, config_text="model_name: m\n", argv=None)  # fmt: skip
    (run.path / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "loss": {4 / n}}}\n' for n in range(1, 30)))
    end_run(run, "finished")
    text = f"model_name: {shared_tiny.home / 'tiny-model'}\ndataset: chats.jsonl\nr: '16'\nlearnin_rate: 1e-4\nbatch_size: 4\n"
    draft = new_draft(shared_tiny.workspace / "drafts", text)
    adapter = write_adapter(shared_tiny.workspace / "adapter")
    pages = {
        "home": "", "config": "config", "draft": f"config?draft={draft.id}", "data": "data", "rows": "data?dataset=chats.jsonl",
        "models": "models", "plan": "plan", "planned": f"plan?model={shared_tiny.home / 'tiny-model'}&gpus=24,12", "runs": "runs", "run": f"runs?run={run.id}",
        "verify": "verify", "verified": f"verify?adapter={adapter.name}", "try": "playground", "docs": "docs?page=check",
    }  # fmt: skip
    return {name: f"{shared_tiny.url}/{path}" for name, path in pages.items()}


@pytest.fixture(scope="module")
def of_streamlit(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """What axe finds in an app of Streamlit's widgets alone."""
    home = tmp_path_factory.mktemp("widgets")
    (home / "widgets.py").write_text(WIDGETS)
    app = Dashboard(home, free_port(), script=home / "widgets.py")
    app.start()
    page = browser.new_page()
    page.set_default_timeout(WAITS_MS)
    settled(page, app.url)
    expect(page.get_by_test_id("stMetricChart").locator("svg, canvas").first).to_be_attached()
    yield {found["id"] for found in violations(page)}
    page.close()
    app.kill()


def staying(page: Page, script: str) -> list[str]:
    """What a script finds and does not cease to find: what is made anew fades for a moment, and what loads moves."""
    found: list[str] = page.evaluate(script)
    for _ in range(40):
        if not found:
            break
        page.wait_for_timeout(500)
        found = page.evaluate(script)
    return found


def violations(page: Page) -> list[dict[str, Any]]:
    options = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": TAGS}}
    return list(Axe().run(page, options=options).response["violations"])


@pytest.fixture(params=["light", "dark"])
def themed(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page into which axe can be put, in either theme."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=request.param, bypass_csp=True, locale="en-US")  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)
    yield page
    context.close()


def test_pages_have_no_fault_that_streamlits_own_widgets_do_not_have(
    places: dict[str, str], of_streamlit: set[str], themed: Page
) -> None:
    """By axe-core; and by what is computed: every text 4.5:1 or more, every target 24 px or more."""
    is_light = themed.evaluate("matchMedia('(prefers-color-scheme: light)').matches")
    found = []
    for name, address in places.items():
        settled(themed, address)
        if name == "draft":  # what opens above a page stands outside of it, and has colours of its own to get right
            press(themed.get_by_role("button", name="Copy and export"))
            themed.get_by_test_id("stPopoverBody").locator(".token").first.wait_for()
            found += [f"{name}, opened: contrast {one}" for one in staying(themed, CONTRAST)]
            themed.keyboard.press("Escape")
            expect(themed.get_by_test_id("stPopoverBody")).to_be_hidden()
        found += [f"{name}: contrast {one}" for one in staying(themed, CONTRAST)]
        if is_light:  # the rest is the same in both
            found += [f"{name}: small {one}" for one in staying(themed, SMALL)]
            found += [f"{name}: {one['id']}: {one['nodes'][0]['html'][:200]}" for one in violations(themed) if one["id"] not in of_streamlit]  # fmt: skip
    assert found == []


def test_at_twice_the_size_no_page_scrolls_sideways(places: dict[str, str], browser: Browser) -> None:
    """A window of 1280 px at 200 % is one of 640."""
    context = browser.new_context(viewport={"width": 640, "height": 450}, locale="en-US", device_scale_factor=2)
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)
    wide = {}
    for name in ALL_WIDGETS:
        settled(page, places[name])
        sides = page.locator("#stMain").evaluate("main => [document.documentElement, main].map(one => one.scrollWidth - one.clientWidth)")  # fmt: skip
        if any(sides):
            wide[name] = sides
    context.close()
    assert wide == {}


def test_a_draft_is_made_by_the_keyboard_alone(shared_tiny: Dashboard, page: Page) -> None:
    settled(page, f"{shared_tiny.url}/config")
    skip = page.get_by_role("link", name="Skip to main content")
    for _ in range(3):
        page.keyboard.press("Tab")
        if skip.count() and skip.evaluate("one => one === document.activeElement"):
            break
    page.keyboard.press("Enter")
    press_by_key(page.get_by_role("button", name="New config"))
    page.wait_for_url(lambda url: "draft=" in url)
    idle(page)
    assert list(Path(shared_tiny.workspace / "drafts").iterdir())


def test_a_popover_that_the_keyboard_opens_takes_the_focus_and_gives_it_back(
    places: dict[str, str], page: Page
) -> None:
    settled(page, places["verified"])
    button = page.get_by_role("button", name="Check against a config")
    press_by_key(button)
    inside = page.get_by_test_id("stPopoverBody").locator(":focus")
    expect(inside).to_have_count(1)
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)


def test_who_wants_no_motion_gets_none(shared_tiny: Dashboard, browser: Browser) -> None:
    context = browser.new_context(reduced_motion="reduce", locale="en-US")
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)
    settled(page, f"{shared_tiny.url}/config")
    moving = staying(
        page,
        """() => [...document.querySelectorAll('#root *')].filter(one => {
          const style = getComputedStyle(one)
          return Math.max(...[style.transitionDuration, style.animationDuration].flatMap(text => text.split(',').map(parseFloat))) > 0.01
        }).map(one => one.tagName + ' ' + one.className)""",
    )
    context.close()
    assert moving == []
