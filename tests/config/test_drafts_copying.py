"""A draft copied as a command or as Python means the same config; a diff copied as Markdown stays a table."""

from __future__ import annotations

import re
import shlex
from typing import Any

from lora_backend.config.config_text import parse_config
from lora_backend.config.copying import as_command, as_python, diff_markdown
from lora_backend.config.diff import ABSENT, DiffRow
from lora_backend.config.schema import default_config

VALUES: dict[str, Any] = {
    "model_name": "./my model's folder", "r": 8, "learning_rate": 2e-4, "use_dora": True, "pkg": "16", "version": "no",
    "rank_pattern": {"layers.0.q_proj": 4}, "target_modules": ["q_proj", "v_proj"], "device_map": None, "alpha": 32,
}  # fmt: skip


def settings_of(command: str) -> dict[str, Any]:
    """The keys of every `--set`, read as the command line reads them."""
    words = shlex.split(command)
    pairs = [words[index + 1].partition("=") for index, word in enumerate(words) if word == "--set"]
    return {key: parse_config(f"value: {text}").values["value"] for key, _, text in pairs}


def test_the_command_sets_all_that_differs_from_the_defaults_and_nothing_else() -> None:
    command = as_command(VALUES, "my config.yaml", {})
    assert shlex.split(command)[:5] == ["python", "-m", "lora_backend", "train", "my config.yaml"]
    assert as_command(VALUES, "c.yaml", VALUES) == "python -m lora_backend train c.yaml\n"
    assert settings_of(command) == {key: VALUES[key] for key in VALUES if key not in ("device_map", "alpha")}


def test_a_command_from_another_config_also_takes_back_what_only_that_one_sets() -> None:
    command = as_command({"model_name": "m", "r": 8}, "runs/one/config.yaml", {"model_name": "m", "r": 4, "seed": 7})
    assert settings_of(command) == {"r": 8, "seed": 42}
    assert default_config()["seed"] == 42


def test_the_python_holds_the_same_values() -> None:
    scope: dict[str, Any] = {}
    code = as_python(VALUES)
    compile(code, "copied", "exec")
    exec(re.search(r"config = .*?\n}\n|config = .*?}\n", code, re.DOTALL)[0], scope)  # type: ignore[index]
    assert scope["config"] == VALUES


def test_markdown_keeps_pipes_and_line_ends_inside_of_their_cells() -> None:
    table = diff_markdown([DiffRow("a|b", "changed", "x|y\nz", ABSENT)], "base | name", "en").splitlines()
    assert len(table) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in table)
    assert "changed" in table[2]
