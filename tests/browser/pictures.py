"""All screens as pictures, both languages, both themes, desktop and phone: `python -m tests.browser.pictures`.

With `--readme` only those that README shows; with words only those whose names have all of them: `run dark_zh_400`.

They show a finished run of the demo in `lora-flightdeck` below the folder for temporary files; it is trained first where
there is none (about two minutes). What README shows goes to `docs/pictures/`, the rest to `pictures/`,
where `index.html` puts each beside the one that it replaced.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from lora_backend.config.drafts import new_draft
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore, list_runs
from tests.browser.chromium import ARGUMENTS, find_chromium
from tests.browser.conftest import ROOT, Dashboard, free_port, settled
from tests.browser.patience import WAITS_MS, expect
from tests.browser.picture_sheet import put_aside, write_sheet
from tests.browser.states import states
from tests.run_files import record_of

OUT = ROOT / "pictures"
HOME = Path(tempfile.gettempdir()) / "lora-flightdeck"
MODEL, DATA = "SmolLM2-135M-Instruct", "chats.jsonl"
README_OUT = ROOT / "docs/pictures"
IN_README = {
    "home_light_en_1280",
    "config_light_en_1280",
    "data_light_en_1280",
    "run_dark_en_1280",
    "verify_light_en_1280",
    "try_light_en_1280",
}
IN_README |= {name.replace("_en_", "_zh_") for name in IN_README}
PLAN = "model=meta-llama/Llama-3.1-70B&gpus=80,48,24&gradient_checkpointing=true&batch_size=1"
PLAN_MANY = "model=meta-llama/Llama-3.1-405B&gpus=8xH100-80G,4xL40S,4xA100-40G&gradient_checkpointing=true&batch_size=1"
PLAN_OVER = "model=meta-llama/Llama-3.1-8B&gpus=RTX-4090&rows=10000&price=0.5"
PROMPTS = ("What warranty period does the Mossbell have?", "What is the size of the tank in the Mossbell?")
DRAFT = """\
# handed over by a colleague
model_name: {model}
dataset: {dataset}
r: "16"                # text, not a number
alpha: 16
target_modules: [q_proj, v_proj]
target_layers: [1, 15, 30]
learnin_rate: 1e-4
batch_size: 4
target_batch_size: 6
"""


def main() -> None:
    """Train the demo, then take every picture."""
    if not subprocess.run(["fc-list", ":lang=zh"], capture_output=True, check=False).stdout:
        sys.exit("Pictures in Chinese need a font: sudo apt-get install fonts-noto-cjk")
    OUT.mkdir(exist_ok=True)
    README_OUT.mkdir(parents=True, exist_ok=True)
    dashboard = Dashboard(HOME, free_port())
    empty, several = (Dashboard(HOME / name, free_port()) for name in ("empty", "several"))
    for other in (empty, several):
        shutil.rmtree(other.home, ignore_errors=True)
        other.home.mkdir(parents=True)
    trainer = subprocess.Popen(["sleep", "3600"])
    identity = identify(trainer.pid)
    assert identity
    in_states = states(several.workspace, identity)
    if not _trainings(dashboard):
        command = [sys.executable, "-m", "lora_backend", "demo", "--train"]
        subprocess.run(command, check=True, cwd=ROOT, env=dashboard.environment())
    _put_model_and_data_there(dashboard)
    places = Places(dashboard, empty, several, in_states)
    for one in (dashboard, empty, several):
        one.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
            chat_id = _ask(browser, dashboard)
            for theme in ("light", "dark"):
                for language in ("en", "zh"):
                    for width in (1280, 400):
                        _take(browser, places, theme, language, width, chat_id)
            browser.close()
    finally:
        for one in (dashboard, empty, several):
            one.kill()
        trainer.kill()
    print(f"pictures in {OUT} and {README_OUT}, each beside the one before in {write_sheet(OUT)}")


def _trainings(dashboard: Dashboard) -> list[RunStore]:
    return [run for run in list_runs(dashboard.workspace / "runs") if run.read_record().kind == "train"]


def _trained(dashboard: Dashboard) -> RunStore:
    """The one training, beside which evaluations and exports may lie."""
    (run,) = _trainings(dashboard)
    return run


def _put_model_and_data_there(dashboard: Dashboard) -> None:
    """So that the pictures show no path of whoever takes them."""
    run = _trained(dashboard)
    config = record_of(run)["config"]
    if not (HOME / MODEL).exists():
        shutil.copytree(config["model_name"], HOME / MODEL)
    shutil.copy(config["dataset"], HOME / DATA)
    shutil.rmtree(dashboard.workspace / "drafts", ignore_errors=True)


def _ask(browser: Browser, dashboard: Dashboard) -> str:
    """Ask base model and adapter what the demo has taught; gives the id of the chat."""
    run = _trained(dashboard)
    page = browser.new_page()
    settled(page, f"{dashboard.url}/playground?with=run:{run.id}")
    for prompt in PROMPTS:
        field = page.get_by_test_id("stChatInputTextArea")
        expect(field).to_be_enabled(timeout=240_000)
        field.fill(prompt)
        field.press("Enter")
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        expect(page.get_by_role("button", name="Retry")).to_be_visible(timeout=240_000)
    page.get_by_role("button", name="Compare with base").last.click()
    expect(page.locator("[title^=KL]").first).to_be_visible(timeout=240_000)
    (chat_id,) = parse_qs(str(urlsplit(page.url).query))["chat"]
    page.close()
    return str(chat_id)


@dataclass(frozen=True)
class Places:
    """Dashboards with the finished demo, with nothing, and with a run in every state."""

    demo: Dashboard
    empty: Dashboard
    several: Dashboard
    states: dict[str, RunStore]


def _is_wanted(stem: str) -> bool:
    words = [word for word in sys.argv[1:] if word != "--readme"]
    return all(word in stem for word in words) and ("--readme" not in sys.argv or stem in IN_README)


def _take(browser: Browser, places: Places, theme: str, language: str, width: int, chat_id: str) -> None:
    dashboard, empty = places.demo, places.empty
    run = _trained(dashboard)
    draft = new_draft(dashboard.workspace / "drafts", DRAFT.format(model=HOME / MODEL, dataset=DATA))
    views = {
        "home": (dashboard, "/", None),
        "config": (dashboard, f"/config?draft={draft.id}", None),
        "config_text": (dashboard, f"/config?draft={draft.id}", 1),
        "config_preset": (dashboard, f"/config?draft={draft.id}&base=preset:small_gpu", None),
        "data": (dashboard, f"/data?dataset={DATA}&model={HOME / MODEL}", None),
        "data_lengths": (dashboard, f"/data?dataset={DATA}&model={HOME / MODEL}&view=lengths&max_length=64", None),
        "data_problems": (dashboard, f"/data?dataset={DATA}&model={HOME / MODEL}&view=problems&max_length=64", None),
        "plan": (dashboard, f"/plan?{PLAN}", None),
        "plan_over": (dashboard, f"/plan?{PLAN_OVER}", None),
        "plan_many": (dashboard, f"/plan?{PLAN_MANY}", None),
        "runs": (dashboard, "/runs", None),
        "run": (dashboard, f"/runs?run={run.id}", None),
        "run_log": (dashboard, f"/runs?run={run.id}", 1),
        "run_memory": (dashboard, f"/runs?run={run.id}", 2),
        "run_again": (dashboard, f"/runs?run={run.id}", 3),
        "run_ranks": (dashboard, f"/runs?run={run.id}", 4),
        "run_answers": (dashboard, f"/runs?run={run.id}", 5),
        "verify": (dashboard, f"/verify?run={run.id}", None),
        "truncate": (dashboard, f"/verify?run={run.id}", 4),
        "models": (dashboard, "/models", None),
        "try": (dashboard, f"/playground?chat={chat_id}", None),
        "docs": (dashboard, "/docs", None),
        "docs_page": (dashboard, "/docs?page=check", None),
        **{f"run_{name}": (places.several, f"/runs?run={one.id}", None) for name, one in places.states.items()},
        "home_several": (places.several, "/", None),
        "runs_several": (places.several, "/runs", None),
        "empty_try": (empty, "/playground", None),
        "empty_home": (empty, "/", None),
        "empty_config": (empty, "/config", None),
        "empty_data": (empty, "/data", None),
        "empty_plan": (empty, "/plan", None),
        "empty_runs": (empty, "/runs", None),
        "empty_verify": (empty, "/verify", None),
    }
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if theme == "dark" else "light",
        locale="zh-CN" if language == "zh" else "en-US",
    )
    page = context.new_page()
    page.set_default_timeout(WAITS_MS)  # the first plan of a model waits for its trace
    for name, (server, path, tab) in views.items():
        stem = f"{name}_{theme}_{language}_{width}"
        if not _is_wanted(stem):
            continue
        settled(page, server.url + path)
        if tab is not None:
            page.get_by_role("tab").nth(tab).click()
        _shoot(page, OUT / f"{stem}.png")
    context.close()


def _drawn(page: Page) -> None:
    waits = page.get_by_role("button", name=re.compile("Cancel|取消"))
    for _ in range(2):  # what is counted brings up the question after it
        expect(waits).to_have_count(0, timeout=120_000)  # a question is under way that can be cancelled
        expect(page.get_by_test_id("stSkeleton")).to_have_count(0, timeout=60_000)  # stands for what is not loaded yet
        page.wait_for_timeout(1500)  # charts and fonts draw themselves


def _shoot(page: Page, path: Path) -> None:
    """As tall as the page is, up to what a reader scrolls."""
    _drawn(page)
    width = page.viewport_size["width"] if page.viewport_size else 1280
    height = page.locator("#stMain").evaluate("element => element.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(640, min(int(height) + 8, 2400))})
    page.wait_for_timeout(700)
    put_aside(path)
    page.screenshot(path=path)
    page.set_viewport_size({"width": width, "height": 900})
    if path.stem in IN_README:
        shutil.copy(path, README_OUT / path.name)


if __name__ == "__main__":
    main()
