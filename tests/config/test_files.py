"""Config files: what is read, what is kept, and how a bad one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.config.config_text import ConfigDocument, decode_config, parse_config, read_config
from lora_backend.config.config_writing import dump_yaml, template, with_values
from lora_backend.config.patch import DELETE
from lora_backend.config.schema import KEYS, default_config
from lora_backend.errors import ConfigError
from tests.python import limited


def problem(document: ConfigDocument) -> tuple[str, int | None]:
    (found,) = document.problems
    return found.code, found.line


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-4", 0.0001), ("1e-6", 1e-6), ("no", "no"), ("on", "on"), ("08", 8), ("1:30", "1:30"), ("true", True), ("~", None), ("'16'", "16")],
)  # fmt: skip
def test_yaml_is_1_2(written: str, value: object) -> None:
    assert parse_config(f"a: {written}").values == {"a": value}


def test_lines_are_where_the_keys_stand() -> None:
    assert parse_config("# head\nr: 1\n\nalpha: 2\n").lines == {"r": 2, "alpha": 4}
    assert parse_config('{\n "r": 1,\n "alpha": 2\n}', "json").lines == {"r": 2, "alpha": 3}
    assert parse_config("r = 1\n\nalpha = 2\n", "toml").lines == {"r": 1, "alpha": 3}


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [("c.yaml", "r: 1\nalpha: 2\nr: 3\n", 3), ("c.json", '{"r": 1,\n"alpha": 2,\n"r": 3}', 3)],
)
def test_a_duplicate_key_is_named_at_its_second_place(name: str, text: str, line: int) -> None:
    assert problem(decode_config(text.encode(), name)) == ("duplicate_key", line)


def test_a_changed_key_leaves_comments_order_and_quotes_as_they_were() -> None:
    text = "# mine\nr: 4   # rank\n\nmodel_name: 'x'\n"
    assert with_values(text, {"r": 8}) == "# mine\nr: 8   # rank\n\nmodel_name: 'x'\n"
    assert with_values(text, {"r": DELETE}) == "# mine\n\nmodel_name: 'x'\n" or "r:" not in with_values(
        text, {"r": DELETE}
    )
    assert with_values("# only a comment\n", {"r": 8}) == "# only a comment\nr: 8\n"


def test_the_template_holds_every_key_with_help_and_means_the_defaults() -> None:
    document = parse_config(template())
    assert list(document.values) == sorted(KEYS, key=list(document.values).index)
    assert document.values.keys() == KEYS.keys()
    assert {k: v for k, v in document.values.items() if k != "model_name"} == default_config()
    assert all(key.help.replace("`", "") in template().replace("`", "") for key in KEYS.values())
    assert "基座模型" in template(language="zh")


def test_a_key_is_not_set_in_a_text_that_cannot_be_read() -> None:
    for text in ("- a\n", "r: [", "~\n"):
        with pytest.raises(ConfigError, match="cannot be read"):
            with_values(text, {"r": 8})


def test_bom_and_crlf_are_read() -> None:
    assert decode_config(b"\xef\xbb\xbfr: 4\r\nalpha: 8\r\n").values == {"r": 4, "alpha": 8}


@pytest.mark.parametrize("data", ["r: é\n".encode("latin-1"), "r: 4\n".encode("utf-16"), b"\x89PNG\r\n\x1a\n\x00\xff"])
def test_what_is_not_utf8_is_one_sentence(data: bytes) -> None:
    document = decode_config(data)
    assert not document.is_readable
    assert document.values == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("r: [1\nb: 2", 2),
        ("- r\n- b", 1),
        ("r: 1\n\talpha: 2", 2),
        ("r: *none", 1),
        ("just words", 1),
        ("a: 1\n---\nb: 2", 2),
    ],
)
def test_what_cannot_be_read_names_its_line(text: str, line: int) -> None:
    code, found = problem(parse_config(text))
    assert (code, found) == ("syntax", line)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[a, b]: 2", 1, "a list or a mapping as its key"), ("r: 1\n? {a: 1}\n: b\n", 2, "a list or a mapping as its key"),
        ("r: 1\nrank_pattern:\n  {q: 1}: 2\n", 3, "a list or a mapping as its key"), ("r: 1\n~: 2\n", 2, "`~` on line 2 is read as nothing"),
        ("r: 1\n: 2\n", 2, "no key before its colon"), ("r: 1\n\ntrue: 2\n", 3, "`true` on line 3 is read as true or false"),
        ("1: 2\nr: 1\n", 1, "`1` on line 1 is read as a number"), ("r: 1\n2024-01-01: 2\n", 2, "is read as a date"),
    ],
)  # fmt: skip
def test_a_key_that_is_no_word_is_named_with_its_line_in_our_words(text: str, line: int, says: str) -> None:
    document = parse_config(text)
    assert problem(document) == ("syntax", line)
    assert says in document.problems[0].message.text("en")
    assert "a key must be a plain word" in document.problems[0].message.text("en")
    assert document.values == {}, "no key None, True or 1"


def test_a_number_is_a_key_below_the_top() -> None:
    assert parse_config("max_memory: {0: 10GiB, cpu: 1GiB}").values == {"max_memory": {0: "10GiB", "cpu": "1GiB"}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("r:\u00a08\nalpha: 3\n", 1), ("alpha: 3\nr:\u00a08\n", 2), ("r:\u00a08", 1), ("# head\nr:\u202f8\n", 2),
        ("r:\u00a08\n\n# a：b\nalpha: 3\n", 1), ("model_name: a\u00a0b\nr:\u00a08\nalpha: 3\n", 2),
    ],
)  # fmt: skip
def test_a_no_break_space_is_named_on_its_own_line(text: str, line: int) -> None:
    document = parse_config(text)
    assert problem(document) == ("syntax", line)
    assert f"Line {line} contains a no-break space (U+" in document.problems[0].message.text("en")
    assert document.problems[0].remedy.text("en") == "Replace it with an ordinary space."


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model_name： demo", 1), ("# mine\n\nmodel_name： demo\n", 3), ("a: 1\nmodel_name： demo\n", 2),
        ("model_name：demo\n\n# mine\nr: 8\n", 1), ("words\nmodel_name：demo\n", 2),
    ],
)  # fmt: skip
def test_a_full_width_colon_is_named_on_its_own_line(text: str, line: int) -> None:
    document = parse_config(text)
    assert problem(document) == ("syntax", line)
    assert document.problems[0].remedy.text("en").startswith(f"Line {line} contains the full-width character ：.")


def test_full_width_text_in_a_comment_or_a_value_is_not_blamed() -> None:
    for text in ("r: 1\n# 说明：\nalpha: [1\nb: 2", "r: [1  # 说明：\nb: 2"):
        found = parse_config(text).problems[0]
        assert found.line == text.count("\n") + 1
        assert "full-width" not in found.remedy.text("en")


@pytest.mark.parametrize(
    ("name", "text", "line", "says"),
    [
        ("c.yaml", "r: 1\nalpha: !!int x\n", 2, '"x" is not a valid int'), ("c.yaml", "r: !!bool maybe", 1, '"maybe" is not a valid bool'),
        ("c.yaml", "r: 1\nalpha: 2024-99-99\n", 2, "is not a valid timestamp"), ("c.yaml", "r: 1\nalpha: \x07\n", 2, "U+0007"),
        ("c.yaml", f"r: 1\nalpha: {'9' * 5000}\n", 2, "is not a valid int"), ("c.json", f'{{"r": 1,\n"alpha": {"9" * 5000}}}', 2, "4300 digits"),
        ("c.toml", f"r = 1\nalpha = {'9' * 5000}\n", 2, "4300 digits"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_what_it_looks_like_names_its_line(name: str, text: str, line: int, says: str) -> None:
    document = decode_config(text.encode(), name)
    assert problem(document) == ("syntax", line)
    assert says in document.problems[0].message.text("en")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("c.yaml", "a: 1\nr: " + "[" * 500, 2), ("c.yaml", "a: 1\nr:\n" + "[\n" * 500, 103), ("c.json", '{"a":\r\n' * 500, 101),
        ("c.yaml", "".join(f"{' ' * depth}k:\n" for depth in range(400)), 101), ("c.yaml", "- " * 5000, 1),
        ("c.toml", "r = 1\n" + "a." * 3000 + "a = 1\n", 2),
    ],
)  # fmt: skip
def test_nesting_that_is_too_deep_names_the_first_line_that_is(name: str, text: str, line: int) -> None:
    document = decode_config(text.encode(), name)
    assert problem(document) == ("syntax", line)
    assert f"Line {line} is nested too deeply" in document.problems[0].message.text("en")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: &a [" + "x, " * 999 + "]\nb: &b [" + "*a, " * 5 + "]\nc: [1,\n *b]\n", 4, "has more than 10000 values"),
        ("l:\n" + "- x\n" * 11_000, 9_999, "has more than 10000 values"),
        ("m: x\na: &a\n- 1\n- *a\n", 4, "`*a` on line 4 refers to itself"), ("a: &a {b: &b [*b]}", 1, "`*b` on line 1 refers to itself"),
    ],
)  # fmt: skip
def test_a_document_that_is_too_large_names_the_line_that_makes_it_so(text: str, line: int, says: str) -> None:
    document = parse_config(text)
    assert problem(document) == ("syntax", line)
    assert says in document.problems[0].message.text("en")


def test_an_alias_below_the_limit_is_read() -> None:
    assert parse_config("a: &a [1, 2]\nb: *a\nc: {<<: &c {x: 1}, y: *a}\n").values["c"] == {"x": 1, "y": [1, 2]}


@pytest.mark.parametrize("name", ["c.json", "c.toml"])
def test_broken_json_and_toml_name_their_line(name: str) -> None:
    code, line = problem(decode_config(b'\n{"r": [\n', name))
    assert code == "syntax"
    assert line in (2, 3)


@pytest.mark.parametrize("text", ["", "   \n", "# nothing\n"])
def test_an_empty_file_is_an_empty_config(text: str) -> None:
    assert parse_config(text).values == {}
    assert parse_config(text).problems == ()


def test_deep_nesting_is_refused_and_no_tag_runs_code(tmp_path: Path) -> None:
    for text in ("[" * 5000, "r: " + "[" * 1000, "[a, " * 3000, "{a: " * 500):
        assert "nested" in parse_config(text).problems[0].message.text("en")
    marker = tmp_path / "ran"
    parse_config(f"a: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]")
    assert not marker.exists()


def test_a_bomb_of_aliases_eats_no_memory() -> None:
    """Bounded in a process of its own: nine levels of nine would be 387 million entries."""
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    script = f"from lora_backend.config.config_text import parse_config; d = parse_config({bomb!r}); print(d.problems[0].code)"
    assert problem(parse_config("a: &a [*a]"))[0] == "syntax", "one that contains itself"
    said = limited(script, memory_bytes=1 << 30)
    assert said == "syntax\n"


def test_a_megabyte_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("a: 1\n" * 200_000)
    assert "1000000" in read_config(path).problems[0].message.text("en")


def test_a_file_that_is_not_there_raises_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        read_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)


def test_what_is_dumped_is_read_back() -> None:
    values = {"a": 1e-4, "b": [1, "no"], "c": None, "d": {"x": True}, "e": "1e-4"}
    assert parse_config(dump_yaml(values)).values == values
