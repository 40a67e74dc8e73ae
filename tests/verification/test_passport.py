"""Do adapter, config, base model and data belong together?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_backend.verification.passport import check_passport, write_passport

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
    write_passport(
        folder,
        config=CONFIG,
        data_sha256="d1",
        base_config=tmp_path / "config.json",
        ranks={"q": 4},
        versions={"peft": "1"},
    )
    return folder


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
    ],
)
def test_exactly_the_part_that_was_changed_is_named(adapter: Path, part: str, change: Any) -> None:
    change(adapter)
    assert [name for name, verdict in verdicts(adapter).items() if verdict == "different"] == [part]


def test_another_config_is_named_by_its_keys(adapter: Path) -> None:
    (config_part, *_) = check_passport(adapter, {**CONFIG, "r": 8, "seed": 7})
    assert config_part.verdict == "different"
    assert "r, seed" in config_part.detail.text("en")


def test_other_data_is_named_and_absent_data_is_not_guessed(adapter: Path) -> None:
    assert verdicts(adapter, data="d2")["data"] == "different"
    assert verdicts(adapter, data=None)["data"] == "unknown"


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
    assert (part.verdict, "cannot be told" in part.detail.text("en")) == ("same", True)
    assert "targets agree" not in part.detail.text("en")
