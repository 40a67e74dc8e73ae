"""No adapter that PEFT loads in part is called ok, and none that it loads whole is called anything else."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lora_backend import check_lora_r_consistency
from lora_backend.errors import ModelError
from lora_backend.models.identity import base_identity
from lora_backend.verification.verdicts import tone
from lora_backend.worker.methods import check_loaded_ranks
from tests.verification.bases import Bases
from tests.verification.damaged import DAMAGED, Adapters
from tests.verification.intact import INTACT, rewrite_config
from tests.verification.peft_oracle import damage_of
from tests.verification.reports import folder_report, typed

KINDS = {"names", "halves", "widths", "vocabulary", "towers", "experts", "magnitudes", "dtypes"}

ELSEWHERE = {"another architecture", "a llama's on gpt2", "a neox's on bloom"}
"""Their targets are no modules of the base, so PEFT builds nothing of them."""


def loaded(folder: Path, base: Path) -> dict[str, Any]:
    """What the page *Verify* asks the torch process."""
    return check_loaded_ranks({"adapter": str(folder), "model_name": str(base), "config": None}, lambda *_: None)


def on_disk(folder: Path, **config: Any) -> dict[str, Any]:
    """What Python asks of the folder, beside the base model that it names."""
    own = json.loads((folder / "adapter_config.json").read_text())
    return check_lora_r_consistency(folder, own | config)


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
    assert (report["status"], report["is_consistent"], report["compared"]) == ("mismatch", False, "loaded")
    assert report["differences"]
    assert set(report["warnings"]) >= {item["code"] for item in report["differences"]}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_foreign_adapter_is_not_ok_on_disk(name: str, adapters: Adapters, tmp_path: Path) -> None:
    folder, _ = adapters.damaged(name, tmp_path)
    report = on_disk(folder)
    assert (report["is_consistent"], tone(typed(report))) == (False, "bad")
    assert tone(typed(folder_report(folder, None))) != "good", "and without torch not green at least"


@pytest.mark.parametrize("name", INTACT)
def test_an_intact_adapter_is_ok_on_disk(name: str, adapters: Adapters) -> None:
    how, folder = INTACT[name], adapters.intact(name)
    report = on_disk(folder)
    if not how.is_lora:
        assert (report["status"], report["is_consistent"]) == ("not_lora", None)
        return
    assert (report["status"], report["differences"], tone(typed(report))) == ("ok", [], "good"), report["warnings"]
    assert report["compared"] in ("headers", "module_tree")
    assert how.save or folder_report(folder, None)["is_consistent"] is not False, "nor without torch"


@pytest.mark.parametrize("name", INTACT)
def test_an_intact_adapter_is_ok(name: str, adapters: Adapters, bases: Bases) -> None:
    how, folder = INTACT[name], adapters.intact(name)
    report = loaded(folder, bases.folder(how.base))
    assert report["differences"] == []
    if not how.is_lora:
        assert (report["status"], report["is_consistent"]) == ("not_lora", None)
        return
    assert damage_of(bases.model(how.base), folder) is None
    assert (report["status"], report["compared"], tone(typed(report))) == ("ok", "loaded", "good"), report["warnings"]


def passport(folder: Path, base: Path) -> None:
    (folder / "flightdeck.json").write_text(json.dumps({"base": {**base_identity(base), "name": "its own"}}))


@pytest.mark.parametrize("told_by", ["path", "passport", "nobody"])
def test_another_base_of_equal_shapes_is_told_where_anything_tells(
    told_by: str, adapters: Adapters, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody tells there is nothing to compare: values of other weights are as good as any."""
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(bases.root))
    folder, other = Path(shutil.copytree(adapters.intact("plain"), tmp_path / "a")), bases.folder("llama_other")
    if told_by == "passport":
        passport(folder, bases.folder("llama"))
    if told_by != "path":
        rewrite_config(folder, base_model_name_or_path="/models/of/another/machine")
    for report in (on_disk(folder, model_name=str(other)), loaded(folder, other)):
        assert report["differences"] == []
        is_told = (report["status"], "other_base" in report["warnings"])
        assert is_told == (("ok", False) if told_by == "nobody" else ("mismatch", True))
