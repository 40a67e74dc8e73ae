"""The fixes that findings offer, each with the words that say what happens to every key and entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.config.findings import Fix, shorten
from lora_backend.config.patch import DELETE, Patch
from lora_backend.config.schema import KEYS, REQUIRED
from lora_backend.i18n import N_, Message, in_code


def change(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Fix:
    """Set keys of a config that says `values`, or take them out (`DELETE`)."""
    patch = Patch({key: value for key, value in changes.items() if value is not DELETE or key in values})
    wanted, removed = patch.sets, patch.deletes
    if not wanted and len(removed) == 1:
        return remove(removed[0])
    said: dict[str, Any] = {"sets": lines_of(wanted), "removed": in_code(removed)}
    if not wanted:
        template = N_("Remove {removed}")
    elif removed:
        template = N_("Set {sets}; remove {removed}")
    elif len(wanted) == 1 and patch.keys() <= values.keys():
        (key,) = wanted
        template, said = N_("Set {sets} (now {now})"), {**said, "now": shorten(values[key], 40)}
    else:
        template = N_("Set {sets}")
    return Fix(patch, Message(template, said))


def remove(key: str) -> Fix:
    """Take a key out; its default, where it has one, is what counts then."""
    default = KEYS[key].default if key in KEYS else None
    if default is None or default is REQUIRED:
        return Fix(Patch({key: DELETE}), Message(N_("Remove `{key}`"), {"key": key}))
    said = {"key": key, "default": shorten(default, 40)}
    return Fix(Patch({key: DELETE}), Message(N_("Remove `{key}` (default: {default})"), said))


def every_block() -> Fix:
    """Take the list of blocks out."""
    return Fix(Patch({"target_layers": DELETE}), Message(N_("Remove `target_layers`: every block gets an adapter")))


def shift_by_one(layers: Sequence[int]) -> Fix:
    """For a list of blocks that was counted from 1."""
    shifted = [index - 1 for index in layers]
    said = {"layers": shorten(shifted)}
    return Fix(
        Patch({"target_layers": shifted}), Message(N_("Shift all by one: {layers} (it looks counted from 1)"), said)
    )


def drop(key: str, dropped: Sequence[Any], kept: Sequence[Any] | Mapping[Any, Any]) -> Fix | None:
    """Take entries out of a list or mapping; None where nothing would be left, for that may mean something else."""
    if not kept:
        return None
    left = dict(kept) if isinstance(kept, Mapping) else list(kept)
    said = {"key": key, "dropped": _listed(dropped), "kept": _listed(list(kept))}
    return Fix(Patch({key: left}), Message(N_("Remove {dropped} from `{key}` (keeps {kept})"), said))


def rename(key: str, value: Any, means: Mapping[str, Any]) -> Fix:
    """Put what `key: value` means here in its place."""
    changes = Patch({key: DELETE, **means})
    if len(means) == 1 and next(iter(means.values())) == value:
        return Fix(changes, Message(N_("Rename `{key}` to `{name}`"), {"key": key, "name": next(iter(means))}))
    return Fix(changes, Message(N_("Replace `{key}` with {lines}"), {"key": key, "lines": lines_of(means)}))


def lines_of(values: Mapping[str, Any]) -> Message:
    """`r: 8`, `alpha: 16`, as in a config."""
    return in_code(f"{key}: {shorten(value, 40)}" for key, value in values.items())


def _listed(entries: Sequence[Any]) -> str:
    """Entries as people write them, the first few of many."""
    shown = ", ".join(entry if isinstance(entry, str) else shorten(entry) for entry in entries[:8])
    return shown + (", …" if len(entries) > 8 else "")
