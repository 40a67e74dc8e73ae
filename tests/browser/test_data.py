"""A stranger's data in a real browser: upload, see what is learned, fix two rows, train on them to the end."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lora_backend.runs.record.run_store import list_runs
from tests.browser.conftest import Dashboard, badge, idle, press, settled
from tests.browser.patience import expect
from tests.run_files import record_of
from tests.tiny import ANSWERS, QUESTIONS
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

KEYS = "r: 4\nalpha: 8\nnum_epochs: 2\nlearning_rate: 2e-3\nbatch_size: 4\nprecision: fp32\nseed: 42\n"


def talk(question: str, answer: str) -> str:
    return json.dumps({"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]})


def choose(page: Page, label: str, text: str) -> None:
    """Type into a field with a list, and take what was typed."""
    field = page.get_by_role("combobox", name=re.compile(label))
    field.click()
    field.fill(text)
    field.press("Enter")
    idle(page)


def fix(page: Page, row: int, text: str) -> None:
    """Write another text into a row."""
    box = page.locator(f".st-key-row-{row}")
    press(box.get_by_role("button", name="Edit"))
    field = page.get_by_role("textbox", name=f"Row {row} as JSON")
    field.fill(text)
    field.press("Control+Enter")
    idle(page)
    press(page.get_by_role("button", name="Keep the change"))
    expect(field).to_have_count(0)
    expect(box.get_by_text("changed")).to_be_visible()


def test_a_sharegpt_file_with_two_bad_rows_is_fixed_on_the_page_and_trained_on(
    tiny: Dashboard, page: Page, tmp_path: Path
) -> None:
    rows = [talk(*pair) for pair in zip(QUESTIONS, ANSWERS, strict=True)] * 4
    rows[4] = rows[4][:-20]
    rows[9] = rows[9].replace('"human"', '"robot"')
    source = tmp_path / "talks.jsonl"
    source.write_text("\n".join(rows) + "\n")
    settled(page, f"{tiny.url}/data")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(source)
    page.wait_for_url(re.compile(r"dataset=talks-[0-9a-f]{8}\.jsonl"))
    expect(page.get_by_text("ShareGPT chats")).to_be_visible()

    choose(page, "Model", str(tiny.home / "tiny-model"))
    page.wait_for_url(re.compile("model="))
    first = page.locator(".st-key-row-1")
    expect(first.locator("mark").first).to_have_text(ANSWERS[0])
    expect(first.locator("mark").nth(1)).to_have_text("</s>")
    expect(first.get_by_text(QUESTIONS[0])).to_be_visible()
    expect(first.locator("mark")).to_have_count(2)
    expect(page.get_by_role("radio", name="Problems (1)")).to_be_visible()

    page.reload()  # the address keeps both
    expect(first.locator("mark").first).to_have_text(ANSWERS[0])
    press(page.get_by_text("Problems (1)"))
    expect(page.get_by_text("2 rows are bad (rows 5, 10)")).to_be_visible()
    press(page.get_by_role("button", name="Show 2 rows"))
    expect(page.get_by_text("Only rows that cannot be trained on.")).to_be_visible()
    fix(page, 5, talk(QUESTIONS[0], ANSWERS[0]))
    fix(page, 10, talk(QUESTIONS[1], ANSWERS[1]))
    expect(page.get_by_text("2 rows changed")).to_be_visible()
    press(page.get_by_role("button", name="Save as a new file"))
    page.wait_for_url(re.compile(r"dataset=talks-edited-[0-9a-f]{8}\.jsonl"))
    expect(page.get_by_text("Problems (1)")).to_have_count(0)
    kept = {path.name.split("-")[1]: path for path in (tiny.workspace / "data").iterdir()}
    assert len(kept) == 2, "the old file stays"
    assert len(kept["edited"].read_text().splitlines()) == 16

    press(page.get_by_role("button", name="Use in config"))
    press(page.get_by_role("button", name="New draft"))
    page.wait_for_url(re.compile(r"/config\?.*draft="))
    idle(page)
    expect(page.get_by_role("link", name="Look at the data")).to_be_visible()
    press(page.get_by_role("tab", name="Text"))
    text = page.get_by_role("textbox", name="YAML; comments and order are kept")
    text.fill(text.input_value() + KEYS)
    text.press("Control+Enter")
    (draft,) = (tiny.workspace / "drafts").glob("*/config.yaml")
    until(lambda: KEYS in draft.read_text(), "the text is in the draft")
    idle(page)
    press(page.get_by_role("button", name="Launch"))
    page.wait_for_url(re.compile(r"/runs\?.*run="))
    expect(badge(page, "Finished")).to_be_visible()
    (run,) = list_runs(tiny.workspace / "runs")
    assert record_of(run)["config"]["dataset"].endswith(kept["edited"].name)
    assert run.state().step == 8
