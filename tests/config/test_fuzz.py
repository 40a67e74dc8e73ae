"""Configs as nobody would write them: never a traceback, and every refusal names a key or a line."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lora_backend.config.check import check_config
from lora_backend.config.check_report import diff_text, report_text
from lora_backend.config.config_text import decode_config
from lora_backend.config.config_writing import dump_yaml, template
from lora_backend.config.diff import diff_configs
from lora_backend.config.presets import PRESETS
from lora_backend.config.rules import RULES
from lora_backend.config.schema import KEYS, TrainingConfig, default_config

REAL = [
    template({"model_name": "m"}).encode(),
    *(dump_yaml(preset.config("m", "d.jsonl")).encode() for preset in PRESETS.values()),
    *(rule.text(rule.broken).encode() for rule in RULES),
]
BITS = [
    b"\t", b"\n", b"\r\n", b": ", b"- ", b"&a ", b"*a", b"<<: ", b"{", b"}", b"[", b"]", b"'", b'"', b"|\n", b"? ", b"!!python/name:x ", b"%",
    b"---\n", b"\x00", b"\xff", b"\xef\xbb\xbf", "：".encode(), "１".encode(), b"no", b"08", b"1:30", b".nan", b".inf", b"1e400", b"~", b"9" * 400,
]  # fmt: skip
FACTS = [rule.facts for rule in RULES]


def mutated(randomness: random.Random) -> bytes:
    """A real config with some bytes out, in, doubled or moved."""
    data = bytearray(randomness.choice(REAL))
    for _ in range(randomness.randint(1, 6)):
        start = randomness.randrange(len(data) + 1)
        end = min(start + randomness.randint(0, 12), len(data))
        match randomness.randrange(4):
            case 0:
                del data[start:end]
            case 1:
                data[start:start] = randomness.choice(BITS)
            case 2:
                data[start:start] = data[start:end] * randomness.randint(1, 3)
            case _:
                data[start:end] = bytes(randomness.randrange(256) for _ in range(end - start))
    return bytes(data)


def judge(data: bytes, name: str, seed: int = 0) -> None:
    """Read, check, report, compare, mend."""
    document = decode_config(data, name)
    result = check_config(document, FACTS[seed % len(FACTS)])
    for finding in result.findings:
        is_whole_file = finding.code == "syntax" and not document.values
        assert finding.key is not None or finding.line is not None or is_whole_file, (data, finding)
        assert finding.message.text("en")
        assert finding.remedy.text("zh")
        for fix in finding.fixes:
            check_config(fix.changes.applied_to(document.values))
            assert fix.label.text("zh")
    report_text(result, "en")
    diff_text(diff_configs(document.values, default_config(), KEYS), "zh")
    assert document.is_readable or not result.is_valid


def judge_many(count: int, seed: int) -> None:
    randomness = random.Random(seed)
    for number in range(count):
        noise = bytes(randomness.randrange(256) for _ in range(randomness.randrange(80)))
        data = noise if number % 5 == 0 else mutated(randomness)
        judge(data, randomness.choice(["a.yaml", "a.yaml", "a.yaml", "a.json", "a.toml"]), number)


def test_400_mutated_and_random_files_are_answered() -> None:
    judge_many(400, 1)


def as_written(value: object) -> object:
    """Entries with parts as a file gives them."""
    return (
        [one.model_dump() if isinstance(one, BaseModel) else one for one in value] if isinstance(value, list) else value
    )


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.fixed_dictionaries(
        {"model_name": st.just("m")},
        optional={
            name: st.from_type(key.annotation).map(as_written) | st.none() | st.text(max_size=5)
            for name, key in KEYS.items()
            if name != "model_name"
        },
    ),
    st.integers(0, 1000),
)
def test_100_configs_of_the_schemas_own_types_are_answered(values: dict[str, object], seed: int) -> None:
    result = check_config(values, FACTS[seed % len(FACTS)])
    assert all(finding.key for finding in result.findings)
    if result.is_valid:
        assert TrainingConfig.model_validate(values)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_10_000_mutated_and_random_files_are_answered() -> None:
    judge_many(10_000, 2)
