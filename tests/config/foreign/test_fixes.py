"""No fix changes a meaning: a config with all its errors fixed says what an import makes of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from lora_backend.config.check import check_config
from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.diff import same_value
from lora_backend.config.foreign.converting import convert
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.foreign.key_meanings import INFORMAL, known_tools
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.foreign.tools import TOOLS
from lora_backend.config.patch import DELETE
from lora_backend.config.schema import KEYS
from lora_backend.errors import ConfigError
from tests.config.foreign.small_files import FILES, GONE

MOST = 40
"""Fixes that a small file could need."""
VALUES = (True, False, 8, 0.5, -1, "all", "epoch", "x,y", ["q_proj", "v_proj"])
LAUNCHED = ("rank", "gradient_accumulation_steps", "train_batch_size")
"""Keys that mean here what stands beside them, and have tests of their own."""
TOGETHER = [
    ("rank", "world_size"), ("rank", "local_rank"), ("rank", "nnodes"), ("bf16", "fp16"), ("load_in_4bit", "bnb_4bit_quant_type"),
    ("lora_target_linear", "lora_target_modules"), ("pissa_init", "pissa_iter"), ("warmup_steps", "max_steps"),
    ("gradient_accumulation_steps", "per_device_train_batch_size"), ("gradient_accumulation_steps", "micro_batch_size"),
    ("batch_size", "micro_batch_size"), ("train_batch_size", "train_micro_batch_size_per_gpu"),
    ("gradient_checkpointing", "disable_gradient_checkpointing"), ("quantization_bit", "quantization_type"),
]  # fmt: skip
"""Keys of which one says what the other means."""
PAIRED = (True, False, 8, 4, 0.5, "fp4", "nf4", ["q_proj"])
OURS = {"model_name": "m", "dataset": "d.jsonl", "target_layers": [1]}


def fixed_text(text: str) -> str:
    for _ in range(MOST):
        fixes = [finding.fix for finding in check_config(parse_config(text)).errors if finding.fix is not None]
        if not fixes:
            return text
        text = with_values(text, fixes[0])
    raise AssertionError("fixes come to no end")


def fixed(values: dict[str, Any]) -> dict[str, Any]:
    for _ in range(1000):
        fixes = [finding.fix for finding in check_config(values).errors if finding.fix is not None]
        if not fixes:
            return values
        values = fixes[0].applied_to(values)
    raise AssertionError("fixes come to no end")


def others_than(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Keys of ours that both have with other values."""
    both = found.keys() & wanted.keys() & KEYS.keys()
    return {key: (found[key], wanted[key]) for key in both if not same_value(found[key], wanted[key])}


def test_there_are_small_files_of_every_kind() -> None:
    assert len(FILES) >= 75


@pytest.mark.parametrize("name", FILES)
def test_a_small_file_with_all_its_errors_fixed_means_what_an_import_makes_of_it(name: str) -> None:
    text, says = FILES[name]
    before, after = parse_config(text).values, parse_config(fixed_text(text)).values
    try:
        wanted = import_text(text).values
    except ConfigError:  # of two tools, or of none
        wanted = {key: value for key, value in before.items() if key in KEYS}
    assert others_than(after, wanted) == {}
    for key, value in says.items():
        if value is GONE:
            assert key not in after
        else:
            assert same_value(after.get(key), value), (key, after.get(key))


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith(("lf", "ax", "trl", "unsloth", "peft", "arg", "orig"))]
)
def test_a_file_of_another_tool_is_one_finding_that_says_whose_it_is_and_how_to_convert_it(name: str) -> None:
    text = FILES[name][0]
    (found,) = check_config(parse_config(text)).findings
    assert found.code == FOREIGN
    assert import_text(text).title in found.message.text("en")
    assert "python -m lora_backend import" in found.remedy.text("en")
    assert found.fixes
    assert found.key in parse_config(text).values
    assert found.line is not None


@pytest.mark.parametrize("tool_id", TOOLS)
def test_no_key_of_any_tool_alone_in_a_config_of_ours_becomes_what_its_tool_does_not_mean(tool_id: str) -> None:
    """Whatever the fixes set must be what every tool that has the key says, asked one by one."""
    wrong = []
    for key in TOOLS[tool_id].rules:
        for value in () if key in KEYS else VALUES:
            said = [tool.rules[key].apply(Source({key: value}), key) for tool in known_tools(key)]
            agreed = {(carried.target_key, repr(carried.target_value)) for carried in said}
            means = {str(said[0].target_key): said[0].target_value} if len(agreed) == 1 and said[0].target_key else {}
            after, wanted = fixed({**OURS, key: value}), fixed({**means, **OURS})
            targets = {target for tool in known_tools(key) for target in tool.rules[key].targets}
            if len(agreed) > 1 and not targets <= OURS.keys():
                wrong += [] if after.get(key) == value else [(key, value, "though tools read it differently")]
            elif key not in after and key not in LAUNCHED:
                wrong += [(key, value, name) for name in after if after[name] != wanted.get(name)]
            assert {name: after.get(name) for name in OURS} == OURS
    assert wrong == []


@pytest.mark.parametrize("tool_id", TOOLS)
def test_all_keys_of_a_tool_together_become_what_an_import_makes_of_them(tool_id: str) -> None:
    tool = TOOLS[tool_id]
    for value in VALUES:
        values: dict[str, Any] = {}
        for key in tool.rules.keys() - tool.sections:
            section, _, inner = key.rpartition(".")
            if section in tool.sections:
                values.setdefault(section, {})[inner] = value
            else:
                values[key] = value
        for config in (values, {**values, **OURS}):
            with_all_fixed = fixed(config)
            try:
                wanted = convert(ConfigDocument.of(config)).values
            except ConfigError:
                wanted = {key: item for key, item in config.items() if key in KEYS}
            ours_wrong = {finding.key for finding in check_config(wanted).errors}
            differing = others_than(with_all_fixed, wanted)
            assert {key for key in differing if key not in ours_wrong} == set()


@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_fixing_one_key_changes_no_other_ones_meaning_whichever_comes_first(one: str, other: str) -> None:
    wrong = []
    for value in PAIRED:
        for beside in PAIRED:
            for config in ({one: value, other: beside, **OURS}, {other: beside, one: value, **OURS}):
                if any(finding.key in KEYS for finding in check_config(config).errors):
                    continue  # what is wrong with our own keys has fixes of its own
                wanted = convert(ConfigDocument.of(config)).values
                ours = fixed({key: item for key, item in wanted.items() if key in KEYS})
                after = fixed(config)
                wrong += [(config, key) for key in after if key in KEYS and after[key] != ours.get(key)]
    assert wrong == []


@pytest.mark.parametrize("seed", range(4))
def test_files_drawn_from_all_tables_come_to_what_an_import_makes_of_them_and_to_an_end(seed: int) -> None:
    """Keys of one tool, a few of others, some of ours, in any order and with any value."""
    draw = random.Random(seed)
    every = sorted({key for tool in TOOLS.values() for key in tool.rules if "." not in key})
    ours = {"model_name": "m", "dataset": "d.jsonl", "batch_size": 2, "max_steps": 100, "target_modules": ["v_proj"]}
    for _ in range(150):
        tool = draw.choice(list(TOOLS.values()))
        names = draw.sample(sorted(tool.rules.keys() - tool.sections), 4) + draw.sample(every, draw.choice((0, 1, 2)))
        names += draw.sample(sorted(ours), draw.choice((0, 0, 2, 4)))
        config = {
            name: ours.get(name, draw.choice((*VALUES, *PAIRED, None))) for name in draw.sample(names, len(names))
        }
        after = fixed(config)
        try:
            wanted = convert(ConfigDocument.of(config)).values
        except ConfigError:
            wanted = {key: item for key, item in config.items() if key in KEYS}
        settled = fixed(wanted)
        for key in after.keys() & KEYS.keys():
            is_kept = key in config and same_value(after[key], config[key])
            assert is_kept or any(same_value(after[key], side.get(key)) for side in (wanted, settled)), (config, key)


def test_what_is_left_of_other_tools_keys_after_a_conversion_is_converted_too() -> None:
    text = "num_train_epochs: 2\nlogging_first_step: true\nuse_llama_pro: true\nfreeze_trainable_layers: 3\nplot_loss: true\n"
    assert parse_config(fixed_text(text)).values.keys() <= KEYS.keys()


@pytest.mark.parametrize("lines", ["rank: 8\nworld_size: 16\n", "world_size: 16\nrank: 8\n", "rank: 0\n"])
def test_a_launchers_rank_goes_with_its_world(lines: str) -> None:
    assert parse_config(fixed_text(f"model_name: m\n{lines}")).values == {"model_name": "m"}


@pytest.mark.parametrize(
    "key", ["no_gradient_checkpointing", "disable_deterministic", "include_cpu", "skip_use_dora", "dont_overwrite"]
)
def test_a_name_that_turns_one_of_ours_around_is_not_told_that_it_means_that_one(key: str) -> None:
    (found,) = check_config({"model_name": "m", key: True}).errors
    assert "Did you mean" not in found.remedy.text("en")
    assert found.fix == {key: DELETE}


def test_a_key_that_looks_most_like_another_tools_is_told_that_one_and_not_fixed() -> None:
    (found,) = check_config({"model_name": "m", "sav_strategy": "epoch"}).errors
    assert "`save_strategy`" in found.remedy.text("en")
    assert found.fix is None


def test_a_name_of_nobodys_config_is_in_no_table() -> None:
    assert not [name for name in INFORMAL if known_tools(name) or name in KEYS]
