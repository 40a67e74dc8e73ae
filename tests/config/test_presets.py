"""Presets: each is a good config, and trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.config.diff import same_value
from lora_backend.config.presets import PRESETS, Preset, preset_base
from lora_backend.config.schema import KEYS, TrainingConfig, default_config
from lora_backend.demo.config import demo_config
from tests.resolving import from_here
from tests.tiny import chats, write_rows
from tests.training.helpers import run
from tests.untraced import planned_by_formula

ALL = [pytest.param(preset, id=preset.id) for preset in PRESETS.values()]


@pytest.mark.parametrize("preset", ALL)
def test_a_preset_says_what_it_is_for_and_changes_something(preset: Preset) -> None:
    assert preset.title
    assert preset.purpose.endswith(".")
    assert not all(same_value(KEYS[key].default, value) for key, value in preset.values.items())
    assert preset_base(preset.id) == default_config() | dict(preset.values)


@pytest.mark.parametrize("preset", ALL)
def test_a_preset_is_a_config_with_nothing_to_say_of_it(preset: Preset, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", chats(repeat=250))
    values = preset.config("no/such-model", str(data))
    found = [f.code for f in from_here(values).result.findings]
    assert [code for code in found if code not in ("model_name_unusable", "quantization_without_gpu")] == []


@pytest.mark.parametrize("preset", ALL)
def test_a_preset_trains_on_a_machine_without_a_gpu(
    preset: Preset, tiny_model: Path, workspace: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", chats())
    values = {**preset.config(str(tiny_model), str(data)), "max_steps": 2, "save_steps": 2}
    assert TrainingConfig.model_validate(values)
    with planned_by_formula(tmp_path_factory.getbasetemp() / "by_formula"):
        folder = run(workspace, values)
    assert (folder.adapter / "adapter_model.safetensors").is_file()
    assert folder.state().step == 2


def test_the_demo_preset_is_the_demos_own_config(tmp_path: Path) -> None:
    paths = ("model_name", "dataset", "questions")
    assert PRESETS["demo"].values == {key: value for key, value in demo_config(tmp_path).items() if key not in paths}
