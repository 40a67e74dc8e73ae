"""The Try page against the real process that answers, on the tiny model."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.chats.answering import Answering
from lora_backend.chats.documents import Chat, Reply, TokenKl, Turn
from lora_backend.chats.kept_answers import KeptAnswers, UnderWay
from lora_backend.errors import FlightdeckError
from lora_backend.hardware.inventory import read_host
from lora_backend.installation import this_installation
from lora_backend.models.find import find_model
from lora_backend.runs.processes.leases import CPU, release, take
from lora_backend.runs.record.job_documents import Column
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.transitions import request_stop
from pages.parts.playground import open_chat
from pages.parts.shell import services
from tests.pages.screens import show, texts
from tests.run_files import make_run
from tests.tiny import QUESTIONS, make_model, stub_model
from tests.tuned import tuned_run
from tests.waiting import until

PROMPT = QUESTIONS[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a finished run on the tiny model, whose adapter does something, and one process for all tests."""
    folder = tmp_path_factory.mktemp("try")
    model = make_model(folder / "tiny-model")
    with pytest.MonkeyPatch.context() as patch:
        places(folder, patch)
        tuned_run(this_installation().runs, model)
        yield folder
        services.kept_answers().client.close()


def places(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("FLIGHTDECK_WORKSPACE", str(folder / "ws"))
    patch.setenv("FLIGHTDECK_HOME", str(folder / "cache"))
    patch.setenv("FLIGHTDECK_MODEL_ROOTS", str(folder))
    patch.setenv("FLIGHTDECK_DATA_ROOTS", str(folder))


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    places(home, monkeypatch)
    shutil.rmtree(this_installation().chats, ignore_errors=True)
    return list_runs(this_installation().runs)[-1]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace of the test's own, with a process of its own where it asks anything."""
    places(tmp_path, monkeypatch)
    yield tmp_path
    services.kept_answers().client.close()


def kept() -> KeptAnswers:
    return services.kept_answers()


def ask(at: AppTest, prompt: str = PROMPT) -> AppTest:
    at.chat_input[0].set_value(prompt).run()
    return answered(at)


def answered(at: AppTest) -> AppTest:
    assert not at.exception, at.exception
    until(lambda: kept().under_way(chat_of(at).id) is None, "the answers", limit_s=240.0)
    at.run()
    assert not at.exception, at.exception
    return at


def chat_of(at: AppTest) -> Chat:
    return kept().store.read(said(at, "chat"))


def said(at: AppTest, name: str) -> str:
    """A word of the address."""
    found = at.query_params[name]
    return found if isinstance(found, str) else found[-1]


def click(at: AppTest, key: str) -> AppTest:
    at.button(key=key).click().run()
    assert not at.exception, at.exception
    return at


def stored(run: RunStore, *turns: Turn, **fields: Any) -> Chat:
    """A chat that is there already."""
    values: dict[str, Any] = {
        "id": kept().store.new_id(), "title": "earlier", "base_model": str(run.read_record().config["model_name"]),
        "columns": [Column(label="base", adapter=None), Column(label="tuned", adapter=str(run.adapter))],
    }  # fmt: skip
    chat = Chat(**{**values, "turns": list(turns), **fields})
    kept().store.write(chat)
    return chat


def two(text: str, **fields: Any) -> dict[str, Reply]:
    values: dict[str, Any] = {"text": text, "ended": "end", "num_tokens": 2, **fields}
    return {label: Reply(**values) for label in ("base", "tuned")}


def test_an_address_puts_an_adapter_beside_its_base_and_both_answer(run: RunStore) -> None:
    at = show("playground", **{"with": f"run:{run.id}"})
    assert at.selectbox(key="try_base").value == run.read_record().config["model_name"]
    assert at.multiselect(key="try_columns-en").value == ["base", f"run:{run.id}"]
    assert "Not loaded yet. It needs" in texts(at)
    ask(at)
    chat = chat_of(at)
    (turn,) = chat.turns
    assert turn.prompt == PROMPT
    assert set(turn.replies) == {"base", "tuned"}
    assert all(reply.ended in ("end", "length") and reply.num_tokens for reply in turn.replies.values())
    assert turn.replies["base"].text != turn.replies["tuned"].text
    assert "with" not in at.query_params
    said = texts(at)
    assert "Base model tiny-model" in said
    assert "Adapter tuned" in said
    assert "tokens/s" in said
    assert "tiny-model is loaded" in said

    # F5, or a colleague with the address
    again = show("playground", chat=chat.id)
    assert PROMPT in [element.value for element in again.text]
    assert turn.replies["tuned"].text in [element.value for element in again.text]


def test_a_checkpoint_stands_beside_the_finished_adapter(run: RunStore) -> None:
    at = show("playground", **{"with": f"run:{run.id}/2;run:{run.id}"})
    assert at.multiselect(key="try_columns-en").value == [f"run:{run.id}/2", f"run:{run.id}"]
    assert [column.label for column in chat_of(ask(at)).columns] == ["tuned @ 2", "tuned"]


def test_without_words_in_the_address_the_newest_adapter_stands_beside_its_base(run: RunStore) -> None:
    at = show("playground")
    assert at.multiselect(key="try_columns-en").value == ["base", f"run:{run.id}"]
    at.multiselect(key="try_columns-en").set_value([f"run:{run.id}"]).run()
    assert said(at, "with") == f"run:{run.id};"
    assert at.multiselect(key="try_columns-en").value == [f"run:{run.id}"], "what is taken out stays out"
    at.multiselect(key="try_columns-en").set_value([]).run()
    assert not at.exception
    assert not at.chat_input


def test_stop_ends_all_columns_and_retry_answers_again(elsewhere: Path, home: Path) -> None:
    shutil.copytree(home / "tiny-model", elsewhere / "tiny-model")
    at = show("playground", model=str(elsewhere / "tiny-model"))
    at.chat_input[0].set_value(PROMPT).run()
    assert at.chat_input[0].disabled, "one question at a time"
    click(at, "stop-0")  # while torch is being imported
    answered(at)
    assert [reply.ended for reply in chat_of(at).turns[0].replies.values()] == ["cancelled"]
    assert "stopped" in texts(at)
    click(at, "retry-0")
    answered(at)
    assert [reply.ended for reply in chat_of(at).turns[0].replies.values()] in (["end"], ["length"])


def test_a_process_that_dies_leaves_what_was_written_and_retry(elsewhere: Path, home: Path) -> None:
    shutil.copytree(home / "tiny-model", elsewhere / "tiny-model")
    at = show("playground", model=str(elsewhere / "tiny-model"))
    at.chat_input[0].set_value(PROMPT).run()
    kept().client.close()
    answered(at)
    assert [reply.ended for reply in chat_of(at).turns[0].replies.values()] == ["failed"]
    assert any("Ask again" in error.value for error in at.error)
    assert not at.button(key="retry-0").disabled


def test_an_answer_that_a_killed_dashboard_left_half_says_so(run: RunStore) -> None:
    chat = stored(run, Turn(prompt=PROMPT, replies=two("half an", ended=None)))
    at = show("playground", chat=chat.id)
    assert [element.value for element in at.text].count("half an") == 2
    assert any("was cut off" in warning.value for warning in at.warning)
    assert not at.button(key="retry-0").disabled


def test_an_edited_turn_drops_what_came_after_and_comes_back(run: RunStore) -> None:
    chat = stored(run, *(Turn(prompt=prompt, replies=two(f"to {prompt}")) for prompt in QUESTIONS[:3]))
    at = show("playground", chat=chat.id)
    click(at, "edit-1")
    assert at.text_area(key="try_edited_prompt").value == QUESTIONS[1]
    at.text_area(key="try_edited_prompt").set_value(QUESTIONS[3])
    click(at, "save-1")
    answered(at)
    first, second = chat_of(at).turns
    assert first == chat.turns[0]
    assert second.prompt == QUESTIONS[3]
    assert second.replies["base"].text != "to " + QUESTIONS[1]
    assert "everything after it was removed" in texts(at)
    click(at, "undo_turn")
    assert chat_of(at).turns == chat.turns


def test_leaving_the_editor_changes_nothing(run: RunStore) -> None:
    chat = stored(run, Turn(prompt=PROMPT, replies=two("an answer")))
    at = show("playground", chat=chat.id)
    click(at, "edit-0")
    click(at, "cancel-0")
    assert not at.text_area or "try_edited_prompt" not in [area.key for area in at.text_area]
    assert chat_of(at).turns == chat.turns


def test_a_deleted_turn_comes_back(run: RunStore) -> None:
    chat = stored(run, *(Turn(prompt=prompt, replies=two("an answer")) for prompt in QUESTIONS[:3]))
    at = show("playground", chat=chat.id)
    click(at, "delete-0")
    assert [turn.prompt for turn in chat_of(at).turns] == QUESTIONS[1:3]
    click(at, "undo_turn")
    assert chat_of(at).turns == chat.turns


def test_settings_are_kept_with_the_chat_and_a_retry_takes_the_next_seed(run: RunStore) -> None:
    at = show("playground", **{"with": f"run:{run.id}"})
    key = "try-{}-fresh".format
    at.text_area(key=key("system")).set_value("the tower").run()
    assert at.number_input(key=key("top_p")).disabled, "it means nothing without a temperature"
    at.number_input(key=key("temperature")).set_value(0.8).run()
    at.number_input(key=key("top_k")).set_value(5)
    at.number_input(key=key("top_p")).set_value(0.9)
    at.number_input(key=key("repetition_penalty")).set_value(1.1)
    at.number_input(key=key("max_new_tokens")).set_value(4)
    at.number_input(key=key("seed")).set_value(7)
    at.text_area(key=key("stop")).set_value("\\n\nred\\\\n").run()
    ask(at)
    chat = chat_of(at)
    assert chat.system == "the tower"
    assert chat.sampling.to_json() == {
        "temperature": 0.8, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1, "max_new_tokens": 4, "seed": 7,
        "stop": ["\n", "red\\n"],
    }  # fmt: skip
    assert all(reply.num_tokens <= 4 for reply in chat.turns[0].replies.values())
    click(at, "retry-0")
    answered(at)
    assert chat_of(at).sampling.seed == 8
    assert at.number_input(key=f"try-seed-{chat.id}").value == 8

    click(at, "new_chat")
    assert said(at, "with") == f"run:{run.id}"
    assert "chat" not in at.query_params
    assert at.number_input(key=key("seed")).value == 8, "a new chat has the settings of the one before"


def test_a_prompt_that_is_too_long_is_refused_before_anything_is_kept(run: RunStore) -> None:
    at = show("playground", **{"with": f"run:{run.id}"})
    at.chat_input[0].set_value("x" * 100_001).run()
    assert any("100,001 characters" in error.value for error in at.error)
    assert "chat" not in at.query_params
    assert kept().store.list() == []


def test_a_prompt_of_more_tokens_than_the_model_reads_is_said_and_not_cut(run: RunStore) -> None:
    at = ask(show("playground", **{"with": f"run:{run.id}"}), "the tower is green " * 100)
    assert [reply.ended for reply in chat_of(at).turns[0].replies.values()] == ["failed", "failed"]
    assert any("128" in error.value for error in at.error)


def test_chats_are_listed_opened_deleted_and_brought_back(run: RunStore) -> None:
    first = stored(run, Turn(prompt=PROMPT, replies=two("one")), title="the first chat", created_at=1.7e9)
    at = show("playground", chat=first.id)
    assert "the first chat" in [link.label for link in at.get("page_link")]
    click(at, f"delete-chat-{first.id}")
    assert "chat" not in at.query_params
    assert kept().store.list() == []
    assert "“the first chat” was deleted" in texts(at)
    click(at, "undo_chat")
    assert chat_of(at) == first


def test_a_chat_that_is_not_there_is_said_with_the_way_on(run: RunStore) -> None:
    for gone in ("20200101-000000-aaaaaa", "../../etc/passwd"):
        at = show("playground", chat=gone)
        assert any("does not exist; it may have been deleted" in error.value for error in at.error)
        click(at, "new_chat")
        assert at.chat_input


def test_where_adapter_and_base_disagree_is_shown_with_numbers_and_lines(run: RunStore) -> None:
    at = ask(show("playground", **{"with": f"run:{run.id}"}))
    click(at, "kl-0-tuned")
    answered(at)
    tokens = chat_of(at).turns[0].replies["tuned"].tokens
    assert tokens
    assert max(token.kl for token in tokens) > 0
    html = "".join(element.value for element in at.get("html"))
    assert len(re.findall(r'title="KL [\d.e-]+ nats"', html)) == len(tokens)
    assert "border-bottom: " in html
    assert "How far adapter and base disagree" in html


def test_tokens_from_outside_are_text(run: RunStore) -> None:
    token = TokenKl(text="<img src=x onerror=alert(1)>\x1b", kl=3.0)
    reply = Reply(text="x", ended="end", tokens=[token])
    chat = stored(run, Turn(prompt="<b>**p**</b>\x1b", replies={"tuned": reply}), title="![i](http://x)")
    at = show("playground", chat=chat.id)
    html = "".join(element.value for element in at.get("html"))
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;\\x1b" in html
    assert "Most different, in nats" in texts(at)
    assert "<b>**p**</b>\\x1b" in [element.value for element in at.text]


def test_a_chat_can_be_taken_along_as_a_file(run: RunStore) -> None:
    chat = stored(run, Turn(prompt=PROMPT, replies=two("anna built the bridge")))
    at = show("playground", chat=chat.id)
    assert {button.label for button in at.get("download_button")} >= {"Markdown", "JSON"}


def test_without_a_model_the_page_leads_to_the_demo_and_to_models(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = show("playground")
    assert "no model on this machine yet" in texts(at)
    assert {"To the demo", "Get a model"} <= {link.label for link in at.get("page_link")}
    assert not at.chat_input


def test_a_model_without_adapters_answers_alone(elsewhere: Path) -> None:
    model = stub_model(elsewhere / "model")
    at = show("playground")
    assert at.selectbox(key="try_base").value == str(model)
    assert at.multiselect(key="try_columns-en").value == ["base"]
    assert "No adapter of this model is here yet" in texts(at)


def test_a_model_that_is_not_here_leads_to_models(run: RunStore) -> None:
    gone = make_run(this_installation().runs, config={"model_name": "org/gone"}, config_text="", argv=None, name="lost")
    try:
        shutil.copytree(run.adapter, gone.adapter)
        at = show("playground", **{"with": f"run:{gone.id}"})
        assert any("org/gone" in error.value for error in at.error)
        assert "Get a model" in [link.label for link in at.get("page_link")]
        assert at.chat_input[0].disabled
    finally:
        shutil.rmtree(gone.path)


def test_a_model_without_a_chat_template_says_that_it_goes_on_from_the_prompt(elsewhere: Path) -> None:
    make_model(elsewhere / "plain", chat_template=False)
    at = show("playground", model=str(elsewhere / "plain"))
    assert any("no chat template" in info.value for info in at.info)
    assert chat_of(ask(at)).is_completion


def test_what_does_not_fit_is_said_with_figures_and_is_not_loaded(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept().client.unload()
    host = replace(read_host(this_installation().cache), memory_available_bytes=100 * 2**10)
    monkeypatch.setattr("lora_backend.preflight.chat_room.read_host", lambda _: host)
    at = show("playground", **{"with": f"run:{run.id}"})
    assert any("does not fit" in error.value and "100.00 KiB are free" in error.value for error in at.error)
    assert at.chat_input[0].disabled


def test_a_run_on_the_cpu_and_the_one_thread_are_said(run: RunStore) -> None:
    leases = take(this_installation().leases, [CPU], run.path)
    assert leases
    try:
        assert f"Run {run.id} is using the CPU" in texts(show("playground", **{"with": f"run:{run.id}"}))
    finally:
        release(leases)


def test_unload_frees_the_memory_and_the_next_prompt_loads_again(run: RunStore) -> None:
    at = ask(show("playground", **{"with": f"run:{run.id}"}))
    assert "without a question" in texts(at)
    click(at, "unload_chat_model")
    assert kept().client.model() is None
    at.run()
    assert "Not loaded yet" in texts(at)


def test_a_chat_of_somebody_elses_cannot_lead_outside(run: RunStore) -> None:
    for chat in (
        stored(run, Turn(prompt=PROMPT, replies={}), base_model="/etc"),
        stored(run, Turn(prompt=PROMPT, replies={}), columns=[Column(label="tuned", adapter="/etc")]),
    ):
        at = show("playground", chat=chat.id)
        assert any("outside the folders" in error.value for error in at.error)
        assert at.chat_input[0].disabled
        assert at.button(key="retry-0").disabled
        with pytest.raises(FlightdeckError, match="outside the folders"):  # a hostile browser heeds no disabled button
            open_chat.ask(chat, 0)


def test_adapters_of_two_bases_are_refused_by_name(run: RunStore, home: Path) -> None:
    other = stub_model(home / "other-model")
    theirs = make_run(this_installation().runs, config={"model_name": str(other)}, config_text="", argv=None)
    try:
        shutil.copytree(run.adapter, theirs.adapter)
        at = show("playground", **{"with": f"run:{run.id};run:{theirs.id}"})
        assert any("Only adapters of one base model" in error.value for error in at.error)
    finally:
        shutil.rmtree(theirs.path)
        shutil.rmtree(other)


def test_a_file_of_prompts_is_run_over_all_columns_and_kept(run: RunStore, home: Path) -> None:
    (home / "asked.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in QUESTIONS[:2]))
    at = show("playground", **{"with": f"run:{run.id}"})
    assert at.button(key="start_prompts").disabled
    at.text_input(key="try_prompts_path").set_value("asked.jsonl").run()
    click(at, "start_prompts")
    job = next(one for one in list_runs(this_installation().runs) if one.read_record().kind == "evaluate")
    try:
        asked = job.read_record().config
        assert asked["prompts"] == str(home / "asked.jsonl")
        assert [column["label"] for column in asked["columns"]] == ["base", "tuned"]
        assert asked["of_run"] == run.id
        assert find_model(asked["base_model"]) == home / "tiny-model"
        assert f"To the run {job.id} and its answers" in [link.label for link in at.get("page_link")]
        until(lambda: job.state().has_ended, "the answers to the prompts", limit_s=240.0)
        assert job.state().state == "finished"
    finally:
        request_stop(job)
        until(lambda: job.state().has_ended)
        shutil.rmtree(job.path)


def test_a_wrong_line_of_prompts_is_said_before_a_run_is_started(run: RunStore, home: Path) -> None:
    (home / "wrong.jsonl").write_text('{"prompt": "a"}\n{"text": 1}\n')
    at = show("playground", **{"with": f"run:{run.id}"})
    for name, said in (("wrong.jsonl", "Line 2"), ("gone.jsonl", "There is no file"), ("/etc/passwd", "outside")):
        at.text_input(key="try_prompts_path").set_value(name).run()
        if not at.button(key="start_prompts").disabled:
            click(at, "start_prompts")
        assert any(said in error.value for error in at.error), name
    assert [one.id for one in list_runs(this_installation().runs)] == [run.id]


def test_the_page_speaks_chinese(run: RunStore) -> None:
    chat = stored(run, Turn(prompt=PROMPT, replies=two("an answer")))
    at = show("playground", lang="zh", chat=chat.id)
    assert at.title[0].value == "试用"
    assert at.button(key="retry-0").label != "Retry"


def test_an_answer_that_ends_while_the_page_is_drawn_is_shown(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = stored(run, Turn(prompt=PROMPT, replies=two("the whole answer")))
    before = chat.but(turns=[Turn(prompt=PROMPT, replies=two("the wh", ended=None))])
    looks: list[tuple[Chat, UnderWay | None]] = [
        (before, UnderWay(0, PROMPT, ("base", "tuned"), Answering({}, lambda _: None))),
        (chat, None),
    ]
    monkeypatch.setattr(KeptAnswers, "look", lambda kept, chat_id: looks.pop(0))
    at = show("playground", chat=chat.id)
    assert "the whole answer" in texts(at)
    assert looks == []
