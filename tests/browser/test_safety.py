"""Safe from the first day: loopback, foreign hosts, deep links, foreign requests, error details."""

from __future__ import annotations

import http.client
import re
import shutil

import psutil
import pytest
from playwright.sync_api import Browser, Page

from lora_backend.runs.record.process_identity import ProcessIdentity
from tests.browser.conftest import Dashboard, badge, idle, press, settled
from tests.browser.hostile import HOST, make_hostile
from tests.browser.living_run import living
from tests.browser.patience import WAITS_MS, expect
from tests.often import often
from tests.run_files import add_point, end_run, make_run
from tests.waiting import until

pytestmark = [pytest.mark.browser]


def test_it_listens_on_loopback_only(shared_dashboard: Dashboard) -> None:
    assert shared_dashboard.process
    family = [
        psutil.Process(shared_dashboard.process.pid),
        *psutil.Process(shared_dashboard.process.pid).children(recursive=True),
    ]
    listening = {
        connection.laddr.ip
        for process in family
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def answer(dashboard: Dashboard, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """What the server says to one request, as a program or another page's browser would send it."""
    connection = http.client.HTTPConnection("127.0.0.1", dashboard.port, timeout=120)
    connection.request(method, path, headers=headers)
    answered = connection.getresponse()
    if answered.status != 101:
        answered.read()
    connection.close()
    return answered


def websocket(dashboard: Dashboard, **headers: str) -> int:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    return answer(dashboard, "/_stcore/stream", **upgrade, **key, **headers).status


def test_a_foreign_host_is_refused(shared_dashboard: Dashboard) -> None:
    assert websocket(shared_dashboard, Host=f"127.0.0.1:{shared_dashboard.port}", Origin=shared_dashboard.url) == 101
    assert websocket(shared_dashboard, Host="evil.example", Origin="http://evil.example") == 403
    for path in ("/", "/runs", "/_stcore/health", "/_stcore/host-config"):
        assert answer(shared_dashboard, path).status == 200
        assert answer(shared_dashboard, path, Host="evil.example").status == 403
        assert answer(shared_dashboard, path, Host=f"localhost.evil.example:{shared_dashboard.port}").status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:3000", "http://127.0.0.1:9999", "http://127.0.0.1", "null", "https://share.streamlit.io", "http://127.0.0.1.evil.example", "file://", ""],
)  # fmt: skip
def test_a_page_of_another_origin_or_port_is_refused(shared_dashboard: Dashboard, origin: str) -> None:
    assert websocket(shared_dashboard, Origin=origin) == 403
    assert answer(shared_dashboard, "/_stcore/host-config", Origin=origin).status == 403
    for method in ("OPTIONS", "PUT", "DELETE"):
        assert answer(shared_dashboard, "/_stcore/upload_file/a/b", method, Origin=origin).status == 403


def test_another_name_of_the_same_machine_is_another_origin(shared_dashboard: Dashboard) -> None:
    port = shared_dashboard.port
    assert websocket(shared_dashboard, Origin=f"http://localhost:{port}", Host=f"localhost:{port}") == 101
    assert websocket(shared_dashboard, Origin=f"http://localhost:{port}", Host=f"127.0.0.1:{port}") == 403


@pytest.mark.parametrize(
    "path",
    ["/_stcore/agent/openapi.json", "/_stcore/agent/interact", "/_stcore/agent/mcp", "/_stcore/agent", "/_stcore/metrics", "/_stcore/metrics/", "//_stcore/metrics", "/_stcore//agent/mcp", "/%5fstcore/metrics"],
)  # fmt: skip
def test_what_lets_programs_in_and_counts_sessions_is_not_served(shared_dashboard: Dashboard, path: str) -> None:
    for method in ("GET", "POST"):
        refused = answer(shared_dashboard, path, method)
        assert refused.status == 404
        assert "Link" not in refused.headers


@pytest.mark.parametrize("path", ["/", "/runs", "/_stcore/health", "/_stcore/metrics", "/static/none.js"])
def test_every_answer_forbids_frames_and_foreign_hosts(shared_dashboard: Dashboard, path: str) -> None:
    headers = answer(shared_dashboard, path).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules["frame-ancestors"] == rules["frame-src"] == rules["object-src"] == "'none'"
    assert "unsafe" not in rules["script-src"]
    assert rules["img-src"] == "'self' data: blob:"
    assert not re.search(r"\*|https?:|evil", headers["Content-Security-Policy"])


def test_the_policy_lets_the_pages_work_and_no_foreign_script(shared_dashboard: Dashboard, page: Page) -> None:
    # Long integers of protobuf try WebAssembly first and do without.
    page.add_init_script(
        "window.refused = []; document.addEventListener('securitypolicyviolation', e => "
        "e.blockedURI === 'wasm-eval' || window.refused.push(e.violatedDirective))"
    )
    run = make_run(shared_dashboard.workspace / "runs", config={"model_name": "m"}, config_text="", argv=["true"])
    add_point(run, {"step": 1, "loss": 2.0})
    for path in ("/", "/config", "/plan?gpus=24,12&model=SmolLM2-135M", "/runs", f"/runs?run={run.id}", "/verify"):
        settled(page, shared_dashboard.url + path)
        if "run=" in path:
            expect(page).to_have_title("m · LoRA Flightdeck")
            page.locator(".fd-chart .main-svg").first.wait_for()  # a component of ours, and plotly.js from its package
        assert page.evaluate("window.refused") == [], path
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://evil.example/x.png\"><img src=x onerror=\"window.PWN = 1\">')"
    )
    page.wait_for_function("window.refused.length >= 2")
    assert page.evaluate("[...window.refused].sort()") == ["img-src", "script-src-attr"]
    assert page.evaluate("window.PWN") is None


def test_a_browser_fetches_plotly_once(shared_dashboard: Dashboard) -> None:
    # By its version, so that a new one is fetched; served once a page with a chart was drawn.
    path = "/_stcore/bidi-components/flightdeck.plotly/plotly.min.js"
    assert "immutable" in answer(shared_dashboard, f"{path}?v=1").headers["Cache-Control"]
    assert "immutable" not in answer(shared_dashboard, path).headers["Cache-Control"]
    assert answer(shared_dashboard, f"{path}/../../__init__.py?v=1").status >= 400


def test_no_other_page_can_frame_the_dashboard(shared_dashboard: Dashboard, page: Page) -> None:
    page.goto(f"data:text/html,<iframe src='{shared_dashboard.url}/'></iframe>")
    page.wait_for_function("document.querySelector('iframe') !== null")
    page.wait_for_load_state("load")
    assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]


def test_below_a_base_path_pages_links_and_refusals_are_the_same(dashboard_below_a_path: Dashboard, page: Page) -> None:
    below = dashboard_below_a_path
    run = make_run(below.workspace / "runs", config={"model_name": "m"}, config_text="model_name: m\n", argv=None)
    end_run(run, "finished")
    settled(page, f"{below.url}/runs?run={run.id}")
    expect(badge(page, "Finished")).to_be_visible()
    page.get_by_role("link", name="Plan", exact=True).click()
    expect(page).to_have_url(re.compile(rf"^{re.escape(below.url)}/plan"))
    assert answer(below, "/team/fd/_stcore/metrics").status == 404
    assert answer(below, "/team/fd/_stcore/agent/openapi.json").status == 404


@pytest.mark.parametrize("path", often(["/config", "/plan", "/runs", "/verify"], {"/plan", "/runs"}))
def test_a_deep_link_on_a_fresh_server_goes_through_the_entry(dashboard: Dashboard, page: Page, path: str) -> None:
    settled(page, f"{dashboard.url}{path}?lang=zh")
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
    assert "lang=zh" in page.url


OPEN_EVERYTHING = """() => {
  for (const summary of document.querySelectorAll('[data-testid=stExpander] details:not([open]) summary')) summary.click()
  for (const button of document.querySelectorAll('[data-testid=stPopover] button')) button.click()
}"""
MARKUP = r"""host => {
  const made = [...document.querySelectorAll(`a[href*="${host}"]:not([data-testid=stPageLink-NavLink]), img[src*="${host}"], img[src="x"], iframe, .katex, [data-testid=stMain] script:not([type])`)]
  const own = element => /flightdeck_lang|^document\.documentElement\.lang = "[\w-]+"\nif \(!window\.flightdeckPopovers\) \{\n/.test(element.textContent)
  return [...made.filter(element => !own(element)).map(element => element.outerHTML.slice(0, 200)), ...(window.PWN ? ['a script ran'] : [])]
}"""


@pytest.fixture(scope="module")
def hostile(shared_dashboard: Dashboard) -> list[str]:
    return make_hostile(shared_dashboard.home, shared_dashboard.workspace)


@pytest.mark.parametrize("which", ["/", "/config", "/plan", "/runs", "/verify"])
def test_no_page_asks_a_foreign_host(
    shared_dashboard: Dashboard, hostile: list[str], browser: Browser, which: str
) -> None:
    """Over a workspace full of markup, with all that can be opened open."""
    context = browser.new_context(viewport={"width": 1280, "height": 2000})
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)
    foreign: list[str] = []
    own = re.compile(rf"^(https?|wss?)://127\.0\.0\.1:{shared_dashboard.port}/|^(data|blob):")
    page.on("request", lambda request: foreign.extend([] if own.match(request.url) else [request.url]))
    found: dict[str, list[str]] = {}
    for path in (path for path in hostile if path.partition("?")[0] == which):
        settled(page, shared_dashboard.url + path)
        expect(page.get_by_text("Traceback")).to_have_count(0)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        page.evaluate(OPEN_EVERYTHING)
        for tab in page.get_by_role("tab").all():
            idle(page)  # one that was opened may have the page made anew
            expect(tab).to_be_visible()
            tab.click(force=True)
        idle(page)
        if made := page.evaluate(MARKUP, HOST):
            found[path] = made
    context.close()
    assert found == {}
    assert foreign == []


def test_a_run_folder_deleted_under_an_open_page_is_one_sentence(
    shared_dashboard: Dashboard, page: Page, trainer: ProcessIdentity
) -> None:
    run = living(shared_dashboard.workspace, trainer)
    settled(page, f"{shared_dashboard.url}/runs?run={run.id}")
    expect(badge(page, "Running")).to_be_visible()
    shutil.rmtree(run.path)
    expect(page.get_by_text("was not found; its folder may have been deleted")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)


def test_the_language_is_kept_in_the_address_and_for_the_next_visit(shared_dashboard: Dashboard, page: Page) -> None:
    html = page.locator("html")
    settled(page, shared_dashboard.url)
    expect(html).to_have_attribute("lang", "en")
    press(page.get_by_role("radio", name="zh"))
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile("lang=zh"))
    until(lambda: "flightdeck_lang=zh" in page.evaluate("document.cookie"), "the cookie is set")
    expect(html).to_have_attribute("lang", "zh-CN")  # fonts, and how a screen reader speaks, go by it
    settled(page, shared_dashboard.url + "/runs")
    expect(page.get_by_role("link", name="核验", exact=True)).to_be_visible()
    expect(html).to_have_attribute("lang", "zh-CN")
