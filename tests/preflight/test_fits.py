"""What the torch process said of an adapter and its base is kept by the content of both, a refusal too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import ModelError
from lora_backend.i18n import Message
from lora_backend.installation import Installation, this_installation
from lora_backend.models.headers import TensorInfo
from lora_backend.preflight.fits import Answer, kept_fit, known_fit
from lora_backend.verification.against_base import TreeAnswer
from lora_backend.verification.differences import Difference

TENSORS = {"base_model.model.a.lora_A.weight": TensorInfo((2, 4), "F32", 32)}
FOUND = TreeAnswer(
    (Difference("other_shape", "a.lora_A.weight", "a", (2, 4), (2, 8)), Difference("unfit_dtype", "b", dtype="I8")),
    {"a": {"num_experts": 2, "name": "a.w", "kind": "experts"}},
)


class Asked:
    """Counts its questions."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.answer, self.count = answer, 0

    def __call__(self, facts: Mapping[str, Any], folder: Path, tensors: Mapping[str, TensorInfo]) -> Answer:
        self.count += 1
        return self.answer


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installation:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    return this_installation()


def test_an_answer_is_kept_until_adapter_or_model_is_another(tmp_path: Path, installation: Installation) -> None:
    asked = Asked(FOUND.to_json())
    fit = kept_fit(asked, installation)
    for _ in range(2):
        assert fit({"model_type": "llama"}, tmp_path, TENSORS) == FOUND
    assert known_fit(installation)({"model_type": "llama"}, tmp_path, TENSORS) == FOUND
    assert asked.count == 1
    fit({"model_type": "llama", "hidden_size": 8}, tmp_path, TENSORS)
    fit({"model_type": "llama"}, tmp_path, {})
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    fit({"model_type": "llama"}, tmp_path, TENSORS)
    assert asked.count == 4


def test_a_refusal_is_kept_and_a_worker_that_fails_is_not(tmp_path: Path, installation: Installation) -> None:
    asked = Asked({"error": Message("No such {what}.", {"what": "model"}).to_json()})
    fit = kept_fit(asked, installation)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"No such model\."):
            fit({}, tmp_path, TENSORS)
    assert asked.count == 1
    with pytest.raises(ModelError, match="Verify page"):
        known_fit(installation)({"model_type": "other"}, tmp_path, TENSORS)
    assert kept_fit(Asked(FOUND.to_json()), installation)({"model_type": "other"}, tmp_path, TENSORS) == FOUND


def test_what_is_no_answer_any_more_is_asked_anew(tmp_path: Path, installation: Installation) -> None:
    kept_fit(Asked(FOUND.to_json()), installation)({}, tmp_path, TENSORS)
    (place,) = (installation.cache / "fits").iterdir()
    for text in (
        "{",
        "[]",
        "null",
        '{"version": 0}',
        '{"version": 1}',
        '{"version": 1, "differences": [{}], "layers": {}}',
    ):
        place.write_text(text)
        asked = Asked(FOUND.to_json())
        assert kept_fit(asked, installation)({}, tmp_path, TENSORS) == FOUND
        assert asked.count == 1, text
