"""A config of another tool at the command line and in Python: one sentence that says whose it is, and what it compares as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.check import check_config
from lora_backend.config.config_text import parse_config
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.scripts import script_defaults
from lora_backend.config_checker import check_config_consistency
from tests.config.foreign.examples import EXAMPLES
from tests.config.foreign.small_files import FILES

SCRIPT = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--rank", type=int, default=0)
parser.add_argument("--world_size", type=int, default=1)
parser.add_argument("--loraadaptor_save_path_base", default="/new")
parser.add_argument("--per_device_train_batch_size", type=int, default=1)
parser.add_argument("--gradient_accumulation_steps", type=int, default=16)
"""
ORIGINAL = "model_name: org/base\nr: 64\nloraadaptor_save_path_base: /old\ntraindata_percentage: 1.0\n"


@pytest.mark.parametrize("tool_id", EXAMPLES)
def test_check_plan_and_python_say_whose_config_it_is_in_one_sentence(
    tool_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, title = EXAMPLES[tool_id], import_text(EXAMPLES[tool_id]).title
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert main(["check", str(file), "--json", "--lang", "en"]) == 1
    document = json.loads(capsys.readouterr().out)
    (found,) = document["findings"]
    assert (found["code"], document["startable"], document["blockers"]) == (FOREIGN, None, [])
    assert main(["check", str(file), "--lang", "en"]) == 1
    assert f"This is a config of {title}, not of LoRA Flightdeck." in capsys.readouterr().out
    assert main(["plan", str(file), "--lang", "en"]) == 2
    said = capsys.readouterr().err
    assert title in said
    assert "python -m lora_backend import FILE" in said
    assert len(said) < 300
    wanted = import_text(text).values
    assert {key: document["recommended_config"][key] for key in wanted} == wanted
    values = parse_config(text).values
    assert [item["code"] for item in check_config_consistency(values)["findings"]] == [FOREIGN]


def test_a_plan_names_a_few_of_many_errors_and_says_how_many_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model_name: m\n" + "".join(f"nobodys_{letter}: 1\n" for letter in "abcdefghijklmnopqrstuvw"))
    assert main(["plan", str(file), "--lang", "en"]) == 2
    said = capsys.readouterr().err
    assert "23 errors" in said
    assert "18 more" in said
    assert len(said) < 700


def test_both_sides_are_compared_under_our_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, script = tmp_path / "config.yaml", tmp_path / "train.py"
    config.write_text(ORIGINAL)
    script.write_text(SCRIPT)
    main(["check", str(config), "--against", str(script), "--json"])
    rows = json.loads(capsys.readouterr().out)["differences"]
    assert rows["output_dir"] == {"default": "/new", "value": "/old"}
    assert "loraadaptor_save_path_base" not in rows
    assert rows["r"] == {"default": None, "value": 64}, "the number of a process is no rank"
    assert rows["target_batch_size"] == {"default": 16, "value": None}


def test_another_tools_file_is_compared_as_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, base = tmp_path / "config.yaml", tmp_path / "base.yaml"
    config.write_text("model_name: org/base\nbatch_size: 1\ntarget_batch_size: 8\n")
    base.write_text(FILES["lf batch"][0])
    assert main(["check", str(config), "--against", str(base), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["differences"]
    assert "batch_size" not in rows
    assert "target_batch_size" not in rows
    assert rows["r"] == {"default": 8, "value": None}


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"rank": 16}, {"r": 16}), ({"rank": 0}, {"rank": 0}), ({"rank": 16, "local_rank": -1}, {"rank": 16, "local_rank": -1}),
        ({"batch_size": 128, "micro_batch_size": 4}, {"batch_size": 4, "target_batch_size": 128}),
        ({"batch_size": 2, "gradient_accumulation_steps": 8}, {"batch_size": 2, "target_batch_size": 16}),
        ({"gradient_accumulation_steps": 8}, {"gradient_accumulation_steps": 8}), ({"warmup_steps": 10}, {"warmup_steps": 10}),
        ({"warmup_steps": 10, "max_steps": 100}, {"warmup_ratio": 0.1, "max_steps": 100}),
        ({"lora_target": "all"}, {"target_modules": "all-linear"}), ({"overwrite_output_dir": True}, {"overwrite_output_dir": True}),
        ({"disable_gradient_checkpointing": True}, {"gradient_checkpointing": False}), ({"load_in_4bit": False}, {}),
    ],
)  # fmt: skip
def test_options_of_a_script_have_our_names_where_they_mean_the_same(
    options: dict[str, Any], values: dict[str, Any]
) -> None:
    source = "".join(f"p.add_argument('--{name}', default={value!r})\n" for name, value in options.items())
    assert script_defaults(source).values == values


def test_a_file_of_two_tools_is_told_both_and_offered_no_fix() -> None:
    (found,) = check_config(parse_config(FILES["two tools"][0])).findings
    assert (found.code, found.fixes) == (FOREIGN, ())
    said = found.message.text("en")
    assert "LLaMA-Factory" in said
    assert "axolotl" in said
    assert said.index("lora_rank") < said.index("lora_target") < said.index("sequence_len"), "in the file's order"


def test_a_file_that_is_no_training_config_is_not_offered_a_conversion() -> None:
    (found,) = check_config(
        parse_config("compute_environment: LOCAL\ndistributed_type: NO\ndebug: true\nuse_cpu: false\n")
    ).findings
    assert (found.code, found.fixes) == (FOREIGN, ())
    assert "import" not in found.remedy.text("en")


def test_keys_that_many_tools_have_are_not_laid_at_the_door_of_one() -> None:
    text = "train_micro_batch_size_per_gpu: 2\ngradient_accumulation_steps: 4\nzero_optimization: {stage: 2}\nbf16: {enabled: true}\n"
    found = check_config(parse_config(text)).findings[0]
    assert "of other tools" in found.message.text("en")
