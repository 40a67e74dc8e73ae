"""The schema says all of a key: one that is added to a copy of it is in every part of the product, without another line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    places = {"FLIGHTDECK_WORKSPACE": "ws", "FLIGHTDECK_HOME": "cache", "FLIGHTDECK_MODEL_ROOTS": "."}
    root = tmp_path_factory.mktemp("made_up_key")
    environment = os.environ | {name: str(root / below) for name, below in places.items()}
    command = [sys.executable, "-m", "tests.config.made_up_key"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_form_and_plan_page_have_a_field_for_it(found: dict[str, Any]) -> None:
    assert "daydreams (turns)" in found["form"]
    assert "daydreams (turns)" in found["plan controls"]
    assert found["plan question"] == 7


def test_it_is_checked_proposed_and_compared(found: dict[str, Any]) -> None:
    assert found["check"] == ["out_of_range"]
    assert found["check of a slip"] == [{"daydreems": None, "daydreams": 5}]
    assert found["defaults"] == 3
    assert found["diff"] == ["changed"]
    assert found["plan depends on it"]
    assert found["table"] == 8


def test_a_resumed_run_may_change_it_as_the_schema_says(found: dict[str, Any]) -> None:
    assert found["resume"] == {"restarts_schedule": ["daydreams"]}


def test_template_and_documentation_tell_of_it(found: dict[str, Any]) -> None:
    assert "# How often the model dreams. [turns]\ndaydreams: 3\n" in found["template"]
    assert "| `daydreams` | `3` | turns |" in found["reference"]
    assert (found["JSON schema"]["default"], found["JSON schema"]["minimum"]) == (3, 1)
    schedule = next(line for line in found["what may change on resume"].splitlines() if "`lr_scheduler_type`" in line)
    assert "`daydreams`" in schedule
    assert "| `dreams_there` | `daydreams` |" in found["import tables"]


def test_other_tools_files_have_it_under_their_name(found: dict[str, Any]) -> None:
    assert "dreams_there: 5" in found["export"]["axolotl"]
    assert "num_dreams: 5" in found["export"]["llamafactory"]
    assert json.loads(found["export"]["peft"])["lora_daydreams"] == 5
    assert found["export rows"] == "taken"
    assert found["import"] == 6
