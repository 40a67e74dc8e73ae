"""Config files as people, other tools and chance write them: never a traceback, and lines that can be trusted."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.config.check import check_config
from lora_backend.config.config_formats import Format
from lora_backend.config.config_text import decode_config, parse_config
from lora_backend.config.config_writing import dump_yaml, template, with_values
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import KEYS

Problem = tuple[str, str | None, int | None]


def errors(text: str, file_format: Format = "yaml") -> list[Problem]:
    """What is wrong with a file; every sentence of it can be written in both languages."""
    found = check_config(parse_config(text, file_format)).errors
    for finding in found:
        assert finding.message.text("en").encode()
        assert finding.message.text("zh").encode()
    return [(finding.code, finding.key, finding.line) for finding in found]


# ------------------------------------------------------------------------------------------ duplicates and lines


@pytest.mark.parametrize(
    ("text", "file_format", "line"),
    [
        ("model_name: m\nrank_pattern:\n  q_proj: 4\n  q_proj: 8\n", "yaml", 4),
        ("model_name: m\nrank_pattern: {q_proj: 4,\n  q_proj: 8}\n", "yaml", 3),
        ('{"model_name": "m",\n"rank_pattern": {"q_proj": 4,\n "q_proj": 8}}', "json", 3),
    ],
)  # fmt: skip
def test_a_duplicate_inside_a_mapping_is_an_error_too(text: str, file_format: Format, line: int) -> None:
    """One of the two ranks would be dropped without a word."""
    (found,) = parse_config(text, file_format).problems
    assert found.code == "duplicate_key"
    assert found.line in (line, None)
    assert "q_proj" in found.message.text("en")


def test_three_of_one_key_name_each_later_place() -> None:
    assert [line for _, _, line in errors("model_name: m\nr: 1\nr: 2\nr: 3\n")] == [3, 4]


def test_a_duplicate_in_toml_names_its_second_line() -> None:
    (found,) = errors('model_name = "m"\nr = 1\nalpha = 3\nr = 2\n', "toml")
    assert found[2] == 4


@pytest.mark.parametrize(
    ("text", "file_format", "key", "line"),
    [
        ('{\n"model_name": "m",\n"alpha": 2, "r": "x"}', "json", "r", 3),
        ('{"model_name": "m", "rank_pattern": {\n"r": 4},\n"r": "x"}', "json", "r", 3),
        ('{"model_name": "a\u2028b",\n"r": "x"}', "json", "r", 2),
        ('{"model_name":\n"m",\n"\\u0072": "x"}', "json", "r", 3),
        ('model_name = "m"\nrank_pattern.q = "x"\n', "toml", "rank_pattern", 2),
        ('model_name = "m"\n[rank_pattern]\nq = "x"\n', "toml", "rank_pattern", 2),
        ("model_name = \"\"\"\nr = 3\n\"\"\"\nr = 'x'\n", "toml", "r", 4),
        ("model_name = 'a\u2028b'\nr = 'x'\n", "toml", "r", 2),
        ("model_name: m\n? r\n: x\n", "yaml", "r", 2),
        ('model_name: "a\u2028b"\n"r": x\n', "yaml", "r", 2),
        ("model_name: |\n  r: 1\n  r: 2\nr: x\n", "yaml", "r", 4),
        ("{model_name: m,\n r: x}", "yaml", "r", 2),
    ],
)  # fmt: skip
def test_a_line_is_the_right_one_or_none_is_named(text: str, file_format: Format, key: str, line: int) -> None:
    (found,) = errors(text, file_format)
    assert found[1] == key
    assert found[2] in (line, None)


# ---------------------------------------------------------------------------------------- what parsers stumble over


@pytest.mark.parametrize(
    "text",
    [
        "[a]: b\n", "? [a]\n: b\n", "? {a: 1}\n: b\n", "rank_pattern: {[a]: 1}\n", "rank_pattern:\n  ? {a: 1}\n  : 2\n", "r: !!bool maybe\n",
        "r: !!int foo\n", "r: !!float foo\n", "r: !!timestamp foo\n", "r: !!binary foo\n", "r: !!omap [a]\n", "r: !!set {a}\n", "r: !!map x\n",
        "r: 2024-99-99\n", "r: 1:2:3\n", "<<: 1\n", "<<: [1]\n", "~: 1\n", "1: 2\n", "1.5: 2\n", "true: 1\n", "? !!python/tuple [a]\n: 1\n",
        "r: !!python/name:os.system\n", "r: !<tag:yaml.org,2002:int> x\n", "r: &a [*a]\n", "r: *b\n",
    ],
)  # fmt: skip
def test_odd_yaml_is_an_error_and_no_traceback(text: str) -> None:
    assert errors("model_name: m\n" + text)


@pytest.mark.parametrize("place", ["r: {}\n", "rank_pattern:\n  x: {}\n", "a: &q {}\nb: *q\n", "r: [1, {}]\n"])
@pytest.mark.parametrize("tag", ["!!omap", "!<tag:yaml.org,2002:omap>"])
def test_an_ordered_list_with_a_key_twice_names_the_key(tag: str, place: str) -> None:
    """YAML's reader only asserts it."""
    (found,) = parse_config("model_name: m\n" + place.format(f"{tag} [{{q: 1}}, {{v: 1}}, {{q: 2}}]")).problems
    assert "`q` appears twice" in found.message.text("en")


def test_a_key_with_a_no_break_space_in_it_is_told_so() -> None:
    """It looks like `r`, which is what it is renamed to."""
    (found,) = check_config(parse_config("model_name: m\n\u00a0r: 8\n")).errors
    assert (found.line, found.fix) == (2, Patch({"\u00a0r": DELETE, "r": 8}))
    assert "no-break space (U+00A0)" in found.message.text("en")


@pytest.mark.parametrize("file_format", ["yaml", "json", "toml"])
@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000])
@pytest.mark.parametrize("key", ["r", "alpha", "max_length"])
def test_a_number_of_thousands_of_digits_is_an_error_and_no_traceback(
    key: str, digits: str, file_format: Format
) -> None:
    text = {
        "yaml": f"model_name: m\n{key}: {digits}\n",
        "json": f'{{"model_name": "m", "{key}": {digits}}}',
        "toml": f"model_name = 'm'\n{key} = {digits}\n",
    }
    assert errors(text[file_format], file_format)


@pytest.mark.parametrize(
    ("key", "value"), [("\\ud800", "x"), ("r", "\\ud800"), ("dataset", "\\ud800"), ("target_modules", "\\udfff")]
)
@pytest.mark.parametrize("file_format", ["yaml", "json"])
def test_half_a_surrogate_pair_is_an_error_that_can_be_printed(key: str, value: str, file_format: Format) -> None:
    """Such text can be neither printed nor saved."""
    line = f'"model_name": "m",\n"{key}": "{value}"'
    assert errors("{" + line + "}" if file_format == "json" else line.replace(",", ""), file_format)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "r: " + "[" * 600 + "]" * 600), ("c.yaml", "r: " + "{a: " * 600), ("c.yaml", "- " * 5_000), ("c.json", '{"r": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        ("c.json", '{"r": ' * 100_000), ("c.toml", "r = " + "[" * 3_000 + "]" * 3_000),
    ],
)  # fmt: skip
def test_nesting_without_end_is_refused(name: str, text: str) -> None:
    assert [finding.code for finding in decode_config(text.encode(), name).problems] == ["syntax"]


def test_a_python_value_nested_without_end_is_a_finding() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    assert [found.key for found in check_config({"model_name": "m", "r": value}).errors] == ["r"]


@pytest.mark.parametrize("data", [b"r: 4\r\nr: 5\r\n", b"r: 4\rr: 5\r", "r: 4\nr: 5\n".encode("utf-8-sig")])
def test_a_duplicate_is_found_whatever_ends_a_line(data: bytes) -> None:
    assert [(finding.code, finding.line) for finding in decode_config(data).problems] == [("duplicate_key", 2)]


@pytest.mark.parametrize(
    ("data", "line"), [("r: 4\nalpha: é\n".encode("latin-1"), 2), ("r: 4\n".encode("utf-16-le"), None), (b"r: 4\n\0", None)]
)  # fmt: skip
def test_bytes_that_are_no_text_are_named(data: bytes, line: int | None) -> None:
    (found,) = decode_config(data).problems
    assert line is None or found.line == line
    assert found.message.text("en")


def test_the_ending_decides_how_a_file_is_read() -> None:
    assert decode_config(b'{"r": 4}', "A.JSON").format == "json"
    assert decode_config(b"r = 4", "a.TOML").values == {"r": 4}
    assert decode_config(b'{"r": 4}', "a.yml").values == {"r": 4}


# ------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("text", ["# mine", "# mine\n", "", "---\n", "\n\n", "# mine\n---"])
def test_a_key_set_in_a_file_of_comments_is_there_afterwards(text: str) -> None:
    written = with_values(text, {"r": 8})
    assert parse_config(written).values == {"r": 8}
    assert ("# mine" in written) == ("# mine" in text)


def test_a_file_without_a_last_line_end_can_be_added_to() -> None:
    assert parse_config(with_values("alpha: 3  # keep", {"r": 8})).values == {"alpha": 3, "r": 8}


def test_an_anchor_and_a_block_text_survive_a_change() -> None:
    text = "rank_pattern: &p\n  q: 4\nalpha_pattern: *p\nmodel_name: >-\n  m\nr: 4\n"
    written = with_values(text, {"r": 8})
    assert written == text.replace("r: 4\n", "r: 8\n") or parse_config(written).values == {
        **parse_config(text).values,
        "r": 8,
    }


scalars = (
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
    | st.sampled_from(["1e-4", "no", "on", "~", "null", "0x10", "08", "1_000", "2024-01-01", "#", "a: b", "- a", "&a", "*a", "!x", "%", "@", "`", "<<", "=", " x ", "\ttab", "a\nb", "é", "\u2028", "😀"])
)  # fmt: skip
values_of_any_kind = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abé_.\\*:# 1", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["", "# head\n", "r: 4  # rank\nalpha: 8\n", "{r: 4}\n", template()]), values_of_any_kind)
def test_what_is_set_is_what_is_read_back(text: str, value: Any) -> None:
    assert parse_config(with_values(text, {"dataset": value})).values["dataset"] == value
    assert parse_config(dump_yaml({"dataset": value})).values == {"dataset": value}


# --------------------------------------------------------------------------------------------------------- chance

GOOD = dump_yaml(
    {"model_name": "m", "r": 8, "learning_rate": 1e-4, "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 4}}
)
pieces = st.sampled_from(
    ["\n", " ", "  ", "\t", ":", "-", "- ", "? ", "[", "]", "{", "}", ",", "#", "&a ", "*a", "!!int ", "!!bool ", "!!set ", "|", ">", "'", '"', "%", "@", "---", "...", "<<: ", "~", "r: ", "0x", "1e", "\\ud800", "é", "\0", "\ufeff", "😀"]
) | st.text(max_size=3)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 8), pieces), max_size=6),
    st.sampled_from(["yaml", "json", "toml"]),
)
def test_a_mutated_config_is_checked_and_every_error_names_a_key_or_a_line_or_the_file(
    edits: list[tuple[int, int, str]], file_format: Format
) -> None:
    text = (
        GOOD
        if file_format == "yaml"
        else {
            "json": '{"model_name": "m",\n "r": 8,\n "rank_pattern": {"q": 4}}',
            "toml": 'model_name = "m"\nr = 8\n[rank_pattern]\nq = 4\n',
        }[file_format]
    )
    for place, length, piece in edits:
        text = text[:place] + piece + text[place + length :]
    document = decode_config(text.encode("utf-8", errors="replace"), f"c.{file_format}")
    for finding in check_config(document).errors:
        sentence = finding.message.text("en")
        assert finding.key is not None or finding.line is not None or "file" in sentence
        assert finding.line is None or 1 <= finding.line <= text.count("\n") + text.count("\r") + 2
        assert finding.message.text("zh")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KEYS)), values_of_any_kind, max_size=8))
def test_what_is_recommended_is_itself_without_a_type_error(values: dict[str, Any]) -> None:
    recommended = {**check_config(values).recommended_config, "model_name": "m"}
    assert not [
        found
        for found in check_config(recommended).findings
        if found.code in ("wrong_type", "out_of_range", "unknown_key")
    ]


def test_no_tag_and_no_alias_runs_code_in_a_fresh_process() -> None:
    script = (
        "import sys\n"
        "from lora_backend.config.config_text import parse_config\n"
        "sys.addaudithook(lambda event, _: event in ('os.system', 'subprocess.Popen') and print('RAN'))\n"
        "for tag in ('object/apply:os.system', 'object/new:os.system', 'name:os.system', 'module:subprocess', 'object:os.system'):\n"
        '    parse_config(f\'r: !!python/{tag} ["true"]\\nalpha: !!python/{tag} "true"\\n\')\n'
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["done"], done.stderr[-500:]
