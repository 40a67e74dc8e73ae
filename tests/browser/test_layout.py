"""The first screen of every page answers its question, on a desk and on a phone; headings go down by one level at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page

from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import new_draft
from lora_backend.runs.record.process_identity import ProcessIdentity
from tests.browser.conftest import Dashboard, badge, settled, trained_here
from tests.browser.living_run import living
from tests.browser.patience import WAITS_MS, expect
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

SIZES = (1280, 400)
HEIGHT = 800
HEADINGS = "() => [...document.querySelectorAll('#stMain :is(h1, h2, h3, h4, h5, h6)')].filter(one => one.checkVisibility()).map(one => Number(one.tagName[1]))"
IS_WHOLE = "(shown, height) => { const box = shown.getBoundingClientRect(); return box.width && box.top >= 0 && box.bottom <= height && box.right <= innerWidth + 1; }"
ONE_NEXT_STEP = "() => [...document.querySelectorAll('#stMain [data-testid^=stBaseButton-primary]')].filter(one => one.checkVisibility()).length <= 1"
Answers = Callable[[Page], list[Locator]]


def button(name: str) -> Answers:
    return lambda page: [page.get_by_role("button", name=name, exact=True)]


def check(page: Page, url: str, answers: Answers) -> None:
    """Open it on both screens: what answers its question stands whole in the first,
    no heading skips a level, and at most one button is the primary one."""
    for width in SIZES:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        if width == SIZES[0]:
            settled(page, url)
        for found in answers(page):
            expect(found.first).to_be_visible()
            until(partial(found.first.evaluate, IS_WHOLE, HEIGHT), f"{found.first} stands in the first screen")
    until(partial(page.evaluate, ONE_NEXT_STEP), "one button at most is the primary one")
    levels = page.evaluate(HEADINGS)
    assert levels[0] == 1, levels
    assert levels.count(1) == 1, levels
    assert all(after - before <= 1 for before, after in pairwise(levels)), levels


def test_an_empty_workspace_says_where_to_begin(shared_dashboard: Dashboard, page: Page) -> None:
    for path, answers in {
        "/": button("Start the demo"),
        "/config": button("New config"),
        "/runs": lambda page: [page.get_by_text("No runs yet")],
        "/playground": lambda page: [page.get_by_role("link", name=re.compile("Start the demo|Home|Models")).last],
        "/docs": lambda page: [page.get_by_role("link", name=re.compile("Keys of a training config"))],
    }.items():
        check(page, shared_dashboard.url + path, answers)


def test_the_first_screen_of_a_page_in_use_answers_its_question(
    shared_tiny: Dashboard, trainer: ProcessIdentity, browser: Browser
) -> None:
    model, data = shared_tiny.home / "tiny-model", shared_tiny.home / "chats.jsonl"
    values = {"model_name": str(model), "dataset": str(data), "r": 4, "target_modules": ["q_proj"], "max_steps": 3, "logging_steps": 1, "check_r_consistency": True}  # fmt: skip
    run = trained_here(shared_tiny, values)
    alive = living(shared_tiny.workspace, trainer)
    draft = new_draft(shared_tiny.workspace / "drafts", dump_yaml(values | {"learnin_rate": 1e-4}))
    page = browser.new_context(viewport={"width": SIZES[0], "height": HEIGHT}, locale="en-US").new_page()
    page.set_default_timeout(WAITS_MS)
    for path, answers in pages_in_use(model, data, run.id, alive.id, draft.id).items():
        check(page, shared_tiny.url + path, answers)
    page.context.close()


def pages_in_use(model: Path, data: Path, run: str, alive: str, draft: str) -> dict[str, Answers]:
    return {
        "/": lambda page: [page.get_by_text("Running").first, page.get_by_text("Last results")],
        f"/config?draft={draft}": lambda page: [
            page.get_by_text("1 error").first,
            page.get_by_text("is not a key of a training config").first,
            page.get_by_role("button", name="Fix all"),
            page.get_by_role("button", name="Launch", exact=True),
        ],
        f"/data?dataset={data.name}&model={model}": lambda page: [
            page.get_by_text(re.compile("detected from the rows")),
            page.get_by_role("button", name="Use in config"),
        ],
        f"/plan?model={model}&gpus=24,12": lambda page: [
            page.get_by_text("It fits").first,
            page.get_by_role("button", name="Use in config"),
            page.get_by_text("GPU 1 · 12.0 GiB").first,
        ],
        f"/runs?run={alive}": lambda page: [
            badge(page, "Running"),
            page.get_by_role("button", name="Save and stop"),
            page.get_by_text(re.compile("Step 40 of 80")).first,
        ],
        f"/runs?run={run}": lambda page: [
            badge(page, "Finished"),
            page.get_by_test_id("stMetric").first,
            page.get_by_role("link", name="Try it").or_(page.get_by_role("button", name="Try it")),
        ],
        f"/verify?run={run}": lambda page: [
            page.get_by_text("It is what it says."),
            page.get_by_text("layers have the expected rank").first,
        ],
        f"/playground?with=run:{run}": lambda page: [page.get_by_test_id("stChatInputTextArea")],
    }
