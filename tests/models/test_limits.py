"""A config.json that counts more than any machine can build is refused before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.installation import this_installation
from lora_backend.modeling.load import load_model
from lora_backend.modeling.meta import model_config
from lora_backend.models.catalogue import catalogue
from lora_backend.models.describe import describe_model
from lora_backend.models.model_limits import MAX_BLOCKS, refuse_oversized
from lora_backend.preflight.plan_question import model_facts
from tests.hostile import HOSTILE_MODELS
from tests.resolving import from_here

SAID = r"`\w+`.* in config\.json .*; the limit is [\d,]+\. Check the file\."


@pytest.fixture(params=HOSTILE_MODELS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(HOSTILE_MODELS[request.param]))
    return tmp_path


def test_it_is_refused_wherever_a_model_is_looked_at(folder: Path) -> None:
    """Each of these would go on for hours, or until the memory is full: that they end holds it."""
    facts = json.loads((folder / "config.json").read_text())
    ways: list[Any] = [
        lambda: describe_model(folder),
        lambda: model_facts(str(folder), this_installation()),
        lambda: model_config(facts),
        lambda: load_model(TrainingConfig(model_name=str(folder), precision="fp32")),
    ]
    for way in ways:
        with pytest.raises(ModelError, match=SAID) as raised:
            way()
        assert len(str(raised.value)) < 200
    result = from_here({"model_name": str(folder)}).result
    assert [finding.code for finding in result.findings if finding.key == "model_name"] == ["model_name_unusable"]


def test_the_sentence_names_key_value_and_limit() -> None:
    with pytest.raises(ModelError) as raised:
        refuse_oversized({"num_hidden_layers": 2_000})
    assert str(raised.value) == "`num_hidden_layers` in config.json is 2000; the limit is 1000. Check the file."


def test_the_deepest_that_is_allowed_is_allowed() -> None:
    refuse_oversized({"num_hidden_layers": MAX_BLOCKS, "layer_types": ["full_attention"] * MAX_BLOCKS})
    refuse_oversized({"num_hidden_layers": 61, "n_routed_experts": 384, "vocab_size": 10**6, "block_size": 10**6})


def test_a_count_for_each_stage_is_a_count() -> None:
    refuse_oversized({"depths": [2, 2, 18, 2], "mlp_only_layers": list(range(100))})
    with pytest.raises(ModelError, match=r"`depths` in config\.json is 1000000000; the limit is 1000"):
        refuse_oversized({"vision_config": {"depths": [2, 2, 10**9, 2]}})


def test_every_model_of_the_catalogue_is_within_the_limits() -> None:
    for entry in catalogue():
        refuse_oversized(entry.config)
