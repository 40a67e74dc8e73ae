"""From a finished run to two answers side by side: streamed, stopped, asked again, edited, found again by their address."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page

from lora_backend.chats.chat_store import ChatStore
from lora_backend.chats.documents import Chat, Turn
from lora_backend.clock import machine_clock
from lora_backend.runs.record.run_store import RunStore
from tests.browser.conftest import Dashboard, idle, press, settled
from tests.browser.patience import expect
from tests.tiny import QUESTIONS
from tests.tuned import tuned_run
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def run(shared_tiny: Dashboard) -> RunStore:
    return tuned_run(shared_tiny.workspace / "runs", shared_tiny.home / "tiny-model")


def ask(page: Page, prompt: str) -> None:
    field = page.get_by_test_id("stChatInputTextArea")
    expect(field).to_be_enabled()
    field.fill(prompt)
    field.press("Enter")


def answer_shortly(page: Page) -> None:
    """Several turns fit into what the tiny model reads."""
    press(page.get_by_text("Settings · temperature 0"))
    field = page.get_by_role("spinbutton", name="Longest answer, tokens")
    field.fill("8")
    field.press("Enter")
    expect(page.get_by_text("up to 8 tokens")).to_be_visible()
    press(page.get_by_text("up to 8 tokens"))
    idle(page)


def ends_of(turn: Turn) -> list[str | None]:
    return [reply.ended for reply in turn.replies.values()]


def retry(page: Page) -> Locator:
    return page.get_by_role("button", name="Retry")


def chat(dashboard: Dashboard) -> Chat:
    """Of the test that comes first."""
    (found,) = ChatStore(dashboard.workspace / "chats", machine_clock).list()
    return found


def test_base_and_adapter_answer_side_by_side(shared_tiny: Dashboard, run: RunStore, page: Page) -> None:
    settled(page, f"{shared_tiny.url}/playground?with=run:{run.id}")
    answer_shortly(page)
    ask(page, QUESTIONS[0])
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.wait_for_url(re.compile(r"chat="))
    expect(page.get_by_text("first token after")).to_have_count(2)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    (turn,) = chat(shared_tiny).turns
    base, tuned = (turn.replies[label].text for label in ("base", "tuned"))
    assert base != tuned
    for text in (base, tuned):
        expect(page.get_by_test_id("stText").get_by_text(text, exact=True)).to_be_visible()

    # the answers of before stay where they are while another is written
    page.get_by_test_id("stText").get_by_text(base, exact=True).evaluate("element => element.dataset.mark = 'same'")
    ask(page, QUESTIONS[1])
    expect(page.get_by_text("first token after")).to_have_count(4)
    expect(retry(page)).to_have_count(1)  # the turn before loses its own
    expect(retry(page)).to_be_visible()
    expect(page.locator("[data-mark=same]")).to_be_visible()

    # F5, and a colleague with the address
    page.reload()
    idle(page)
    expect(page.get_by_text("first token after")).to_have_count(4)
    other = page.context.new_page()
    settled(other, page.url)
    expect(other.get_by_text("first token after")).to_have_count(4)
    other.close()

    # an edited prompt drops what came after, and comes back
    press(page.get_by_role("button", name="Edit").first)
    editor = page.get_by_role("textbox", name="Edit the prompt")
    expect(editor).to_have_value(QUESTIONS[0])
    editor.fill(QUESTIONS[2])
    editor.press("Control+Enter")
    press(page.get_by_role("button", name="Ask this instead"))
    expect(page.get_by_text("everything after it was removed")).to_be_visible()
    expect(page.get_by_text("first token after")).to_have_count(2)
    assert [turn.prompt for turn in chat(shared_tiny).turns] == [QUESTIONS[2]]
    press(page.get_by_role("button", name="Undo"))
    expect(page.get_by_text("first token after")).to_have_count(4)
    assert [turn.prompt for turn in chat(shared_tiny).turns] == QUESTIONS[:2]

    # where they disagree
    press(page.get_by_role("button", name="Compare with base").last)
    expect(page.locator("[title^=KL]").first).to_be_visible()
    expect(page.get_by_text("How far adapter and base disagree")).to_be_visible()

    # stop while the model loads, then the same again
    press(page.get_by_role("button", name="Unload"))
    expect(page.get_by_text("Not loaded yet")).to_be_visible()
    ask(page, QUESTIONS[3])
    press(page.get_by_role("button", name="Stop"))
    expect(page.get_by_text("stopped")).to_have_count(2)
    until(lambda: ends_of(chat(shared_tiny).turns[2]) == ["cancelled", "cancelled"], "it is kept as it is shown")
    press(retry(page))
    expect(page.get_by_text("first token after")).to_have_count(6)

    press(page.get_by_role("button", name="New chat"))
    expect(page.get_by_text("first token after")).to_have_count(0)
    expect(page).to_have_url(re.compile(f"with=run%3A{run.id}"))
    press(page.get_by_role("button", name="Earlier chats"))
    press(page.get_by_role("link", name=QUESTIONS[0]))
    expect(page.get_by_text("first token after")).to_have_count(6)


def test_what_is_refused_stays_in_the_field(shared_tiny: Dashboard, run: RunStore, page: Page) -> None:
    settled(page, f"{shared_tiny.url}/playground?with=run:{run.id}")
    ask(page, "x" * 100_001)
    expect(page.get_by_text("100,001 characters")).to_be_visible()
    expect(page.get_by_test_id("stChatInputTextArea")).to_have_value("x" * 100_001)


def test_on_a_phone_the_columns_stand_under_each_other(shared_tiny: Dashboard, run: RunStore, page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    settled(page, f"{shared_tiny.url}/playground?with=run:{run.id}")
    answer_shortly(page)
    ask(page, QUESTIONS[0])
    expect(page.get_by_text("first token after")).to_have_count(2)
    base, tuned = (
        page.get_by_text(head, exact=True).bounding_box() for head in ("Base model tiny-model", "Adapter tuned")
    )
    assert base
    assert tuned
    assert base["x"] == tuned["x"]
    assert base["y"] < tuned["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
