"""The verdict over all layers: the result that `check_lora_r_consistency` promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.verification.ranks import RankRule, rank_of, rank_rule
from lora_backend.verification.shapes import LoraLayer, lora_layers_of_folder, read_adapter_config

NO_LORA_FOUND = N_("⚠️  Warning: no LoRA parameter was found. Is the model really loaded with its adapter?")
"""Users of the original tool know this line by its words."""


def check_layers(layers: Sequence[LoraLayer], expected: RankRule, configured: RankRule | None) -> dict[str, Any]:
    """Hold every layer against the rank that `expected` asks of it.

    `configured` is what the adapter's own PEFT config says (method 1); the tensors' shapes (method 2) and A against
    B (method 3) stand beside it in each record of `layers`.
    """
    if not layers:
        return _report("no_lora_layers", False, expected.r)
    records = [_record(layer, expected, configured) for layer in layers]
    mismatched = [record["name"] for record in records if record["state"] != "ok"]
    warnings = ["stale_layer_r"] if any(_is_stale(layer) for layer in layers) else []
    return {
        **_report("mismatch" if mismatched else "ok", not mismatched, expected.r),
        "actual_r_values": {layer.name: rank_of(layer) for layer in layers},
        "mismatched_layers": mismatched,
        "warnings": warnings,
        "layers": records,
    }


def check_adapter_folder(folder: Path, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check an adapter on disk, from its headers alone. `config` None: against its own `adapter_config.json`.

    Raises `ModelError` for a path that does not exist and for bytes that cannot be read; what is found in a folder
    is a result.
    """
    if not folder.is_dir():
        raise ModelError(N_("There is no adapter folder {path}. Check the path."), path=str(folder))
    own = read_adapter_config(folder)
    expected_r = rank_rule(config).r if config else None
    if own is None:
        found = sorted(str(path.parent.relative_to(folder)) for path in folder.glob("*/adapter_config.json"))
        return _report("no_adapter_here", False, expected_r) | {"subfolders": found}
    if "peft_type" not in own:
        return _report("not_peft", None, expected_r)
    if own["peft_type"] != "LORA":
        return _report("not_lora", None, expected_r)
    return check_layers(lora_layers_of_folder(folder), rank_rule(config or own), rank_rule(own))


def verdict(report: Mapping[str, Any]) -> Message:
    """The report in one sentence."""
    count, wrong = len(report["layers"]), len(report["mismatched_layers"])
    values = {
        "count": count,
        "wrong": wrong,
        "r": report["expected_r"],
        "first": ", ".join(report["mismatched_layers"][:3]),
    }
    sentences = {
        "ok": N_("All {count} LoRA layers carry the rank that is expected of them."),
        "mismatch": N_("{wrong} of {count} LoRA layers do not carry the rank that is expected of them, first {first}."),
        "no_lora_layers": NO_LORA_FOUND,
        "no_adapter_here": N_("There is no adapter in this folder: it has no adapter_config.json."),
        "not_peft": N_("The adapter_config.json in this folder is not PEFT's, so the question does not apply."),
        "not_lora": N_("The adapter is not a LoRA, so the question does not apply."),
    }
    return Message(sentences[report["status"]], values)


def as_table(report: Mapping[str, Any]) -> str:
    """The layers of a report as lines for a log."""
    lines = [f"{'layer':60} expected config     A     B state"]
    for record in report["layers"]:
        cells = [record[key] if record[key] is not None else "–" for key in ("expected_r", "config_r", "a_r", "b_r")]
        lines.append(f"{record['name']:60} {cells[0]:>8} {cells[1]:>6} {cells[2]:>5} {cells[3]:>5} {record['state']}")
    return "\n".join(lines)


def _report(status: str, is_consistent: bool | None, expected_r: int | None) -> dict[str, Any]:
    return {
        "is_consistent": is_consistent,
        "status": status,
        "expected_r": expected_r,
        "actual_r_values": {},
        "mismatched_layers": [],
        "warnings": [],
        "layers": [],
    }


def _record(layer: LoraLayer, expected: RankRule, configured: RankRule | None) -> dict[str, Any]:
    rank, expected_r = rank_of(layer), expected.for_layer(layer.name)
    if rank is None:
        state = "unreadable"
    elif isinstance(rank, tuple):
        state = "a_against_b"
    else:
        state = "ok" if rank == expected_r else "mismatch"
    return {
        "name": layer.name,
        "block": layer.block,
        "module": layer.module,
        "expected_r": expected_r,
        "config_r": configured.for_layer(layer.name) if configured else None,
        "layer_r": layer.layer_r,
        "a_r": layer.shape_a[0] if layer.shape_a else None,
        "b_r": layer.shape_b[1] if layer.shape_b and len(layer.shape_b) > 1 else None,
        "shape_a": list(layer.shape_a) if layer.shape_a else None,
        "shape_b": list(layer.shape_b) if layer.shape_b else None,
        "state": state,
    }


def _is_stale(layer: LoraLayer) -> bool:
    rank = rank_of(layer)
    return layer.layer_r is not None and isinstance(rank, int) and layer.layer_r != rank
