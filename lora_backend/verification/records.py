"""The record of one layer: what is asked of it, what its tensors have, and what is odd about them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lora_backend.verification.coverage import Targets
from lora_backend.verification.rank_documents import LayerRecord
from lora_backend.verification.ranks import (
    Rank,
    RankRule,
    has_empty_tensor,
    has_flat_tensor,
    is_transposed,
    is_undecided,
    rank_of,
)
from lora_backend.verification.shapes import LoraLayer


def actual_rank(layer: LoraLayer, expected: RankRule) -> Rank:
    """The rank that the tensors have; None where they stand the other way round, or cannot be read as LoRA."""
    return None if is_transposed(layer, expected.for_layer(layer.pattern_name)) else rank_of(layer)


def layer_record(
    layer: LoraLayer, rank: Rank, expected: RankRule, configured: RankRule | None, *, is_targeted: bool = True
) -> LayerRecord:
    """One layer of a report, held against `expected`; `configured` is the rule of the adapter's own config.

    Of a layer that is not targeted nothing is expected.
    """
    name = layer.pattern_name
    expected_r = _expected_r(layer, expected, configured) if is_targeted else None
    rank_a, rank_b = rank if isinstance(rank, tuple) else (rank, rank)
    expected_scaling = expected.scaling_for(name)
    scaling = layer.scaling
    if configured is not None and not _is_live(layer):
        scaling = expected_scaling if configured is expected else configured.scaling_for(name)
    return LayerRecord(
        name=layer.name,
        block=layer.block,
        module=layer.module,
        expected_r=expected_r,
        config_r=configured.for_layer(name) if configured else None,
        layer_r=layer.layer_r,
        a_r=rank_a,
        b_r=rank_b,
        shape_a=list(layer.shape_a) if layer.shape_a else None,
        shape_b=list(layer.shape_b) if layer.shape_b else None,
        alpha=configured.alpha_for(name) if configured else None,
        expected_alpha=expected.alpha_for(name) if is_targeted else None,
        scaling=scaling,
        expected_scaling=expected_scaling if is_targeted else None,
        state=_state(layer, rank, expected_r, configured or expected, is_targeted),
    )


def _state(layer: LoraLayer, rank: Rank, expected_r: int | None, own: RankRule, is_targeted: bool) -> str:
    rank_a = rank[0] if isinstance(rank, tuple) else rank
    if rank is None:
        return "unreadable"
    if not is_targeted and (is_undecided(layer) or not isinstance(rank, tuple)):
        return "not_targeted"
    if is_targeted and (expected_r is None or (is_undecided(layer) and (layer.kind != "conv" or rank_a == expected_r))):
        return "undetermined"
    if isinstance(rank, tuple):
        return "a_against_b"
    return _magnitude_state(layer, own) or ("ok" if rank == expected_r else "mismatch")


def _magnitude_state(layer: LoraLayer, own: RankRule) -> str | None:
    """What is wrong with DoRA's magnitudes, by the adapter's own config; None where nothing is.

    Where the file has none PEFT makes them anew, and where its config does not ask for them PEFT drops them: either way
    the layer adds something else than it was trained to.
    """
    if not own.use_dora:
        return None if layer.magnitude is None else "unexpected_magnitude"
    if layer.magnitude is None:
        return "no_magnitude"
    has_one_for_each = layer.shape_b is None or math.prod(layer.magnitude) == layer.shape_b[0]
    return None if has_one_for_each else "wrong_magnitude"


def _is_live(layer: LoraLayer) -> bool:
    """Whether it was read from a loaded model, where a layer has its own scaling; loaded from disk it gets its config's."""
    return layer.a_trains is not None or layer.b_trains is not None


def _expected_r(layer: LoraLayer, expected: RankRule, configured: RankRule | None) -> int | None:
    """What is asked of the layer; where PEFT fuses experts' matrices into one parameter, as many times that.

    PEFT: `_convert_peft_config_moe` in peft/utils/transformers_weight_conversion.py writes
    `rank_pattern[".*\\.gate_up_proj"] = r * 2` into its own config, so that each half keeps its rank.
    """
    asked = expected.for_layer(layer.pattern_name)
    if layer.kind != "experts" or configured is None or asked is None or configured.r != expected.r:
        return asked
    pattern = configured.rank_pattern_for(layer.pattern_name)
    is_fused = pattern is not None and pattern.startswith(r".*\.") and pattern not in expected.rank_pattern
    return configured.rank_pattern[pattern] if pattern and is_fused else asked


def missing_record(name: str, expected: RankRule, configured: RankRule | None) -> LayerRecord:
    """A module that the config targets and that carries no LoRA."""
    record = layer_record(LoraLayer(name, None, None), None, expected, configured)
    return record.but(state="missing", scaling=None)


def layer_warnings(layers: Sequence[LoraLayer], ranks: Sequence[Rank], expected: RankRule) -> list[str]:
    """Codes for what is odd about tensors although, or because of which, a rank is what it is."""
    of_live_layers = {
        "stale_layer_r": lambda layer: layer.layer_r is not None and _disagrees(layer, expected),
        "zero_padded": lambda layer: bool(layer.zero_rows_a and layer.shape_a and layer.zero_rows_a < layer.shape_a[0]),
        "A_frozen": lambda layer: layer.b_trains and layer.a_trains is False,
        "merged": lambda layer: layer.is_merged,
        "meta": lambda layer: layer.is_meta,
        "partitioned": lambda layer: layer.is_partitioned,
    }
    of_shapes = {
        "empty_tensor": has_empty_tensor,
        "flat_tensor": has_flat_tensor,
        "legacy_merged_linear": lambda layer: layer.kind == "merged",
    }
    unreadable = [layer for layer, rank in zip(layers, ranks, strict=True) if rank is None]
    is_live = any(map(_is_live, layers))
    tests = of_live_layers | of_shapes if is_live else of_shapes
    found = [code for code, test in tests.items() if any(map(test, layers))]
    if any(is_transposed(layer, expected.for_layer(layer.pattern_name)) for layer in unreadable):
        found.append("transposed")
    if is_live and all(layer.adds_nothing for layer in layers):
        found.append("untrained")
    return found


def _disagrees(layer: LoraLayer, expected: RankRule) -> bool:
    """Whether the live layer's own r is none of the ranks that its tensors have."""
    if has_empty_tensor(layer) or has_flat_tensor(layer):
        return False
    rank = actual_rank(layer, expected)
    if rank is None:
        return False
    return layer.layer_r not in (rank if isinstance(rank, tuple) else (rank,))


def is_unexpected(layer: LoraLayer, targets: Targets) -> bool:
    """A LoRA on a module that the config does not target; what stands in expert parameters is targeted otherwise."""
    if targets.modules is None or layer.kind == "experts":
        return False
    return not targets.matches(layer.name) and not targets.matches(layer.pattern_name)
