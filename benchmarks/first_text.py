"""Time to first text in Chromium, beside the smallest possible Streamlit app; from page to page; memory of the dashboard.

All servers are warm (asked once before), every visit has an empty browser cache, and they take turns. A run's page, whose
chart is a component of ours with plotly.js from its package, stands beside a page that mounts the same component alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.noise import median_and_spread
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.conftest import ROOT, Dashboard, free_port
from tests.run_files import add_point, end_run, make_run

VISITS = 9
Measure = Callable[[Browser, Dashboard, str], float]
SMALLEST = 'import streamlit as st\n\nst.title("Hello")\n'
TWO_PAGES = f"""\
import sys

sys.path.insert(0, {str(ROOT)!r})
import plotly.graph_objects as go
import streamlit as st

from pages.parts.widgets.chart import show_chart


def first():
    st.title("Hello")


def chart():
    st.title("Chart")
    show_chart(go.Figure().add_scatter(x=list(range(40)), y=list(range(40))), key="chart", alt="A line")


st.navigation([st.Page(first, title="Hello", default=True), st.Page(chart, title="Chart")], position="top").run()
"""
"""Streamlit asks for a page other than the first at two addresses before it finds its server, so a run's page stands beside the
second page of an app."""
PAINTED = """
const drawn = new MutationObserver(() => {
  if (!document.querySelector("[data-testid=stMain] h1")) return;
  drawn.disconnect();
  requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
});
drawn.observe(document, { childList: true, subtree: true });
"""
"""Milliseconds from the address to the frame with the title, by the page's own clock. Playwright looks for a title every
half second once it has waited for a quarter of one, so two pages that are a little apart are equal to it, or a half second apart."""


def main() -> None:
    """Start all four servers, and print a line for each pair."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        ours = Dashboard(home / "ours", free_port())
        others = {
            name: Dashboard(home / name, free_port(), script=home / name / "app.py")
            for name in ("smallest", "two_pages")
        }
        for dashboard in (ours, *others.values()):
            dashboard.home.mkdir()
        for name, script in (("smallest", SMALLEST), ("two_pages", TWO_PAGES)):
            others[name].script.write_text(script)
        for _ in range(6):  # what a home page in use has to show
            run = make_run(ours.workspace / "runs", config={"model_name": "m"}, config_text="", argv=None)
            for step in range(1, 41):
                add_point(run, {"step": step, "loss": 2 / step})
            end_run(run, "finished")
        try:
            _measure(ours, others, run.id)
        finally:
            for dashboard in (ours, *others.values()):
                dashboard.kill()


def _measure(ours: Dashboard, others: dict[str, Dashboard], run_id: str) -> None:
    for dashboard in (ours, *others.values()):
        dashboard.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        run_page = f"/runs?run={run_id}"
        _beside("first text, home", _visit, browser, (ours, "/"), (others["smallest"], "/"))
        _beside("first text, a run with its chart", _visit, browser, (ours, run_page), (others["two_pages"], "/chart"))
        for name, mine, theirs in (("home", "/", "/"), ("a run with its chart", run_page, "/chart")):
            app = others["smallest" if theirs == "/" else "two_pages"]
            _beside(f"first text, {name}, by the page's own clock", _painted, browser, (ours, mine), (app, theirs))
        _beside("from page to page", _switch, browser, (ours, "Config"), (others["two_pages"], "Chart"))
        for path in ("/config", "/verify"):
            _visit(browser, ours, path)
        browser.close()
    for name, dashboard in (("dashboard", ours), ("smallest app", others["smallest"])):
        assert dashboard.process
        resident = psutil.Process(dashboard.process.pid).memory_info().rss
        print(f"memory of the {name} after these visits: {resident / 2**20:.0f} MiB")


def _beside(
    name: str, measure: Measure, browser: Browser, mine: tuple[Dashboard, str], theirs: tuple[Dashboard, str]
) -> None:
    """Both once to warm up, then in turn."""
    measure(browser, *mine)
    measure(browser, *theirs)
    pairs = [(measure(browser, *mine), measure(browser, *theirs)) for _ in range(VISITS)]
    ours, others = ([pair[place] for pair in pairs] for place in (0, 1))
    ratio = statistics.median(ours) / statistics.median(others)
    print(f"{name}: {median_and_spread(ours, 's')}; smallest app: {median_and_spread(others, 's')}")
    print(f"  ratio of the medians: {ratio:.2f}")


def _visit(browser: Browser, dashboard: Dashboard, path: str) -> float:
    """Seconds until a page's title stands, in a browser that has nothing of it."""
    context = browser.new_context()
    page = context.new_page()
    began = time.perf_counter()
    page.goto(dashboard.url + path, wait_until="commit")
    page.get_by_test_id("stMain").locator("h1").wait_for()
    elapsed_s = time.perf_counter() - began
    context.close()
    return elapsed_s


def _painted(browser: Browser, dashboard: Dashboard, path: str) -> float:
    """The same seconds, to the frame in which the title is painted."""
    context = browser.new_context()
    context.add_init_script(PAINTED)
    page = context.new_page()
    page.goto(dashboard.url + path, wait_until="commit")
    painted_ms = float(page.wait_for_function("() => window.painted", polling=50).json_value())
    context.close()
    return painted_ms / 1000


def _switch(browser: Browser, dashboard: Dashboard, link: str) -> float:
    """Seconds from a click in the navigation until the other page's title stands."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(dashboard.url)
    page.get_by_test_id("stMain").locator("h1").wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    began = time.perf_counter()
    page.get_by_test_id("stTopNavLinkContainer").get_by_text(link, exact=True).click()
    expect(page.get_by_test_id("stMain").locator("h1")).to_have_text(link)
    elapsed_s = time.perf_counter() - began
    context.close()
    return elapsed_s
