"""No adapter that PEFT loads in part is called ok, and none that it loads whole is called anything else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import ModelError
from lora_backend.verification.verdicts import tone
from lora_backend.worker.methods import check_loaded_ranks
from tests.verification.bases import Bases
from tests.verification.damaged import DAMAGED, Adapters
from tests.verification.intact import INTACT
from tests.verification.peft_oracle import damage_of

KINDS = {"names", "halves", "widths", "vocabulary", "towers", "experts", "magnitudes", "dtypes"}

ELSEWHERE = {"another architecture", "a llama's on gpt2", "a neox's on bloom"}
"""Their targets are no modules of the base, so PEFT builds nothing of them."""


def loaded(folder: Path, base: Path) -> dict[str, Any]:
    """What the page *Verify* asks the torch process."""
    return check_loaded_ranks({"adapter": str(folder), "model_name": str(base), "config": None}, lambda *_: None)


def test_there_are_enough_of_each_kind() -> None:
    assert len(DAMAGED) >= 60
    assert Counter(fault.kind for fault in DAMAGED.values()).keys() == KINDS
    assert sum(how.is_lora for how in INTACT.values()) >= 40


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_foreign_adapter_is_not_ok(name: str, adapters: Adapters, bases: Bases, tmp_path: Path) -> None:
    folder, base = adapters.damaged(name, tmp_path)
    assert damage_of(bases.model(base), folder) is not None, "PEFT loads it whole, so it is no case"
    if name in ELSEWHERE:
        with pytest.raises(ModelError, match="PEFT cannot load the adapter into this model"):
            loaded(folder, bases.folder(base))
        return
    report = loaded(folder, bases.folder(base))
    assert (report["status"], report["is_consistent"]) == ("mismatch", False)
    assert report["differences"]
    assert set(report["warnings"]) >= {item["code"] for item in report["differences"]}


@pytest.mark.parametrize("name", INTACT)
def test_an_intact_adapter_is_ok(name: str, adapters: Adapters, bases: Bases) -> None:
    how, folder = INTACT[name], adapters.intact(name)
    report = loaded(folder, bases.folder(how.base))
    assert report["differences"] == []
    if not how.is_lora:
        assert (report["status"], report["is_consistent"]) == ("not_lora", None)
        return
    assert damage_of(bases.model(how.base), folder) is None
    assert (report["status"], report["compared"], tone(report)) == ("ok", "loaded", "good"), report["warnings"]
