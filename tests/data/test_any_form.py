"""The same conversations in every kind of file and every form become the same examples."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_backend.data.example_file import ExampleFile, open_examples, preview_examples
from lora_backend.data.examples import Chat, Pair, Text
from lora_backend.data.forms import find_form
from lora_backend.data.raw_rows import BadRowError
from lora_backend.errors import DataError
from tests.data.row_files import KINDS, PACKERS, written

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(str.strip)
TEXTS = st.one_of(WORDS, WORDS.map(lambda word: f'{word}, "{word}"\n\t{word};'))
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def opened(path: Path, **how: Any) -> ExampleFile:
    return open_examples(path, path.parent / "kept", **how)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def forms_of(question: str, reply: str) -> dict[str, dict[str, Any]]:
    """One conversation in every form that holds a chat."""
    return {
        "messages": {"messages": [user(question), answer(reply)]},
        "sharegpt": {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": reply}]},
        "alpaca": {"instruction": question, "input": "", "output": reply},
        "question_answer": {"question": question, "answer": reply},
        "prompt_completion": {"prompt": [user(question)], "completion": [answer(reply)]},
    }


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_every_kind_of_file_and_every_form_gives_the_same_examples(pairs: list[tuple[str, str]]) -> None:
    expected = [Chat((user(question), answer(reply))) for question, reply in pairs]
    with tempfile.TemporaryDirectory() as folder:
        for form in forms_of("", ""):
            rows = [forms_of(*pair)[form] for pair in pairs]
            for kind in KINDS:
                if form == "prompt_completion" and kind in ("csv", "tsv"):
                    continue  # what stands in a cell is the text itself
                path = written(Path(folder) / form, rows, kind, list(PACKERS)[len(kind) % 3])
                found = opened(path)
                assert found.found_form.form == form
                assert list(found) == [found[i] for i in range(len(found))] == expected, path.name
                found_form, first = preview_examples(path, 2)
                assert [found_form.example(row.checked()) for row in first] == expected[:2]


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_their_own_kinds_come_through_every_file(kind: str, packing: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a ", "completion": " b\n"}, {"prompt": "数据 ,;\t\"'", "completion": "\u2028\u0085 é"}]
    found = opened(written(tmp_path, rows, kind, packing))
    assert list(found) == [Pair(row["prompt"], row["completion"]) for row in rows]
    assert list(opened(written(tmp_path / "t", [{"text": "a\r\nb"}], kind, packing))) == [Text("a\r\nb")]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("csv", "tsv")])
def test_calls_tools_and_marks_come_through_every_file_that_has_lists(kind: str, tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Kiel"}}}
    turns = [
        user("Is it raining in Kiel?"), answer("", tool_calls=[call]), {"role": "tool", "content": "yes", "name": "weather"},
        answer("Yes.", weight=0), user("And now?"), answer("No.", train=True),
    ]  # fmt: skip
    (chat,) = opened(written(tmp_path, [{"messages": turns, "tools": json.dumps(TOOLS), "system": "Be short."}], kind))
    assert isinstance(chat, Chat)
    assert [message["role"] for message in chat.messages] == ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]  # fmt: skip
    assert chat.messages[2]["tool_calls"] == [call]
    assert chat.tools == tuple(TOOLS)
    assert chat.untrained == {4}


# ----------------------------------------------------------------------------------------------------- forms


def example(row: dict[str, Any], **how: Any) -> Any:
    return find_form([row], **how).example(row)


def test_a_call_is_the_same_in_sharegpt_and_openai_words() -> None:
    said = {"name": "weather", "arguments": {"city": "Kiel"}}
    ours = example({"conversations": [
        {"from": "human", "value": "?"}, {"from": "function_call", "value": json.dumps(said)},
        {"from": "observation", "value": "yes"}, {"from": "gpt", "value": "Yes."},
    ], "tools": json.dumps(TOOLS)})  # fmt: skip
    theirs = example({"messages": [
        user("?"), {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Kiel"}'}}]},
        {"role": "tool", "content": "yes"}, answer("Yes."),
    ], "tools": TOOLS})  # fmt: skip
    assert ours == theirs


def test_input_and_history_of_alpaca_are_turns() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]], "system": "S"}
    assert [message["content"] for message in example(row).messages] == ["S", "Hi", "Hello", "Add.\n1 2", "3"]


@pytest.mark.parametrize(
    ("row", "form", "renamed"),
    [
        ({"prompt": "a", "response": "b"}, "prompt_completion", {"completion": "response"}),
        ({"instruction": "a", "context": "c", "response": "b", "category": "x"}, "alpaca", {"input": "context", "output": "response"}),
        ({"input": "a", "output": "b"}, "question_answer", {"question": "input", "answer": "output"}),
        ({"conversation": [user("a"), answer("b")]}, "sharegpt", {"conversations": "conversation", "role": "role", "content": "content"}),
        ({"instruction": "a", "input": "", "output": "b", "text": "whole"}, "alpaca", {}),
    ],
)  # fmt: skip
def test_common_names_of_columns_are_found_and_said(row: dict[str, Any], form: str, renamed: dict[str, str]) -> None:
    found = find_form([row])
    assert (found.form, found.renamed) == (form, renamed)
    assert found.example(row)


def test_columns_of_any_name_are_read_as_the_config_says() -> None:
    row = {"question_en": "a", "reply": "b", "prompt": "not this"}
    assert example(row, data_columns={"prompt": "question_en", "completion": "reply"}) == Pair("a", "b")
    chat = example({"dialog": [{"who": "user", "says": "a"}, {"who": "assistant", "says": "b"}]}, data_columns={"messages": "dialog", "role": "who", "content": "says"})  # fmt: skip
    assert chat == Chat((user("a"), answer("b")))
    assert example({"prompt": "a", "completion": "b"}, data_format="question_answer") == chat


def test_parts_that_are_all_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert example({"messages": [{"role": "user", "content": parts}, answer("c")]}) == Chat((user("ab"), answer("c")))


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        DataError, match=r"d\.csv has no column `reply`, which `data_columns` names\. Its columns are `q`, `a`"
    ):
        find_form([{"q": "a", "a": "b"}], None, {"prompt": "q", "completion": "reply"}, "d.csv")
    with pytest.raises(DataError, match=r"columns `left`, `right`, which match no known form"):
        find_form([{"left": "a", "right": "b"}], file="d.csv")


CHAT = [user("a"), answer("b")]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": [{"content": "a"}, answer("b")]}, "turn 1 has no `role`"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "turn 1 has the role robot; known are system, user"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "turn 1 has the role"),
        ({"messages": [user("a"), answer("b"), answer("c")]}, "turns 2 and 3 are both of the assistant"),
        ({"messages": [{"role": "user", "content": None}, answer("b")]}, "turn 1: `content` is missing or null"),
        ({"messages": [user("a")]}, "no answer of the assistant"), ({"messages": [user("a"), answer(" ")]}, "only an empty one"),
        ({"messages": []}, "`messages` is empty"), ({"messages": [1]}, "list of objects"), ({"messages": {}}, "must be a list"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, answer("b")]}, "contains image_url, but only text"),
        ({"messages": [user("a"), answer("b", weight=0.5)]}, "turn 2: `weight` is 0.5, but only 0 and 1"),
        ({"messages": [user("a"), answer("b", weight=1, train=False)]}, "say opposite things"),
        ({"messages": [{**user("a"), "train": True}, answer("b")]}, "turn 1 is marked to be learned"),
        ({"messages": CHAT, "weight": 2}, "`weight` is 2"),
        ({"messages": CHAT, "prompt": "x"}, "`prompt` and `messages` are both there"),
        ({"messages": [{"role": "system", "content": "s"}, *CHAT], "system": "t"}, "both have a system turn"),
        ({"messages": CHAT, "tools": "x"}, "`tools` is text that is not a JSON list"), ({"messages": CHAT, "tools": [1]}, "one for each function"),
        ({"prompt": "a", "completion": "b", "system": "s"}, "`system` appears next to the texts"),
        ({"prompt": "a", "completion": ""}, "`completion` is empty"), ({"prompt": 3, "completion": "b"}, "`prompt` must be a text"),
        ({"prompt": "a"}, "`completion` is empty"), ({"completion": "a"}, "`prompt` is missing"),
        ({"prompt": [user("a"), answer("b")], "completion": [answer("c")]}, "ends and `completion` begins with the assistant"),
        ({"instruction": "a", "output": " "}, "`output` is empty"), ({"instruction": "a", "output": "b", "history": ["x"]}, "list of pairs"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "must be JSON with `name`"), ({"text": " "}, "`text` is empty"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_clause(row: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRowError) as raised:
        example(row)
    assert says in str(raised.value)


# ----------------------------------------------------------------------------------------------------- folders


def test_files_of_a_folder_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        written(tmp_path / "set", [{"text": name}], "csv", name=name)
    found = open_examples(tmp_path / "set", tmp_path / "kept")
    assert list(found) == [Text("a"), Text("b"), Text("c")]
    assert [found.rows.place(index) for index in range(3)] == [("a.csv", 2), ("b.csv", 2), ("c.csv", 2)]
    one = open_examples(tmp_path / "set" / "a.csv", tmp_path / "kept")
    assert found.sha256 != one.sha256


def test_what_datasets_saved_is_read(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"text": str(number)} for number in range(700)])
    rows.save_to_disk(tmp_path / "one", num_shards=3)
    assert list(open_examples(tmp_path / "one", tmp_path / "kept")) == [Text(str(number)) for number in range(700)]
    rows.train_test_split(test_size=50, seed=1).save_to_disk(tmp_path / "two")
    assert len(open_examples(tmp_path / "two", tmp_path / "kept")) == 650
    assert len(open_examples(tmp_path / "two", tmp_path / "kept", split="test")) == 50
    with pytest.raises(DataError, match=r"has no split dev, only train, test"):
        open_examples(tmp_path / "two", tmp_path / "kept", split="dev")


def test_of_a_folder_with_splits_the_training_one_is_taken(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        written(tmp_path / "data", [{"text": name}], "parquet", name=name)
    found = open_examples(tmp_path, tmp_path / "kept")
    assert list(found) == [Text("train-00000-of-00002"), Text("train-00001-of-00002")]
    assert (found.rows.source.split, found.rows.source.splits) == ("train", ("test", "train"))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "contains no data files"), ([("a", "csv"), ("b", "jsonl")], r"several kinds \(csv, jsonl\)"),
        ([("x/a", "csv"), ("y/a", "csv")], r"several folders \(x, y\)"), ([("test", "csv"), ("dev", "csv")], "has no split train, only validation, test"),
    ],
)  # fmt: skip
def test_a_folder_that_does_not_say_what_is_meant_is_one_sentence(files: list[tuple[str, str]], says: str, tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "set").mkdir()
    for name, kind in files:
        written((tmp_path / "set" / name).parent, [{"text": "a"}], kind, name=Path(name).name)
    with pytest.raises(DataError, match=says):
        open_examples(tmp_path / "set", tmp_path / "kept")
