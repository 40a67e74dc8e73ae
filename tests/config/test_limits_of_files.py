"""What a config may hold: each limit by the last that is read and the first that is not, and files made to take long."""

from __future__ import annotations

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml.scanner import Scanner

from lora_backend.config.check import check_config
from lora_backend.config.config_text import MAX_CONFIG_BYTES, MAX_LINES, ConfigDocument, decode_config, read_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.scripts import MAX_MARKS, MAX_SCRIPT_BYTES, read_script, script_defaults
from lora_backend.config.token_limits import MAX_DOTS
from lora_backend.config.yaml_limits import MAX_DEPTH, MAX_KEYS, MAX_TAG_LENGTH, MAX_VALUES
from lora_backend.errors import ConfigError
from tests.hostile_files import HOSTILE_FILES


def read(text: str, ending: str) -> ConfigDocument:
    return decode_config(text.encode(), f"config.{ending}")


def keys(count: int, ending: str) -> str:
    lines = [f"k{number}" for number in range(count)]
    if ending == "json":
        return "{" + ",\n".join(f'"{line}": 1' for line in lines) + "}"
    return "".join(f"{line}{':' if ending == 'yaml' else ' ='} 1\n" for line in lines)


def entries(count: int, ending: str) -> str:
    """With as many values as that: the list and its key are two."""
    start = {"yaml": "a: [", "json": '{"a": [', "toml": "a = ["}[ending]
    # What counts in JSON and TOML are the marks between values; the braces around all are one of them.
    inside = {"yaml": count - 3, "json": count - 2, "toml": count - 1}[ending]
    return start + ", ".join(["1"] * inside) + ("]}" if ending == "json" else "]")


LIMITS: dict[str, tuple[str, Any, int, str]] = {
    **{f"keys of {e}": (e, keys, MAX_KEYS, f"has more than {MAX_KEYS} keys") for e in ("yaml", "json", "toml")},
    **{f"values of {e}": (e, entries, MAX_VALUES, f"has more than {MAX_VALUES} values") for e in ("yaml", "json", "toml")},
    "dots of a key": ("toml", lambda count, _: "a." * count + "a = 1\n", MAX_DEPTH, "nested too deeply"),
    "quoted dots of a key": ("toml", lambda count, _: '"=".' * count + "'#' = 1\n", MAX_DEPTH, "nested too deeply"),
    "dots of a header": ("toml", lambda count, _: "[" + "a . " * count + "a]\n", MAX_DEPTH, "nested too deeply"),
    "dots of an array of tables": ("toml", lambda count, _: "[[" + "a." * count + "a]]\n", MAX_DEPTH, "nested too deeply"),
    "dots in braces": ("toml", lambda count, _: "x = {" + "a." * count + "a = 1}\n", MAX_DEPTH, "nested too deeply"),
    "dots of all keys": (
        "toml", lambda count, _: "".join(f"k{n}.{'a.' * 99}a = 1\n" for n in range(count // 100)) + ("z.a = 1\n" if count % 100 else ""), MAX_DOTS,
        f"has more than {MAX_DOTS} dots",
    ),
    "lines": ("yaml", lambda count, _: "\n" * (count - 1) + "a: 1\n", MAX_LINES, f"more than {MAX_LINES} lines"),
    "bytes": ("yaml", lambda count, _: "a: " + "x" * (count - 4) + "\n", MAX_CONFIG_BYTES, f"at most {MAX_CONFIG_BYTES}"),
    "a tag": ("yaml", lambda count, _: "a: !" + "x" * (count - 1) + " 1\n", MAX_TAG_LENGTH, "a tag or a word with `!`"),
}  # fmt: skip


@pytest.mark.parametrize("limit", LIMITS)
def test_just_what_is_allowed_is_read_and_one_more_is_an_error_that_says_so(limit: str) -> None:
    ending, made, most, says = LIMITS[limit]
    assert read(made(most, ending), ending).is_readable
    document = read(made(most + 1, ending), ending)
    assert not document.is_readable
    (problem,) = document.problems
    assert (problem.severity, problem.code) == ("error", "syntax")
    assert says in problem.message.text("en")
    assert problem.remedy


@pytest.mark.parametrize("limit", [name for name, (ending, *_) in LIMITS.items() if ending == "toml"])
def test_too_much_is_told_before_tomls_reader_sees_it(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would build what takes gigabytes before it says anything."""

    def reads(_: str) -> None:
        raise AssertionError("the reader was asked")

    monkeypatch.setattr(tomllib, "loads", reads)
    ending, made, most, _ = LIMITS[limit]
    assert not read(made(most + 1, ending), ending).is_readable


def test_a_page_that_asks_again_gets_what_was_read_and_cannot_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "rank_pattern: {q_proj: 4}\nseed: 77\n"
    read(text, "yaml").values["rank_pattern"]["q_proj"] = 8

    def reads(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Scanner, "fetch_more_tokens", reads)
    assert read(text, "yaml").values["rank_pattern"] == {"q_proj": 4}


@pytest.mark.parametrize("title", HOSTILE_FILES)
def test_a_file_made_to_take_long_is_read_or_refused_in_one_sentence(title: str) -> None:
    name, data = HOSTILE_FILES[title]
    document = decode_config(data, name)
    if document.is_readable:
        dump_yaml(document.values)
        check_config(document).to_dict()
    else:
        (problem,) = document.problems
        assert problem.message.text("en").count("\n") == 0
    with suppress(ConfigError):
        import_text(document.text, name)


def test_an_endless_file_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    """Below /proc a file says that it has no bytes."""
    assert read_config(Path("/proc/self/status")).text
    large = tmp_path / "c.yaml"
    large.write_bytes(b"a: 1\n" * MAX_CONFIG_BYTES)
    assert f"at most {MAX_CONFIG_BYTES}" in read_config(large).problems[0].message.text("en")


# ----------------------------------------------------------------------------------------------- scripts


def test_a_script_of_just_the_limits_is_read_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    head, path = "DEFAULTS = {'r': 8}\n", tmp_path / "train.py"
    path.write_text(head + "#" * (MAX_SCRIPT_BYTES - len(head)))
    assert read_script(path).values == {"r": 8}
    path.write_text(head + "#" * (MAX_SCRIPT_BYTES - len(head) + 1))
    with pytest.raises(ConfigError, match=r"train\.py is larger than 256\.00 KiB"):
        read_script(path)
    with pytest.raises(ConfigError, match=f"at most {MAX_SCRIPT_BYTES} are read"):
        script_defaults(path.read_text())


def test_a_script_of_too_many_expressions_or_defaults_is_refused() -> None:
    with pytest.raises(ConfigError, match="too many expressions"):
        script_defaults("a=1;" * (MAX_MARKS // 2) + "a=1")
    most = "DEFAULTS = {" + "".join(f"'k{number}':1," for number in range(MAX_KEYS)) + "}"
    assert len(script_defaults(most).values) == MAX_KEYS
    with pytest.raises(ConfigError, match=f"has {MAX_KEYS + 1} defaults; at most {MAX_KEYS} are read"):
        script_defaults(most.replace("}", "'z':1}"))


def test_a_default_that_is_nested_too_deeply_to_be_written_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="cannot be read as Python"):
        script_defaults("DEFAULTS = {'a': a" + ".b" * 900 + "}")
