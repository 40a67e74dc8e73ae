"""A language that is longer by two fifths has room everywhere, and its one file is all that it takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from lora_backend.config.drafts import new_draft
from tests.browser.conftest import ROOT, Dashboard, free_port, settled
from tests.browser.patience import WAITS_MS
from tests.pseudo import CODE, OPEN, write_pseudo
from tests.run_files import end_run, make_run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CLIPPED = """() => [...document.querySelectorAll(
    '#stMain :is(h1, h2, h3, h4, button, [role=tab], [role=radio], .stMarkdownBadge, [data-testid=stPageLink-NavLink], [data-testid=stMetricValue])')]
  .filter(element => element.checkVisibility())
  .flatMap(element => [element, ...element.querySelectorAll('*')].filter(inner =>
      inner.clientWidth > 0 && inner.scrollWidth > inner.clientWidth + 1 && getComputedStyle(inner).overflowX !== 'visible'))
  .map(element => `${element.tagName} ${element.className} ${element.textContent.trim().slice(0, 80)}`)"""
SIDEWAYS = "() => [document.documentElement, document.querySelector('[data-testid=stMain]')].map(one => one.scrollWidth - one.clientWidth)"


@pytest.fixture(scope="module")
def third_language(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """The dashboard of a copy of the project that has one file more."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("lora_backend", "pages", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "app.py", copy)
    write_pseudo(copy / "lora_backend/locale")
    running = Dashboard(tmp_path_factory.mktemp("home"), free_port(), script=copy / "app.py")
    running.start()
    yield running
    running.kill()


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_cut_off_in_a_longer_language(third_language: Dashboard, browser: Browser, width: int) -> None:
    run = make_run(third_language.workspace / "runs", config={"model_name": "m", "r": 4}, config_text="model_name: m\n", argv=None)  # fmt: skip
    (run.path / "metrics.jsonl").write_text("".join(f'{{"step": {n}, "loss": {4 / n}}}\n' for n in range(1, 30)))
    end_run(run, "finished")
    draft = new_draft(third_language.workspace / "drafts", "model_name: m\nr: 'x'\nlearnin_rate: 1\n")
    context = browser.new_context(viewport={"width": width, "height": 800}, locale="en-US")
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)
    found: dict[str, object] = {}
    pages = (
        "",
        "config",
        f"config?draft={draft.id}",
        "data",
        "models",
        "plan",
        f"runs?run={run.id}",
        "runs",
        "verify",
        "playground",
    )
    for path in pages:
        settled(page, f"{third_language.url}/{path}{'&' if '?' in path else '?'}lang={CODE}")
        assert OPEN in page.locator("#stMain").inner_text(), path
        clipped, sideways = page.evaluate(CLIPPED), page.evaluate(SIDEWAYS)
        if clipped or any(sideways):
            found[path] = (clipped, sideways)
    context.close()
    assert found == {}
