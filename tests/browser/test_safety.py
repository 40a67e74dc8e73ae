"""Safe from the first day: loopback, foreign hosts, deep links, foreign requests, error details."""

from __future__ import annotations

import http.client
import re
import shutil

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from lora_backend.runs.folder import RunFolder
from tests.browser.conftest import Dashboard, badge, settled

pytestmark = [pytest.mark.browser]


def test_it_listens_on_loopback_only(dashboard: Dashboard) -> None:
    assert dashboard.process
    family = [psutil.Process(dashboard.process.pid), *psutil.Process(dashboard.process.pid).children(recursive=True)]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_a_foreign_host_is_refused(dashboard: Dashboard) -> None:
    def status(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=10)
        headers = {"Host": host, "Origin": f"http://{host}", "Connection": "Upgrade", "Upgrade": "websocket"}
        headers |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        connection.request("GET", "/_stcore/stream", headers=headers)
        answer = connection.getresponse().status
        connection.close()
        return answer

    assert status(f"127.0.0.1:{dashboard.port}") == 101
    assert status("evil.example") == 403


@pytest.mark.parametrize("path", ["/config", "/plan", "/runs", "/verify"])
def test_a_deep_link_on_a_fresh_server_goes_through_the_entry(dashboard: Dashboard, page: Page, path: str) -> None:
    settled(page, f"{dashboard.url}{path}?lang=zh")
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
    assert "lang=zh" in page.url


def test_no_page_asks_a_foreign_host(dashboard: Dashboard, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    foreign: list[str] = []
    own = re.compile(rf"^(https?|wss?)://127\.0\.0\.1:{dashboard.port}/|^(data|blob):")
    page.on("request", lambda request: foreign.extend([] if own.match(request.url) else [request.url]))
    for path in ("/", "/config", "/plan", "/runs", "/verify"):
        settled(page, dashboard.url + path)
    context.close()
    assert foreign == []


def test_a_run_folder_deleted_under_an_open_page_is_one_sentence(dashboard: Dashboard, page: Page) -> None:
    run = RunFolder.create(
        dashboard.workspace / "runs", config={"model_name": "m"}, config_text="model_name: m\n", argv=None
    )
    settled(page, f"{dashboard.url}/runs?run={run.id}")
    expect(badge(page, "Starting")).to_be_visible()
    shutil.rmtree(run.path)
    expect(page.get_by_text("is not there; its folder may have been deleted")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_the_language_is_kept_in_the_address_and_for_the_next_visit(dashboard: Dashboard, page: Page) -> None:
    settled(page, dashboard.url)
    page.get_by_role("radio", name="zh").click()
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("lang=zh"))
    page.wait_for_function("document.cookie.includes('flightdeck_lang=zh')")
    settled(page, dashboard.url + "/runs")
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
