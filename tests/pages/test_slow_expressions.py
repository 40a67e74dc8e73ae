"""Pages that meet an expression without end show its sentence, and everything else that they have to show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from tests.pages.screens import show, texts
from tests.verification.slow import PEFTS, SLOW, adapter

pytestmark = pytest.mark.usefixtures("places")


@pytest.mark.parametrize("own", PEFTS[:3], ids=str)
def test_verify_says_that_it_takes_too_long_and_nothing_green(own: dict[str, object], tmp_path: Path) -> None:
    at = show("verify", adapter=str(adapter(tmp_path / "a", **own)))
    assert "takes too long" in at.info[0].value
    assert not any("rank that is expected" in box.value for box in at.success)


def test_a_draft_with_it_can_be_opened_and_mended(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tiny_model))
    text = json.dumps({"model_name": str(tiny_model), "rank_pattern": {SLOW: 8}})
    at = show("config", draft=new_draft(this_installation().drafts, text).id)
    shown = texts(at)
    assert "in `rank_pattern` takes too long" in shown
    assert "avoid nested repeats" in shown
    assert "This config puts a LoRA on no layer of the model." not in shown, "nobody knows"
