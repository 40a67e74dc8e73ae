"""A real dashboard and a real Chromium."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.record.process_identity import ProcessIdentity, identify, is_alive
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.patience import STARTS_MS, WAITS_MS, expect, patiently
from tests.run_files import make_run, status_of
from tests.tiny import chats, make_model, write_rows
from tests.untraced import planned_by_formula

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Dashboard:
    """`streamlit run app.py` in a process of its own, with a workspace of its own."""

    home: Path
    port: int
    script: Path = ROOT / "app.py"
    base_path: str = ""
    """`server.baseUrlPath`, without slashes."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" + (f"/{self.base_path}" if self.base_path else "")

    @property
    def workspace(self) -> Path:
        return self.home / "ws"

    @property
    def places(self) -> dict[str, str]:
        """Variables that name its places."""
        places = {
            "FLIGHTDECK_WORKSPACE": self.workspace,
            "FLIGHTDECK_MODEL_ROOTS": self.home,
            "FLIGHTDECK_DATA_ROOTS": self.home,
        }
        return {name: str(path) for name, path in places.items()}

    def environment(self, **more: str) -> dict[str, str]:
        """Places of its own, for the dashboard and for commands beside it."""
        return {**os.environ, **self.places, **more}

    def start(self) -> None:
        environment = self.environment()
        command = [sys.executable, "-m", "streamlit", "run", str(self.script), "--server.port", str(self.port)]
        command += ["--server.baseUrlPath", self.base_path] if self.base_path else []
        log = (self.home / "dashboard.log").open("ab")
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.home / "dashboard.log").read_text())

    def kill(self) -> None:
        """SIGKILL the server and all of its group, as a closed terminal or the kernel would."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard of the test's own; runs that it leaves behind are ended."""
    yield from _served(Dashboard(tmp_path, free_port()))


@pytest.fixture(scope="module")
def shared_dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One for a module's tests that leave each other's things alone."""
    yield from _served(Dashboard(tmp_path_factory.mktemp("shared"), free_port()))


@pytest.fixture
def dashboard_below_a_path(tmp_path: Path) -> Iterator[Dashboard]:
    """The same, served below `/team/fd`, as behind a proxy that others share."""
    yield from _served(Dashboard(tmp_path, free_port(), base_path="team/fd"))


def _served(running: Dashboard) -> Iterator[Dashboard]:
    running.start()
    yield running
    running.kill()
    for run in list_runs(running.workspace / "runs"):
        end_processes(run)


def end_processes(run: RunStore) -> None:
    """End what trains it and who watches that, as at the end of a test: of a run that has shown what it was made for."""
    for who in ("supervisor", "child", "trainer"):
        data = status_of(run).get(who)
        if data and is_alive(identity := ProcessIdentity.from_json(data)) and identity.pid != os.getpid():
            os.kill(identity.pid, signal.SIGKILL)


def run_of(page: Page, dashboard: Dashboard) -> RunStore:
    """The run whose page comes next, after a launch."""
    page.wait_for_url(re.compile(r"/runs\?.*run="), timeout=STARTS_MS)
    return RunStore(dashboard.workspace / "runs" / page.url.partition("run=")[2].partition("&")[0])


@pytest.fixture
def tiny(dashboard: Dashboard) -> Dashboard:
    """A dashboard with a tiny model and data set in its roots."""
    return _with_tiny(dashboard)


@pytest.fixture(scope="module")
def shared_tiny(shared_dashboard: Dashboard) -> Dashboard:
    """The same for a module's tests together: what one has asked, and the processes that answered, are there for the next."""
    return _with_tiny(shared_dashboard)


def _with_tiny(dashboard: Dashboard) -> Dashboard:
    make_model(dashboard.home / "tiny-model")
    write_rows(dashboard.home / "chats.jsonl", chats())
    return dashboard


def trained_here(dashboard: Dashboard, values: dict[str, Any]) -> RunStore:
    """A run of the dashboard's that was trained in this process, which has torch already: for pages that come after one."""
    from lora_backend.trainer.direct_run import train_in_folder

    with pytest.MonkeyPatch.context() as patch, planned_by_formula(dashboard.home / "by_formula"):
        for name, place in dashboard.places.items():
            patch.setenv(name, place)
        runs = dashboard.workspace / "runs"
        folder = make_run(runs, config=values, config_text=dump_yaml(values), argv=None, name="Trained here")
        train_in_folder(folder)
    return folder


@pytest.fixture
def trainer() -> Iterator[ProcessIdentity]:
    """A process that lives."""
    process = subprocess.Popen(["sleep", "600"])
    identity = identify(process.pid)
    assert identity
    yield identity
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    assert chromium, "no Chromium here: python -m tests.browser.chromium installs one"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    opened = context.new_page()
    opened.set_default_timeout(WAITS_MS)
    yield opened
    context.close()


def settled(page: Page, url: str) -> Any:
    """Open an address and wait until the page has drawn itself."""
    page.goto(url)
    expect(page.locator("#stMain h1")).to_be_visible()
    idle(page)
    return page


def idle(page: Page) -> None:
    """Wait until no script runs: until then parts of the page before may still stand on the screen."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=STARTS_MS)


def press(button: Locator) -> None:
    """Click once the page stands still, as a person does who waits for it. A part of a page that is drawn by itself
    (a fragment) hears no click while the whole page is drawn, for what was clicked is replaced meanwhile."""
    expect(button).to_be_visible()
    idle(button.page)
    patiently(button.click)


def press_by_key(button: Locator, *, key: str = "Tab", most: int = 80) -> None:
    """Tab until it has the focus, then Enter: what a person does who has no mouse. Fails where the keyboard does not get there.

    `key`: `Shift+Tab` for what stands before.
    """
    page = button.page
    expect(button).to_be_visible()
    idle(page)
    for _ in range(most):
        if button.evaluate("one => one === document.activeElement"):
            break
        page.keyboard.press(key)
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


def badge(page: Page, word: str) -> Any:
    """The state badge that says `word`; its symbol is text as well, so the words are not alone in it."""
    return page.locator(".stMarkdownBadge", has_text=word)
