"""Do adapter, config, base model and data belong together?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.models.identity import base_identity
from lora_backend.verification.passport import Part, check_passport, start_in_passport, write_passport

CONFIG = {"model_name": "/a/model", "r": 4, "learning_rate": 1e-4, "target_modules": ["q_proj"]}


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 4, "lora_alpha": 32, "target_modules": ["q_proj"]}'
    )
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(2_000_000))
    (tmp_path / "tokenizer.json").write_text("{}")
    written(folder, "d1")
    return folder


def written(folder: Path, *data: str | None) -> None:
    """A passport of a run of as many starts as there are hashes of data, four steps each."""
    starts = [
        {
            "start": number + 1, "first_step": 4 * number + 1, "last_step": 4 * number + 4, "data_sha256": sha256,
            "base": base_identity(folder.parent), "versions": {"peft": "1"},
        }
        for number, sha256 in enumerate(data)
    ]  # fmt: skip
    write_passport(folder, config=CONFIG, starts=starts, ranks={"q": 4})


def part_of(adapter: Path, name: str, data: str | None = "d1") -> Part:
    return next(
        part for part in check_passport(adapter, CONFIG, adapter.parent / "config.json", data) if part.name == name
    )


def verdicts(adapter: Path, config: dict[str, Any] | None = CONFIG, data: str | None = "d1") -> dict[str, str]:
    return {part.name: part.verdict for part in check_passport(adapter, config, adapter.parent / "config.json", data)}


def test_what_belongs_together_is_the_same_in_every_part(adapter: Path) -> None:
    assert set(verdicts(adapter).values()) == {"same"}


def test_equal_numbers_and_other_places_are_the_same_config(adapter: Path) -> None:
    assert (
        verdicts(adapter, {**CONFIG, "learning_rate": 0.0001, "model_name": "/b/model", "alpha": 32})["config"]
        == "same"
    )


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("tensors", lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"other")),
        ("tensors", lambda folder: (folder / "adapter_model.bin").write_bytes(b"second file")),
        ("adapter_config", lambda folder: (folder / "adapter_config.json").write_text("{}")),
        ("base_model", lambda folder: (folder.parent / "config.json").write_text('{"other": 1}')),
        ("base_model", lambda folder: (folder.parent / "model.safetensors").write_bytes(bytes([1]) * 2_000_000)),
        ("base_model", lambda folder: (folder.parent / "tokenizer.json").write_text('{"other": 1}')),
    ],
)
def test_exactly_the_part_that_was_changed_is_named(adapter: Path, part: str, change: Any) -> None:
    change(adapter)
    assert [name for name, verdict in verdicts(adapter).items() if verdict == "different"] == [part]


def test_another_config_is_named_by_its_keys(adapter: Path) -> None:
    (config_part, *_) = check_passport(adapter, {**CONFIG, "r": 8, "seed": 7})
    assert config_part.verdict == "different"
    assert "2 values differ: r, seed" in config_part.detail.text("en")
    assert config_part.differing == (("r", 4, 8), ("seed", 42, 7)), "with the values of both sides"
    assert config_part.to_dict()["differing"]["r"] == {"adapter": 4, "config": 8}


def test_other_data_is_named_and_absent_data_is_not_guessed(adapter: Path) -> None:
    assert verdicts(adapter, data="d2")["data"] == "different"
    assert verdicts(adapter, data=None)["data"] == "unknown"


def test_data_that_changed_while_the_run_was_trained_is_in_part_what_is_there(adapter: Path) -> None:
    written(adapter, "d1", "d2")
    assert [part_of(adapter, "data", found).verdict for found in ("d1", "d2", "d3", None)] == [
        "partly",
        "partly",
        "different",
        "unknown",
    ]
    assert "1–4: d1, 5–8: d2" in part_of(adapter, "data").detail.text("en")
    written(adapter, "d1", "d1")
    assert part_of(adapter, "data").verdict == "same"


def test_data_that_earlier_starts_did_not_record_is_not_claimed_to_be_the_same(adapter: Path) -> None:
    written(adapter, None, "d2")
    assert [part_of(adapter, "data", found).verdict for found in ("d2", "d1")] == ["unknown", "different"]


def test_a_passport_of_before_says_what_it_recorded(adapter: Path) -> None:
    path = adapter / "flightdeck.json"
    passport = json.loads(path.read_text())
    passport = {key: value for key, value in passport.items() if key not in ("starts", "base")}
    path.write_text(json.dumps(passport))
    found = verdicts(adapter)
    assert (found["data"], found["base_model"]) == ("same", "unknown")
    assert "weights were not recorded" in part_of(adapter, "base_model").detail.text("en")
    (adapter.parent / "config.json").write_text('{"other": 1}')
    assert verdicts(adapter)["base_model"] == "different"


@pytest.mark.parametrize("value", [None, 1, "x", [1], [{"start": "x", "data_sha256": 5}], {}])
def test_what_another_hand_has_written_is_no_crash(value: Any, adapter: Path) -> None:
    path = adapter / "flightdeck.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"starts": value, "base": value}))
    assert check_passport(adapter, CONFIG, adapter.parent / "config.json", "d1")
    assert start_in_passport(adapter) is None


def test_without_a_passport_rank_and_targets_still_say_something(adapter: Path) -> None:
    (adapter / "flightdeck.json").unlink()
    assert verdicts(adapter) == {"passport": "unknown", "config": "same"}
    assert verdicts(adapter, {**CONFIG, "r": 8})["config"] == "different"


WITHOUT = {"r": 4, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_modules": ["q_proj"]}, "r"),  # by its default
        ({**WITHOUT, "alpha": 8}, "alpha"),
        ({**WITHOUT, "rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({**WITHOUT, "use_rslora": True}, "use_rslora"),
        ({**WITHOUT, "use_dora": True}, "use_dora"),
        ({**WITHOUT, "target_layers": [0]}, "target_layers"),
        ({"peft_type": "LORA", "r": 8, "lora_alpha": 32, "target_modules": ["q_proj"]}, "r"),
    ],
)
def test_without_a_passport_the_adapters_own_config_still_contradicts(
    config: dict[str, Any], said: str, adapter: Path
) -> None:
    (adapter / "flightdeck.json").unlink()
    _, part = check_passport(adapter, config)
    assert (part.verdict, part.detail.values["keys"]) == ("different", said)


@pytest.mark.parametrize(
    "config", [WITHOUT, {"peft_type": "LORA", "r": 4, "lora_alpha": 32, "target_modules": ["q_proj"]}]
)
def test_without_a_passport_what_agrees_is_said(config: dict[str, Any], adapter: Path) -> None:
    (adapter / "flightdeck.json").unlink()
    _, part = check_passport(adapter, config)
    assert (part.verdict, "targets agree" in part.detail.text("en")) == ("same", True)


def test_all_linear_is_not_claimed_to_agree(adapter: Path) -> None:
    (adapter / "flightdeck.json").unlink()
    _, part = check_passport(adapter, {**WITHOUT, "target_modules": "all-linear"})
    assert (part.verdict, "no way to tell" in part.detail.text("en")) == ("same", True)
    assert "targets agree" not in part.detail.text("en")
