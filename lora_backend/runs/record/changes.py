"""What changed settings do to a run that is resumed: which are safe, which restart the schedule, which are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.config.diff import same_value
from lora_backend.config.key_traits import ON_RESUME
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.i18n import N_, Message

ONE_OPTIMIZER = ("adamw_torch", "adamw_torch_fused")
"""Words of `optim` for the same sums on the same states, in several kernels or in one."""
Classified = dict[str, dict[str, Message]]
"""`safe`, `restarts_schedule` and `refused`, each key → why."""


def classify(old: Mapping[str, Any], new: Mapping[str, Any]) -> Classified:
    """Every key whose value differs between two configs, sorted by what that means for a resumed run.

    A key that is left out counts as its default. A key that nobody knows is refused.
    """
    found: Classified = {"safe": {}, "restarts_schedule": {}, "refused": {}}
    for key in dict.fromkeys([*KEYS, *old, *new]):
        if same_value(_value(old, key), _value(new, key)):
            continue
        kind, why = _on_resume(key, old, new)
        found[kind][key] = why
    return found


def _on_resume(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Message]:
    if key not in KEYS:
        return "refused", Message(N_("It is not a key of a training config."))
    rule = ON_RESUME[KEYS[key].on_resume]
    if rule.outcome == "same_rows":
        before, after = rows_per_step(old), rows_per_step(new)
        is_same = before == after
    elif rule.outcome == "same_packing":
        before, after = _value(old, key), _value(new, key)
        is_same = (before == "packed") == (after == "packed")
    elif rule.outcome == "same_states":
        before, after = _value(old, key), _value(new, key)
        is_same = {before, after} <= set(ONE_OPTIMIZER)
    else:
        return rule.outcome, Message(rule.why)
    if is_same:
        return "safe", Message(ON_RESUME["same_sum"].why)
    return "refused", Message(rule.why, {"old": before, "new": after})


def rows_per_step(config: Mapping[str, Any]) -> int:
    """Rows of one optimizer step: `batch_size`, accumulated until `target_batch_size` is reached."""
    batch = int(_value(config, "batch_size"))
    return max(int(_value(config, "target_batch_size") or batch) // batch, 1) * batch


def _value(config: Mapping[str, Any], key: str) -> Any:
    if key in config:
        return config[key]
    return KEYS[key].default if key in KEYS and KEYS[key].default is not REQUIRED else None
