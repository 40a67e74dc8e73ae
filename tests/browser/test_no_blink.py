"""A run's charts while points come: no frame without one, nothing moves, and what a reader has set stays set."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from lora_backend.runs.record.process_identity import ProcessIdentity
from lora_backend.runs.record.run_store import RunStore
from tests.browser.conftest import Dashboard, badge, idle, settled
from tests.browser.living_run import chart_range, living, zoom
from tests.browser.patience import expect
from tests.run_files import add_point, end_run, set_status

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
NUM_POINTS, NUM_CHARTS, MOST_SHIFT = 20, 3, 0.02
ASKS_OFTEN = """
const setInterval = window.setInterval;
window.setInterval = (call, wait, ...more) => setInterval(call, wait === 2000 ? 300 : wait, ...more);
"""
"""The page asks for what is new every two seconds; here more often, so that twenty points take seconds."""
WATCH = """() => {
  const seen = window.seen = { plots: new Set(), frames: 0, least: Infinity, most: 0, faintest: 1, shift: 0 };
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) seen.shift += entry.value;
  }).observe({ type: "layout-shift" });
  const opacity = element => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
  const isDrawn = plot => plot.checkVisibility() && [...plot.querySelectorAll(".scatterlayer path.js-line")].some(line => line.getAttribute("d"));
  const look = () => {
    const plots = [...document.querySelectorAll(".js-plotly-plot")];
    const drawn = plots.filter(isDrawn);
    plots.forEach(plot => seen.plots.add(plot));
    seen.frames += 1;
    seen.least = Math.min(seen.least, drawn.length);
    seen.most = Math.max(seen.most, plots.length);
    seen.faintest = Math.min(seen.faintest, ...drawn.map(opacity));
    requestAnimationFrame(look);
  };
  look();
}"""
SEEN = "() => ({ ...window.seen, plots: window.seen.plots.size })"


def grow(page: Page, run: RunStore, step: int) -> None:
    """One more point; wait until the chart has it."""
    add_point(run, {"step": step, "loss": 2 / step + 0.5, "learning_rate": 1e-4, "grad_norm": 1.0, "time": float(step)})
    set_status(run, step=step)
    page.wait_for_function("step => document.querySelector('.js-plotly-plot')?._fullData[0].x.at(-1) >= step", arg=step)


def hide(page: Page, name: str) -> None:
    """Take a trace away by a click on its name in the legend."""
    page.locator(".js-plotly-plot").first.locator(".legendtoggle").nth(0).click()
    page.wait_for_function(
        "name => document.querySelector('.js-plotly-plot')._fullData.find(one => one.name === name)?.visible === 'legendonly'",
        arg=name,
    )


def seen_in(page: Page) -> dict[str, Any]:
    seen = page.evaluate(SEEN)
    assert isinstance(seen, dict)
    return seen


@pytest.fixture
def opened(shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity) -> RunStore:
    """A living run on the page, with its charts drawn."""
    run = living(shared_dashboard.workspace, trainer)
    page.add_init_script(ASKS_OFTEN)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    expect(page.locator(".js-plotly-plot")).to_have_count(NUM_CHARTS)
    return run


def test_charts_take_new_points_without_a_blink_and_keep_zoom_and_hidden_traces(page: Page, opened: RunStore) -> None:
    hide(page, "Loss")
    zoomed = zoom(page)
    assert zoomed[0] > 5
    page.evaluate(WATCH)
    for step in range(41, 41 + NUM_POINTS):
        grow(page, opened, step)
    seen = seen_in(page)
    assert seen["frames"] > NUM_POINTS
    assert (seen["plots"], seen["least"], seen["most"]) == (NUM_CHARTS, NUM_CHARTS, NUM_CHARTS)
    assert seen["faintest"] == 1
    assert seen["shift"] <= MOST_SHIFT
    assert chart_range(page) == zoomed
    hidden = page.locator(".js-plotly-plot").first.evaluate("plot => plot._fullData.map(one => one.visible)")
    assert hidden == ["legendonly", True]


def test_charts_stay_where_they_are_when_the_run_ends(page: Page, opened: RunStore) -> None:
    grow(page, opened, 41)
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 300)")
    before = page.locator(".js-plotly-plot").last.bounding_box()
    page.evaluate(WATCH)
    end_run(opened, "stopped")
    expect(badge(page, "Stopped")).to_be_visible()
    idle(page)
    seen = seen_in(page)
    assert (seen["plots"], seen["least"], seen["most"]) == (NUM_CHARTS, NUM_CHARTS, NUM_CHARTS)
    assert seen["faintest"] == 1
    after = page.locator(".js-plotly-plot").last.bounding_box()
    assert before
    assert after
    assert abs(after["y"] - before["y"]) < 24
