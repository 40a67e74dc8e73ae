"""Ranks for the next run, from what each layer made of the rank that it had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lora_backend.verification.layer_health import LayerHealth


def propose_ranks(health: Iterable[LayerHealth], ranks: Mapping[str, int], total: int | None = None) -> dict[str, int]:
    """Layer → rank, so that ranks follow effective ranks and add up to `total` (default: what they add up to now).

    Every layer keeps at least 1. Shares are rounded by largest remainder (Hamilton), so that the sum is exact; a
    `total` below the number of layers cannot be met and gives 1 each.
    """
    weights = {row.name: row.effective_rank for row in health if row.effective_rank and row.name in ranks}
    if not weights:
        return {}
    budget = max((total if total is not None else sum(ranks[name] for name in weights)) - len(weights), 0)
    whole = sum(weights.values())
    shares = {name: budget * weight / whole for name, weight in weights.items()}
    proposed = {name: 1 + int(share) for name, share in shares.items()}
    left = budget - sum(int(share) for share in shares.values())
    for name in sorted(shares, key=lambda name: shares[name] % 1, reverse=True)[:left]:
        proposed[name] += 1
    return proposed


def as_rank_pattern(proposed: Mapping[str, int]) -> tuple[int, dict[str, int]]:
    """`r` and `rank_pattern` that say the same: the most frequent rank is `r`, the others are named."""
    counts = list(proposed.values())
    r = max(set(counts), key=lambda rank: (counts.count(rank), rank))
    return r, {name: rank for name, rank in proposed.items() if rank != r}
