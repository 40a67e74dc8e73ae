"""The rank that each layer should have, and the one that its tensors have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.verification.shapes import LoraLayer

Rank = int | tuple[int, int] | None
"""r; (r of A, r of B) where they disagree; None where the tensors cannot be read as LoRA."""


@dataclass(frozen=True)
class RankRule:
    """`r` and `rank_pattern`, resolved for a layer as PEFT does."""

    r: int
    rank_pattern: Mapping[str, int]

    def for_layer(self, name: str) -> int:
        """First pattern that matches, in order, else `r`.

        PEFT: `get_pattern_key` in peft/utils/other.py, `re.match(rf"(.*\\.)?({key})$", name)`.
        """
        for pattern, rank in self.rank_pattern.items():
            if re.match(rf"(.*\.)?({pattern})$", name):
                return rank
        return self.r


def rank_rule(config: Mapping[str, Any]) -> RankRule:
    """The rule in our config, or in the dict of an `adapter_config.json`; both use PEFT's names."""
    return RankRule(int(config.get("r") or 0), config.get("rank_pattern") or {})


def rank_of(layer: LoraLayer) -> Rank:
    """Rank by the shapes of a LoRA on a Linear layer: A is (r, in), B is (out, r)."""
    if layer.shape_a is None or layer.shape_b is None or len(layer.shape_a) < 2 or len(layer.shape_b) < 2:
        return None
    rank_a, rank_b = layer.shape_a[0], layer.shape_b[1]
    return rank_a if rank_a == rank_b else (rank_a, rank_b)
