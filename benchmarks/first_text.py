"""Time to first text in Chromium, beside the smallest possible Streamlit app; memory of the dashboard's process.

Both servers are warm (asked once before), every visit has an empty browser cache, and the two take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from benchmarks.noise import median_and_spread
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.conftest import Dashboard, free_port
from tests.run_files import end_run, make_run

VISITS = 9
SMALLEST = 'import streamlit as st\n\nst.title("Hello")\n'


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = Dashboard(Path(folder) / "ours", free_port())
        smallest = Dashboard(Path(folder) / "smallest", free_port(), script=Path(folder) / "smallest" / "app.py")
        for dashboard in (ours, smallest):
            dashboard.home.mkdir()
        smallest.script.write_text(SMALLEST)
        for _ in range(6):  # what a home page in use has to show
            run = make_run(ours.workspace / "runs", config={"model_name": "m"}, config_text="", argv=None)
            end_run(run, "finished")
        try:
            _measure(ours, smallest)
        finally:
            ours.kill()
            smallest.kill()


def _measure(ours: Dashboard, smallest: Dashboard) -> None:
    ours.start()
    smallest.start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        for dashboard in (ours, smallest):
            _visit(browser, dashboard)
        pairs = [(_visit(browser, ours), _visit(browser, smallest)) for _ in range(VISITS)]
        for path in ("/config", "/runs", "/verify"):
            _visit(browser, ours, path)
        browser.close()
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    print("first text, dashboard:    ", median_and_spread(mine, "s"))
    print("first text, smallest app: ", median_and_spread(theirs, "s"))
    print(f"ratio of the medians:      {statistics.median(mine) / statistics.median(theirs):.2f} (at most 2)")
    for name, dashboard in (("dashboard", ours), ("smallest app", smallest)):
        assert dashboard.process
        resident = psutil.Process(dashboard.process.pid).memory_info().rss
        print(f"memory of the {name} after these visits: {resident / 2**20:.0f} MiB")


def _visit(browser: Browser, dashboard: Dashboard, path: str = "/") -> float:
    context = browser.new_context()
    page = context.new_page()
    began = time.perf_counter()
    page.goto(dashboard.url + path, wait_until="commit")
    page.get_by_test_id("stMain").locator("h1").wait_for()
    elapsed_s = time.perf_counter() - began
    context.close()
    return elapsed_s
