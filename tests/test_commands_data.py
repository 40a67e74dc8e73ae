"""`data` as a terminal and a script see it: the document, the exit code, and one row with what is learned of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.commands import data as module
from tests.command_line import strict
from tests.python import call
from tests.tiny import chats, save_tokenizer, stub_model, write_rows

DOCUMENT = {
    "form", "columns", "rows", "num_bad_rows", "bad_rows", "tokens", "trained_tokens", "longest", "cut", "without_end",
    "behind_cut", "padded_share", "duplicates", "is_estimate", "sha256", "findings",
}  # fmt: skip
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ask(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask in a folder with a model `m` and sixteen chats `d.jsonl`: exit code and document."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    save_tokenizer(stub_model(tmp_path / "m"))
    write_rows(tmp_path / "d.jsonl", chats())

    def asked(*words: str) -> tuple[int, dict[str, Any]]:
        code = main(["data", *words, "--json"])
        return code, strict(capsys.readouterr().out)

    return asked


@pytest.fixture
def said(ask: Ask, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The same for a person: exit code and text, stderr included."""

    def asked(*words: str, lang: str = "en") -> tuple[int, str]:
        code = main(["data", *words, "--lang", lang])
        return code, "".join(capsys.readouterr())

    return asked


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["findings"]]


def test_rows_alone_are_counted_without_a_model(ask: Ask) -> None:
    code, document = ask("d.jsonl")
    assert code == 0
    assert document.keys() == DOCUMENT
    assert (document["form"], document["rows"], document["duplicates"]) == ("messages", 16, 12)
    assert (document["bad_rows"], document["tokens"], document["is_estimate"]) == ([], None, None)
    assert codes(document) == ["duplicate_rows"]


def test_torch_is_not_loaded_where_no_tokenizer_is_asked_for(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", chats())
    script = "import sys; from lora_backend.cli import main; main(['data', sys.argv[1]]); print(sorted({'torch', 'transformers', 'datasets'} & sys.modules.keys()))"
    done = call("-c", script, str(data))
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_tokens_are_counted_with_a_model(ask: Ask) -> None:
    code, document = ask("d.jsonl", "--model", "m")
    assert code == 0
    assert (document["longest"], document["tokens"], document["trained_tokens"]) == (15, 4 * 53, 4 * 22)
    assert (document["cut"], document["is_estimate"]) == (0, False)
    assert document == ask("d.jsonl", "--model", "m")[1], "and known the second time"


def test_options_set_keys_of_the_config(ask: Ask) -> None:
    _, document = ask("d.jsonl", "--model", "m", "--set", "max_length=10", "--set", "val_size=0.25")
    assert (document["cut"], document["without_end"], document["behind_cut"]) == (16, 16, 0)
    assert codes(document) == ["rows_in_both_splits", "rows_without_end", "duplicate_rows"]
    (cut,) = [finding for finding in document["findings"] if finding["code"] == "rows_without_end"]
    assert cut["fix"] == {"max_length": 15}


def test_a_config_names_data_and_model_and_an_option_wins(ask: Ask) -> None:
    Path("c.yaml").write_text("model_name: m\ndataset: d.jsonl\nmax_length: 10\n")
    assert ask("c.yaml")[1]["cut"] == 16
    assert ask("c.yaml", "--set", "max_length=64")[1]["cut"] == 0


def test_several_data_sets_of_a_config_have_a_document_each(ask: Ask) -> None:
    write_rows(Path("e.jsonl"), [{"text": "the tower"}])
    Path("c.yaml").write_text("model_name: m\ndatasets:\n- path: d.jsonl\n- path: e.jsonl\n  share: 2\n")
    code, document = ask("c.yaml")
    assert code == 0
    assert [(one["dataset"], one["form"], one["rows"]) for one in document["datasets"]] == [("d.jsonl", "messages", 16), ("e.jsonl", "text", 1)]  # fmt: skip
    assert "d.jsonl: rows" in document["findings"][0]["message"]


@pytest.mark.parametrize(
    ("rows", "words", "codes_found"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', (), ["too_many_bad_rows", "empty_answers"]),
        ('{"prompt": "how", "completion": " tall"}\nnot json\n', ("--model", "m"), ["too_many_bad_rows"]),
        ('{"text": ""}\n', ("--model", "m"), ["no_rows_left"]),
        ('{"prompt": "how tall is the tower", "completion": " tall"}\n', ("--model", "m", "--set", "max_length=3"), ["nothing_to_train_on"]),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_a_no(rows: str, words: tuple[str, ...], codes_found: list[str], ask: Ask) -> None:
    Path("odd.jsonl").write_text(rows)
    code, document = ask("odd.jsonl", *words)
    assert (code, codes(document)[:1]) == (1, codes_found[:1])
    assert set(codes_found) <= set(codes(document))


def test_a_bad_row_is_named_and_may_be_allowed(ask: Ask) -> None:
    Path("odd.jsonl").write_text('{"prompt": "how", "completion": " tall"}\n\n{"prompt": 1, "completion": "x"}\n')
    code, document = ask("odd.jsonl", "--set", "max_bad_rows=1")
    (row,) = document["bad_rows"]
    assert (code, row["row"], row["line"], row["file"]) == (0, 2, 3, "odd.jsonl")
    assert row["message"]
    assert "bad_rows_left_out" in codes(document)


def test_a_row_that_the_template_refuses_is_a_no_with_the_templates_words(ask: Ask) -> None:
    Path("m/chat_template.jinja").write_text("{{ raise_exception('Not today') }}")
    code, document = ask("d.jsonl", "--model", "m")
    assert code == 1
    (refused, *_) = document["findings"]
    assert refused["code"] == "template_refuses_rows"
    assert "Not today" in refused["message"]


def test_chats_for_a_model_without_a_template_are_a_no(ask: Ask) -> None:
    Path("m/chat_template.jinja").unlink()
    code, document = ask("d.jsonl", "--model", "m")
    assert (code, codes(document)[0]) == (1, "no_chat_template")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gone.jsonl",), "There is no data set"), (("d.jsonl", "--model", "none"), "There is no model folder none"),
        (("d.jsonl", "--set", "max_length=long"), "must be a whole number"), (("d.jsonl", "--set", "max_length"), "has no value"),
        (("d.jsonl", "--show", "1"), "`--model`"), (("d.jsonl", "--model", "m", "--show", "0"), "counted from 1"),
        (("d.jsonl", "--model", "m", "--show", "17"), "There is no row 17: the data set has 16 rows."),
        (("none.yaml",), "none.yaml"), (("empty.yaml",), "names no data set"), (("half.parquet",), "half.parquet"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered_in_a_sentence(words: tuple[str, ...], sentence: str, ask: Ask) -> None:
    Path("empty.yaml").write_text("model_name: m\n")
    Path("half.parquet").write_bytes(b"PAR1 and no more")
    code, document = ask(*words)
    assert code == 2
    assert document.keys() == {"error"}
    assert sentence in document["error"]
    assert "\n" not in document["error"]


def test_a_person_reads_form_figures_lengths_and_findings(said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("d.jsonl", "--model", "m", "--set", "max_length=13")
    assert code == 0
    assert "Form: chats (`messages`)" in text
    assert "16 rows, 12 duplicates" in text
    assert re.search(r"Longest row: 15", text)
    assert re.search(r"12–12 +█+ 4", text)
    assert re.search(r"15 +░+ 4", text), "what is cut is drawn otherwise"
    assert "[rows_without_end]" in text
    chinese = said("d.jsonl", "--model", "m", lang="zh")[1]
    assert "对话" in chinese
    assert "Form" not in chinese


def test_nothing_wrong_is_said_too(said: Callable[..., tuple[int, str]]) -> None:
    write_rows(Path("d.jsonl"), chats(1))
    assert "No problems found." in said("d.jsonl")[1]


@pytest.mark.parametrize(("lang", "head"), [("en", "Row 2: 12 tokens, 3 of them trained on"), ("zh", "第 2 行：12 个 token，其中 3 个参与训练")])  # fmt: skip
def test_one_row_is_shown_in_signs_where_there_are_no_colours(
    lang: str, head: str, said: Callable[..., tuple[int, str]]
) -> None:
    code, text = said("d.jsonl", "--model", "m", "--set", "max_length=10", "--show", "2", lang=lang)
    assert code == 0
    assert head in text
    assert "<|user|>who built the bridge</s><|assistant|>⟦anna built the⟧~~ bridge</s>~~" in text
    assert "\x1b" not in text


def test_one_row_is_shown_in_colours_on_a_terminal(
    said: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_coloured", lambda: True)
    _, text = said("d.jsonl", "--model", "m", "--set", "max_length=10", "--show", "2")
    assert "\x1b[1m\x1b[32manna built the\x1b[0m" in text
    assert "\x1b[36m<|assistant|>\x1b[0m" in text
    assert "\x1b[9m bridge\x1b[0m" in text


def test_a_row_that_is_not_trained_on_says_why(ask: Ask, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("d.jsonl", "--model", "m", "--set", "max_length=5", "--show", "1")
    assert code == 1
    assert "Nothing of this row is trained on" in text
    _, document = ask("d.jsonl", "--model", "m", "--set", "max_length=5", "--show", "1")
    assert document["trained_tokens"] == 0
    assert isinstance(document["note"], str)
    json.dumps(document)
