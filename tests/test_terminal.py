"""Nothing from outside acts on the terminal of who reads it."""

from __future__ import annotations

import csv
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.cli import main
from lora_backend.errors import ConfigError
from lora_backend.escaping import csv_cell, markdown_cell, visible, visible_lines
from lora_backend.i18n import Message, in_code
from lora_backend.terminal import LogFormatter, in_lines, show, show_coloured, write_file
from pages.parts.ranks.view import _as_csv, _as_markdown
from tests.tiny import chats, make_model, write_rows

ACTS = "\x1b[31mred\x1b[0m \x00\x07\x08\x7f\x9b2J \u202egnp\u202c \u2066x\u2069 \u200f \u061c"
ROOT = Path(__file__).parents[1]


def is_harmless(text: str) -> bool:
    return visible_lines(text) == text


def test_what_acts_is_shown() -> None:
    assert visible("\x1b[31m\x00\x7f\x9b\u202e\u2066\u200e") == "\\x1b[31m\\x00\\x7f\\x9b\\u202e\\u2066\\u200e"
    assert visible("a\r\nb\tc\rd") == "a b c\\x0dd"
    assert visible_lines("a\r\nb\tc\rd") == "a\nb\tc\\x0dd"
    assert visible("中文 é 😀 👩‍👩‍👧 \ud800") == "中文 é 😀 👩‍👩‍👧 \\ud800"


def test_a_value_of_a_sentence_ends_no_line_and_a_template_may() -> None:
    said = Message("{a}\n{b}", {"a": f"x\n✓ valid {ACTS}", "b": [Message("{c}", {"c": "\x1b"}), "\n"]}).text()
    assert said.count("\n") == 1
    assert is_harmless(said)


def test_what_is_shown_and_what_is_logged_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    show(f"a\n{ACTS}")
    show(ACTS, to_stderr=True)
    show_coloured(f"{ACTS}\n{ACTS}", "bad")
    for text in capsys.readouterr():
        assert is_harmless(text)
    assert in_lines(["a\nb", "c"]) == "a b\nc"
    record = logging.LogRecord("n", logging.INFO, "p", 1, "name %s\nnext", (ACTS,), None)
    assert is_harmless(LogFormatter().format(record))
    assert LogFormatter().format(record).count("\n") == 1


def test_a_file_is_escaped_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file("a: \u202e\n")
    assert capsys.readouterr().out == "a: \u202e\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    write_file("a: \u202e\n")
    assert capsys.readouterr().out == "a: \\u202e\n"


def test_a_terminal_gets_no_traceback_and_the_file_of_the_log_does() -> None:
    try:
        raise ConfigError("`{key}` is missing.", key="r")
    except ConfigError:
        record = logging.LogRecord("n", logging.ERROR, "p", 1, "the run failed", (), sys.exc_info())
    brief, whole = LogFormatter(with_tracebacks=False), LogFormatter()
    for _ in range(2):  # whichever comes first
        assert "Traceback" not in brief.format(record)
        assert "Traceback" in whole.format(record)


HOSTILE = f"""model_name: "m{ACTS.encode("unicode_escape").decode().replace("'", "")}"
"k\\e[31m\\u202e": "v\\e[32m\\0"
r: "\\e[33m"
output_dir: "o\\n✓ all is well"
"""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    config = tmp_path / "hostile\x1b[31m.yaml"
    config.write_text(HOSTILE)
    return config


@pytest.mark.parametrize(
    "words",
    [
        ["check", "CONFIG"], ["check", "CONFIG", "--against", "CONFIG"], ["check", "no\x1b[1m.yaml"], ["plan", "CONFIG"], ["plan", "--model", ACTS], ["plan", "--model", "m", "--gpus", ACTS.replace("\x00", "")],
        ["train", "CONFIG"], ["train", "CONFIG", "--set", f"optim={ACTS}"], ["train", "CONFIG", "--set", f"{ACTS}"], ["verify", ACTS], ["verify", "x\u202ey"], ["import", "CONFIG"], ["export", "CONFIG", "--to", "peft"],
        ["runs", "list", "--filter", ACTS], ["runs", "list", "--columns", ACTS], ["runs", "show", ACTS], ["runs", "compare", ACTS, "b"], ["runs", "queue", "CONFIG", "--dry-run", "--name", ACTS], ["runs", "stop", ACTS],
    ],
)  # fmt: skip
def test_a_command_says_nothing_that_acts(words: list[str], hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(hostile) if word == "CONFIG" else word for word in words]
    assert main(given) in (0, 1, 2)
    said = capsys.readouterr()
    assert said.out or said.err
    assert is_harmless(said.out) or words[0] in ("export", "import")  # there it is a file, which a pipe gets as it is
    assert is_harmless(said.err)
    assert "\n✓ all is well" not in said.out + said.err
    assert main([*given, "--json"]) in (0, 1, 2)
    document = capsys.readouterr().out
    assert document.isascii()
    assert is_harmless(document)
    json.loads(document)


def test_words_that_argparse_refuses_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["check", "a", "\x1b[31m"], ["export", "a", "--to", "\x1b[31m"], ["\x1b[31m"]):
        with pytest.raises(SystemExit):
            main(words)
        assert is_harmless(capsys.readouterr().err)


def test_training_prints_its_sentence_and_no_traceback(tmp_path: Path) -> None:
    """In a process of its own, as a person starts it; the log that it leaves has the traceback."""
    make_model(tmp_path / "m")
    write_rows(tmp_path / "d.jsonl", chats())
    config = tmp_path / "c.yaml"
    config.write_text(
        f"model_name: {tmp_path}/m\ndataset: {tmp_path}/d.jsonl\ntarget_modules: [q_proj]\nmax_steps: 1\n"
    )
    adapter = tmp_path / "m/config.json"
    written = json.loads(adapter.read_text()) | {"hidden_size": 7}
    adapter.write_text(json.dumps(written))  # the check reads it, the weights do not fit it
    done = subprocess.run(
        [sys.executable, "-m", "lora_backend", "train", str(config), "--run-dir", str(tmp_path / "run\x1b[31m")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    assert is_harmless(done.stderr)
    assert done.stderr.strip()


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1", "\n-1"])
def test_a_text_that_is_a_formula_is_kept_from_being_one(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-1, -1.5, 0, None, True, "a", "a=b", "", "–", "1-2"])
def test_numbers_and_other_cells_stay(value: object) -> None:
    assert csv_cell(value) is value


def test_ranks_are_exported_without_formulas_and_without_broken_rows() -> None:
    columns = ["name", "block", "norm"]
    records = [{"name": "=cmd|' /C calc'!A0", "block": -1, "norm": -2.5, "more": 1}]
    (row,) = csv.DictReader(io.StringIO(_as_csv(columns, records)))
    assert row == {"name": "'=cmd|' /C calc'!A0", "block": "-1", "norm": "-2.5"}
    assert (
        _as_markdown(columns, [{"name": "a|b\nc `d`", "block": 1, "norm": 2}]).splitlines()[2]
        == "| a\\|b c \\`d\\` | 1 | 2 |"
    )
    assert markdown_cell("<b>[x](y)") == "\\<b\\>\\[x\\](y)"


def test_names_in_code_are_one_value() -> None:
    assert in_code(["a", "b{c}"]).text() == "`a`, `b{c}`"


def test_a_stored_sentence_that_is_none_of_ours_is_text() -> None:
    for template in ("![x](http://evil.example)", "**{a}**", "{a.__class__}", "{a:>1000000000}", "[x] {b}"):
        message = Message.from_json({"template": template, "values": {"a": "*"}})
        assert message.template == "{text}"
        assert len(message.text()) < 100
    kept = Message("`{key}` is missing.", {"key": "r"})
    assert Message.from_json(kept.to_json()) == kept
    assert (
        Message.from_json({"template": "An old sentence, with *{key}*.", "values": {"key": "r"}}).text()
        == "An old sentence, with *r*."
    )
