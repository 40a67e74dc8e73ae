"""The whole demo as a stranger sees it: one click, a real model, better answers. Takes minutes: `make soak`."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from lora_backend.demo.config import promise_kept
from lora_backend.runs.record.run_store import list_runs
from tests.browser.conftest import Dashboard, badge, press, settled
from tests.browser.patience import expect
from tests.run_files import points_of

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.timeout(1200)]


def test_one_click_trains_a_real_model_that_outlives_the_dashboard(dashboard: Dashboard, page: Page) -> None:
    settled(page, dashboard.url)
    press(page.get_by_role("button", name="Start the demo"))
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    expect(page.get_by_text(re.compile(r"Step [1-9]\d* of"))).to_be_visible(timeout=600_000)
    dashboard.kill()
    dashboard.start()
    settled(page, page.url)
    expect(badge(page, "Running")).to_be_visible()
    expect(badge(page, "Finished")).to_be_visible(timeout=600_000)

    (run,) = list_runs(dashboard.workspace / "runs")
    losses = [row["loss"] for row in points_of(run) if row.get("loss") is not None]
    assert sum(losses[-8:]) / 8 < losses[0] / 5  # of batches of four rows: one may have a hard one
    report = run.read_rank_report()
    assert report is not None
    assert report.status == "ok"
    assert promise_kept(run.read_answers())
    # what it learned stands on top, without another click, and what comes next is one press away
    expect(page.get_by_test_id("stMetric").filter(has_text="English: right answers").first).to_contain_text("/ 24")
    expect(page.get_by_test_id("stMetric").filter(has_text="Chinese: right answers").first).to_contain_text("/ 24")
    expect(page.get_by_test_id("stMetric").filter(has_text="Ranks").first).to_contain_text("OK")
    press(page.get_by_role("button", name="Try it").or_(page.get_by_role("link", name="Try it")).first)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
