"""`chat` once with --prompt, as one document, and at a terminal of its own with Ctrl-C. Torch is imported once for most of them."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_backend.chats.documents import Chat
from lora_backend.cli import main
from lora_backend.hardware.visible import ORDER, VISIBLE
from lora_backend.installation import child_environment
from tests.chatting.adapters import make_adapter
from tests.command_line import strict
from tests.python import call
from tests.tiny import make_model
from tests.waiting import until

Chatting = Callable[..., "Done"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, which reads a million tokens here."""
    folder = make_model(tmp_path_factory.mktemp("chat") / "tiny-base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10**6}))
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path) -> Path:
    return make_adapter(base.parent / "my-adapter", base)


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    for name in (VISIBLE, ORDER):  # which the command sets for its process, and this one outlives it
        monkeypatch.setenv(name, os.environ.get(name, ""))
        monkeypatch.delenv(name)


@dataclass
class Done:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def chat(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs the command in this process."""

    def run(*words: str) -> Done:
        code = main(["chat", *words, "--lang", "en"])
        return Done(code, *capsys.readouterr())

    return run


def test_an_adapter_answers_beside_its_base_model_as_one_document(adapter: Path, chat: Chatting) -> None:
    done = chat(
        str(adapter), "--prompt", "who built the bridge", "--prompt", "when does the train leave",
        "--max-new-tokens", "5", "--system", "the tower", "--disagreement", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = Chat.read(strict(done.stdout))
    assert [(column.label, column.adapter) for column in document.columns] == [("tiny-base", None), ("my-adapter", str(adapter))]  # fmt: skip
    assert (document.system, document.is_completion, document.sampling.max_new_tokens) == ("the tower", False, 5)
    assert [turn.prompt for turn in document.turns] == ["who built the bridge", "when does the train leave"]
    for turn in document.turns:
        assert {reply.ended for reply in turn.replies.values()} <= {"end", "length"}
        assert turn.replies["tiny-base"].tokens is None
        assert turn.replies["my-adapter"].tokens
    assert "Loading the base model" in done.stderr
    assert done.stderr.count("Loading the base model") == 1


def test_answers_are_shown_one_below_another_with_their_labels(adapter: Path, base: Path, chat: Chatting) -> None:
    done = chat(str(base), str(adapter), str(adapter), "--prompt", "who built the bridge", "--max-new-tokens", "3")
    assert done.returncode == 0, done.stderr
    labels = re.findall(r"^── (.*)$", done.stdout, re.MULTILINE)
    assert labels == ["tiny-base", "my-adapter", "my-adapter (2)"]
    texts = re.split(r"── .*\n", done.stdout)[1:]
    assert texts[1] == texts[2] != ""
    assert len(re.findall(r"\((?:length limit reached|finished); \d tokens, [\d.]+ a second\)", done.stderr)) == 3
    alone = chat(str(adapter), "--alone", "--prompt", "who built the bridge", "--max-new-tokens", "3")
    assert re.split(r"── .*\n", alone.stdout)[1:] == texts[1:2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", ""], "The prompt is empty"),
        (["--prompt", "x" * 100_001], "has 100,001 characters"),
        (["--prompt", "when", "--stop", ""], "A stop text is empty"),
        (["--prompt", "when", "--top-k", "-1"], "`--top-k` cannot be -1"),
        (["--prompt", "when", "--temperature", "nan"], "`--temperature` cannot be nan"),
        (["--prompt", "when", "--top-p", "0"], "Top-p is 0"),
        (["--prompt", "when", "--max-new-tokens", "0"], "tokens, not 0"),
        ([], "There is nothing to ask"),
    ],
)
def test_a_wrong_question_is_one_sentence(words: list[str], said: str, adapter: Path, chat: Chatting) -> None:
    done = chat(str(adapter), *words, "--json")
    assert done.returncode == 2
    assert said in strict(done.stdout)["error"]
    assert "torch" not in done.stderr, "before it is imported"


def test_a_process_of_its_own_says_the_same(adapter: Path) -> None:
    done = call("-m", "lora_backend", "chat", str(adapter), "--prompt", "", "--json", "--lang", "en")
    assert (done.returncode, done.stderr) == (2, "")
    assert "The prompt is empty" in strict(done.stdout)["error"]


def test_what_is_no_subject_and_four_of_them_are_refused(
    adapter: Path, base: Path, tmp_path: Path, chat: Chatting
) -> None:
    for words, said in (
        (["/no/such/place"], "/no/such/place"),
        (["someone/some-model"], "someone/some-model"),
        ([str(tmp_path)], str(tmp_path)),
        ([str(base), *[str(adapter)] * 3], "Up to 3 columns can answer side by side, but there are 4"),
    ):
        done = chat(*words, "--prompt", "when", "--json")
        assert (done.returncode, said in strict(done.stdout)["error"]) == (2, True), done.stdout


def test_an_adapter_of_another_base_and_a_prompt_that_is_too_long_end_with_2(
    adapter: Path, tiny_model: Path, tmp_path: Path, chat: Chatting
) -> None:
    other = make_model(tmp_path / "other", blocks=3)
    done = chat(str(other), str(adapter), "--prompt", "when", "--json")
    assert done.returncode == 2
    assert "my-adapter was trained on" in strict(done.stdout)["error"]
    done = chat(str(tiny_model), "--prompt", "the " * 25_000, "--json")
    assert done.returncode == 2
    assert "has 25,003 tokens" in strict(done.stdout)["error"]
    assert "Loading the base model" not in done.stderr


def test_a_model_without_a_template_says_that_it_goes_on_from_the_text(tmp_path: Path, chat: Chatting) -> None:
    done = chat(str(make_model(tmp_path / "bare", chat_template=False)), "--prompt", "the", "--json", "--max-new-tokens", "3")  # fmt: skip
    assert (done.returncode, strict(done.stdout)["is_completion"]) == (0, True)
    assert "continues your text" in done.stderr


class Terminal:
    """`chat` at a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.screen, self._status = "", 0
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "lora_backend", "chat", *words, "--lang", "en"], child_environment())  # fmt: skip
        self.pid = pid
        os.set_blocking(self._terminal, False)

    def shows(self, text: str, times: int = 1) -> bool:
        try:
            self.screen += os.read(self._terminal, 2**16).decode("utf-8", "replace")
        except OSError:  # nothing new, or it has ended
            pass
        return self.screen.count(text) >= times

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def ended(self) -> int:
        def waited() -> bool:
            self.shows("")
            found, self._status = os.waitpid(self.pid, os.WNOHANG)
            return bool(found)

        until(waited, "it ends")
        self.pid = 0
        return os.waitstatus_to_exitcode(self._status)

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)


def test_at_a_terminal_ctrl_c_stops_the_answer_and_exit_ends_the_chat(base: Path) -> None:
    terminal = Terminal(str(base), "--max-new-tokens", "30000")
    try:
        until(lambda: terminal.shows("\n> "), "it asks", 120)
        terminal.type("who built the bridge\n")
        until(lambda: terminal.shows("── tiny-base"), "it answers", 120)
        terminal.type("\x03")
        until(lambda: terminal.shows("(stopped; "), "the answer is stopped")
        until(lambda: terminal.shows("\n> ", 2), "and it asks again")
        terminal.type("\n/exit\n")
        assert terminal.ended() == 0
        assert "Traceback" not in terminal.screen
    finally:
        terminal.kill()


def test_text_from_a_model_moves_no_cursor(base: Path, tmp_path: Path, chat: Chatting) -> None:
    """Its tokenizer may hold any bytes."""
    hostile = shutil.copytree(base, tmp_path / "hostile")
    path = hostile / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(path.read_text())
    vocabulary = {word if word.startswith("<") else f"\x1b[2J{word}": number for word, number in tokenizer["model"]["vocab"].items()}  # fmt: skip
    path.write_text(json.dumps({**tokenizer, "model": {**tokenizer["model"], "vocab": vocabulary}}))
    done = chat(str(hostile), "--prompt", "the", "--max-new-tokens", "5")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\\x1b[2J" in done.stdout
