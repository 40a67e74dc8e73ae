"""A run that ends while somebody looks at its page: nothing jumps, nothing stands double."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from lora_backend.runs.record.process_identity import ProcessIdentity
from tests.browser.conftest import Dashboard, badge, idle, press, settled
from tests.browser.living_run import chart_range, living, save, zoom
from tests.browser.patience import expect
from tests.run_files import end_run
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

WATCH = """() => {
  window.most = {};
  const look = () => {
    const seen = {};
    for (const word of ["Save and stop", "Save a checkpoint now", "Open as a draft"]) {
      const buttons = [...document.querySelectorAll("button")];
      seen[word] = buttons.filter(one => one.innerText.includes(word) && one.checkVisibility()).length;
    }
    seen.tabs = document.querySelectorAll("[role=tablist]").length;
    seen.both = Math.min(seen["Save and stop"], seen["Open as a draft"]);
    for (const [word, count] of Object.entries(seen)) window.most[word] = Math.max(window.most[word] ?? 0, count);
    requestAnimationFrame(look);
  };
  look();
}"""


def test_a_run_that_ends_leaves_the_open_tab_and_shows_no_button_twice(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = living(shared_dashboard.workspace, trainer)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    expect(page.locator(".js-plotly-plot .legendtext", has_text="Loss").first).to_be_visible()
    zoomed = zoom(page)
    assert zoomed[0] > 5
    press(page.get_by_role("tab", name="Log"))
    expect(page.get_by_text("a line of the log")).to_be_visible()
    page.evaluate(WATCH)
    end_run(run, "stopped")
    expect(badge(page, "Stopped")).to_be_visible()
    expect(page.get_by_text("The run has stopped.")).to_be_visible()
    idle(page)
    expect(page.get_by_role("tab", name="Log")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_text("a line of the log")).to_be_visible()
    assert page.evaluate("() => window.most") == {
        "Save and stop": 1,
        "Save a checkpoint now": 1,
        "Open as a draft": 1,
        "tabs": 1,
        "both": 0,
    }
    press(page.get_by_role("tab", name="Curves"))
    until(lambda: chart_range(page) == zoomed, "the zoom is what it was")


def test_a_checkpoint_that_is_asked_for_is_answered_marked_and_listed(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = living(shared_dashboard.workspace, trainer)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    title = page.get_by_test_id("stMain").locator("h1")
    page.get_by_role("link", name="All runs").wait_for()  # above the title, and drawn a moment later
    place = title.bounding_box()
    press(page.get_by_role("button", name="Save a checkpoint now"))
    expect(page.get_by_text("Checkpoint requested.")).to_be_visible()
    assert title.bounding_box() == place
    expect(page.get_by_role("button", name="Saving after this step")).to_be_disabled()
    save(run, 40)
    run.save_request.unlink()
    expect(page.get_by_text("Checkpoint saved at step 40.")).to_be_visible()
    expect(page.get_by_text("last checkpoint at step 40")).to_be_visible()
    expect(page.get_by_role("button", name="Save a checkpoint now")).to_be_enabled()
    expect(page.locator(".js-plotly-plot .legendtext", has_text="Checkpoint")).to_be_visible()
    page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot')?.layout.shapes.map(one => one.x0).join() === '40'"
    )
    press(page.get_by_role("tab", name="Checkpoints"))
    expect(page.get_by_text("Resume continues from the newest complete checkpoint.")).to_be_visible()
