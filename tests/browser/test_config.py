"""Another tool's config with three faults: seen with their lines, mended by clicks and by hand, compared, launched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from lora_backend.config.drafts import list_drafts
from tests.browser.conftest import Dashboard, end_processes, idle, press, press_by_key, run_of, settled
from tests.browser.contrast import CONTRAST
from tests.browser.patience import expect
from tests.run_files import record_of
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

LLAMA_FACTORY = """\
### model
model_name_or_path: {model}
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 4
lora_target: q_porj,v_proj
dataset: {data}
cutoff_len: 4096
per_device_train_batch_size: 4
learning_rate: 2.0e-4
num_train_epochs: 2
logging_steps: 1
"""
SCRIPT = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--r", type=int, default=16)
parser.add_argument("--check_r_consistency", type=bool, default=True)
"""


def test_a_foreign_config_is_mended_compared_and_launched(shared_tiny: Dashboard, page: Page, tmp_path: Path) -> None:
    file, script = tmp_path / "lf.yaml", tmp_path / "train_lora.py"
    file.write_text(LLAMA_FACTORY.format(model=shared_tiny.home / "tiny-model", data=shared_tiny.home / "chat.jsonl"))
    script.write_text(SCRIPT)
    settled(page, f"{shared_tiny.url}/config")
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(file)
    expect(page.get_by_text("LLaMA-Factory config detected")).to_be_visible()
    expect(page.get_by_role("cell", name="lora_target")).to_be_visible()
    press(page.get_by_role("button", name="Convert and edit"))
    expect(page.get_by_role("button", name="Launch")).to_be_visible()
    idle(page)

    # each fault with the line that it has in the draft
    (draft,) = [one for one in list_drafts(shared_tiny.workspace / "drafts") if one.id in page.url]
    lines = draft.text().splitlines()
    for key, message in (
        ("max_length", "the model was made for 128 tokens"),
        ("target_modules", "names q_porj, which the model does not have"),
    ):
        number = next(index for index, line in enumerate(lines, start=1) if line.startswith(f"{key}:"))
        box = page.locator("[class*=st-key-findings-] p").filter(has_text=message)
        expect(box).to_contain_text(f"line {number}")

    # two by one click each
    press(page.get_by_role("button", name="Set max_length: 128"))
    expect(page.get_by_text("the model was made for 128 tokens")).to_have_count(0)
    idle(page)
    press(page.get_by_role("button", name="Remove q_porj from target_modules"))
    expect(page.get_by_text("names q_porj")).to_have_count(0)
    idle(page)
    assert "max_length: 128" in draft.text()

    # one by hand
    press(page.get_by_role("tab", name="Text"))
    box = page.get_by_role("textbox", name="YAML; comments and order are kept")
    box.fill(draft.text().replace("chat.jsonl", "chats.jsonl"))
    box.press("Control+Enter")
    expect(page.get_by_text("There is no data set")).to_have_count(0)
    expect(page.get_by_text("No problems found.")).to_be_visible()
    idle(page)

    # against the defaults of the team's own script
    press(page.get_by_role("button", name="A file or a script"))
    popover = page.get_by_test_id("stPopoverBody")
    popover.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(script)
    expect(popover.get_by_text("train_lora.py")).to_be_visible()
    press(popover.get_by_role("button", name="Compare with it"))
    page.wait_for_url(re.compile(r"base=file(:|%3A)train_lora\.py"))
    expect(page.get_by_text("Line 4 of the script")).to_be_visible()
    expect(page.get_by_role("cell", name="check_r_consistency")).to_be_visible()
    page.keyboard.press("Escape")
    idle(page)

    press(page.get_by_role("button", name="Launch"))
    run = run_of(page, shared_tiny)
    end_processes(run)  # that it trains to its end is the walk's
    assert record_of(run)["config"]["target_modules"] == ["v_proj"]


def test_an_edit_survives_a_reload_and_a_second_tab_is_asked(tiny: Dashboard, page: Page) -> None:
    from lora_backend.config.drafts import new_draft

    draft = new_draft(tiny.workspace / "drafts", f"model_name: {tiny.home / 'tiny-model'}\nr: 4\n")
    address = f"{tiny.url}/config?draft={draft.id}"
    settled(page, address)
    other = page.context.new_page()
    settled(other, address)
    rank = page.get_by_role("spinbutton", name="r", exact=True)
    rank.fill("8")
    rank.press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    idle(page)
    assert "r: 8" in draft.text()

    rank = other.get_by_role("spinbutton", name="r", exact=True)
    rank.fill("12")
    rank.press("Enter")
    expect(other.get_by_text("Another tab changed this draft")).to_be_visible()
    assert "r: 8" in draft.text()
    press(other.get_by_role("button", name="Keep mine"))
    expect(other.get_by_text("Another tab changed this draft")).to_have_count(0)
    idle(other)
    assert "r: 12" in draft.text()

    page.reload()
    expect(page.get_by_role("spinbutton", name="r", exact=True)).to_have_value("12")
    idle(page)
    press(page.get_by_role("button", name="Undo"))
    expect(page.get_by_role("spinbutton", name="r", exact=True)).to_have_value("8")
    tiny.kill()
    tiny.start()
    settled(page, address)
    press(page.get_by_role("button", name="Undo"))
    expect(page.get_by_role("spinbutton", name="r", exact=True)).to_have_value("4")


EIGHT_FAULTS = """\
# a teammate's config
model_name: {model}
dataset: {data}
lora_rank: 4          # how much it may learn
lora_alpha: 8
dropout: 0.05
target_modules: [q_proj, v_porj]
learnin_rate: 5e-4
num_epochs: "1"
batch_size: "4"
precison: auto
max_length: 128
"""


def test_eight_faults_are_five_presses_of_a_key_from_a_running_job(shared_tiny: Dashboard, page: Page) -> None:
    """By the keyboard alone."""
    from lora_backend.config.drafts import new_draft

    text = EIGHT_FAULTS.format(model=shared_tiny.home / "tiny-model", data=shared_tiny.home / "chats.jsonl")
    draft = new_draft(shared_tiny.workspace / "drafts", text)
    draft.rename("Answers for the shop")
    settled(page, f"{shared_tiny.url}/config?draft={draft.id}")
    expect(page.locator("#stMain h1")).to_have_text("Answers for the shop")
    bar = page.locator(".st-key-config_bar")
    expect(bar).to_contain_text("7 errors")
    expect(page.get_by_role("button", name="Launch")).to_be_disabled()

    press_by_key(bar.get_by_role("button", name="Fix all"))
    page.get_by_role("dialog").locator(".token.inserted").first.wait_for()
    assert page.evaluate(CONTRAST) == []
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_test_id("stCode")).to_contain_text("+learning_rate: 5e-4")
    assert draft.text() == text, "nothing is changed before it was seen"
    press_by_key(dialog.get_by_role("button", name="Apply 8 fixes"))
    expect(dialog).to_have_count(0)
    expect(bar).to_contain_text("No problems found.")
    assert "r: 4          # how much it may learn" in draft.text()
    press_by_key(page.get_by_role("button", name="Undo"))
    expect(bar).to_contain_text("7 errors")
    assert draft.text() == text
    press_by_key(page.get_by_role("button", name="Redo"))
    expect(bar).to_contain_text("No problems found.")

    press_by_key(page.get_by_role("button", name="Launch"), key="Shift+Tab")
    run = run_of(page, shared_tiny)
    end_processes(run)  # that it trains to its end is the walk's
    assert record_of(run)["name"] == "Answers for the shop"


@pytest.mark.parametrize("width", [1280, 400])
def test_the_bar_stays_in_sight_and_covers_nothing_that_has_the_focus(
    shared_tiny: Dashboard, page: Page, width: int
) -> None:
    from lora_backend.config.drafts import new_draft

    page.set_viewport_size({"width": width, "height": 800})
    draft = new_draft(shared_tiny.workspace / "drafts", "model_name: m\nlora_rank: 4\n")
    settled(page, f"{shared_tiny.url}/config?draft={draft.id}")
    bar, main = page.locator(".st-key-config_bar"), page.get_by_test_id("stMain")
    main.evaluate("main => main.scrollTo(0, main.scrollHeight)")
    expect(bar.get_by_role("button", name="Launch")).to_be_in_viewport(ratio=1)
    expect(bar.get_by_role("button", name="Fix all")).to_be_in_viewport(ratio=1)
    main.evaluate("main => main.scrollTo(0, main.scrollHeight / 2)")
    field = page.get_by_role("spinbutton", name="alpha", exact=True)
    field.evaluate("field => field.scrollIntoView({block: 'start'})")
    below = bar.evaluate("bar => bar.getBoundingClientRect().bottom")
    assert field.evaluate("field => field.getBoundingClientRect().top") >= below
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") == 0


def test_the_text_has_colours_line_numbers_and_findings_in_its_margin(shared_tiny: Dashboard, page: Page) -> None:
    from lora_backend.config.drafts import new_draft

    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    text = f"# mine\nmodel_name: {shared_tiny.home / 'tiny-model'}\ndataset: chats.jsonl\nlora_rank: 4   # rank\n"
    draft = new_draft(shared_tiny.workspace / "drafts", text)
    settled(page, f"{shared_tiny.url}/config?draft={draft.id}")
    press(page.get_by_role("tab", name="Text"))
    box = page.get_by_role("textbox", name="YAML; comments and order are kept")
    layer = page.locator(".fd-yaml")
    expect(layer.locator(".fd-yaml-key").first).to_have_text("model_name")
    expect(layer.locator(".fd-yaml-comment")).to_have_text(["# mine", "# rank"])
    expect(layer.locator(".fd-yaml-line")).to_have_count(5)
    mark = layer.get_by_role("img", name=re.compile("error: `?lora_rank"))
    expect(mark).to_be_visible()
    expect(mark.locator("..")).to_contain_text("4")
    same = "([one, other]) => Math.abs(one.left - other.left) < 2 && Math.abs(one.top - other.top) < 2"
    both = "at => at.getBoundingClientRect()"
    until(lambda: page.evaluate(same, [one.evaluate(both) for one in (layer, box)]), "the layer lies over the text")

    # typed, indented, seen at once; the mark goes with its line
    idle(page)
    box.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.type("rank_pattern:")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("q_proj: 8")
    page.keyboard.press("Enter")
    page.keyboard.press("Backspace")
    page.keyboard.press("Backspace")
    page.keyboard.type("seed: 7\n")
    expect(layer.locator(".fd-yaml-key").nth(1)).to_have_text("q_proj")
    expect(mark.locator("..")).to_contain_text("7")
    assert draft.text() == text

    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    idle(page)
    assert draft.text() == "rank_pattern:\n  q_proj: 8\nseed: 7\n" + text
    expect(mark.locator("..")).to_contain_text("7")

    # Tab alone writes; after Escape it leaves, so nobody is caught
    box.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    expect(box).not_to_be_focused()
    assert draft.text().startswith("rank_pattern:\n  q_proj")

    press(page.get_by_role("button", name="Rename lora_rank to r"))
    expect(layer.get_by_role("img")).to_have_count(0)
    expect(layer.locator(".fd-yaml-key").last).to_have_text("r")
    assert refused == []
