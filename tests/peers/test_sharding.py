"""A model that two processes share out trains as a whole one does: losses, adapter, file, answers; in about half of the memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.peers.sharded_models import CASES, fresh
from tests.together import together

WITHIN = 1e-5
TIE = {"fp32": 1e-5, "bf16": 2**-8}
"""Two logits, both about 1, that are no further apart are as good as equal: which one wins is the processor's rounding."""

pytestmark = pytest.mark.timeout(900)  # torch is imported by each process


class Found:
    """What came of all cases: at each rank, and by one process."""

    def __init__(self, folder: Path, train: str = "train_all") -> None:
        self.folder = folder
        together(f"tests.peers.sharded_models:{train}", folder)
        self.ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
        self.alone = json.loads((folder / "alone.json").read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return Found(tmp_path_factory.mktemp("sharded"))


@pytest.mark.parametrize("name", CASES)
def test_a_shared_out_model_trains_and_answers_as_a_whole_one(found: Found, name: str) -> None:
    alone = found.alone[name]
    before = torch.cat([one.detach().flatten() for one in fresh(CASES[name]).parameters() if one.requires_grad])
    assert apart(alone["adapter"], before) > 100 * WITHIN
    for of_rank in found.ranks:
        ours = of_rank[name]
        assert ours["losses"] == pytest.approx(alone["losses"], rel=WITHIN)
        for answers in zip(ours["answers"], alone["answers"], strict=True):
            assert_same_answers(*answers, tie=TIE[CASES[name].precision])
        assert apart(ours["adapter"], alone["adapter"]) <= WITHIN
        assert ours["adapter"] == found.ranks[0][name]["adapter"]


@pytest.mark.parametrize("name", CASES)
def test_each_process_can_save_the_adapter_that_one_process_saves(found: Found, name: str) -> None:
    alone = load_file(found.folder / f"{name} alone" / "adapter_model.safetensors")
    for rank in range(2):
        ours = load_file(found.folder / f"{name} {rank}" / "adapter_model.safetensors")
        assert ours.keys() == alone.keys()
        assert all(apart(ours[key], alone[key]) <= WITHIN for key in alone)


@pytest.mark.parametrize("name", CASES)
def test_between_passes_each_process_holds_its_part_of_what_is_frozen(found: Found, name: str) -> None:
    assert all(of_rank[name]["is sharded"] for of_rank in found.ranks)
    assert sum(of_rank[name]["bytes"] for of_rank in found.ranks) < 2 * found.alone[name]["bytes"]


def test_a_model_of_which_little_trains_takes_half_of_its_weights_at_each_process(found: Found) -> None:
    whole, parts = found.alone["llama"]["bytes"], [of_rank["llama"]["bytes"] for of_rank in found.ranks]
    trained = 4 * len(found.alone["llama"]["adapter"])
    assert [part - trained for part in parts] == pytest.approx([(whole - trained) / 2] * 2, rel=0.05)


@pytest.mark.soak
def test_fifty_steps_stay_as_close(tmp_path: Path) -> None:
    found = Found(tmp_path, "train_long")
    far = {
        name: (relative(of_rank[name]["losses"], alone["losses"]), apart(of_rank[name]["adapter"], alone["adapter"]))
        for name, alone in found.alone.items()
        for of_rank in found.ranks
    }
    assert {name: both for name, both in far.items() if max(both) > WITHIN} == {}, far


def assert_same_answers(ours: dict[str, Any], alone: dict[str, Any], tie: float) -> None:
    """The same tokens, in each row to the first that was drawn between two as good as equal."""
    for row, theirs, margins in zip(ours["tokens"], alone["tokens"], alone["margins"], strict=True):
        clear = next((place for place, margin in enumerate(margins) if margin <= tie), len(margins))
        assert row[:clear] == theirs[:clear]
        assert len(row) == len(theirs)


def relative(ours: list[float], theirs: list[float]) -> float:
    """The largest difference of a loss."""
    return max(abs(one - other) / other for one, other in zip(ours, theirs, strict=True))


def apart(one: torch.Tensor | list[float], other: torch.Tensor | list[float]) -> float:
    """‖difference‖ / ‖other‖"""
    ours, theirs = (torch.as_tensor(values, dtype=torch.float64) for values in (one, other))
    return float((ours - theirs).norm() / theirs.norm())
