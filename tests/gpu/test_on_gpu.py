"""What `benchmarks.gpu` proves, as tests: `pytest -m gpu tests/gpu`. They need an NVIDIA GPU, and are skipped without one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.gpu import card_here
from benchmarks.on_gpu.parts import PROOFS, Part, act_safely
from benchmarks.on_gpu.sizes import ON_CARD

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU here that torch sees"),
]


@pytest.mark.parametrize("part", PROOFS, ids=[part.name for part in PROOFS])
def test_a_proof_holds_on_this_card(part: Part) -> None:
    outcome = act_safely(part, card_here(), ON_CARD, {})
    if outcome.verdict == "left out":
        pytest.skip(outcome.words)
    assert outcome.verdict == "holds", outcome.words
