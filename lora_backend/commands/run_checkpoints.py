"""The checkpoints of a run as `runs show` says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_backend.commands.words import say
from lora_backend.formats import number, size, when
from lora_backend.i18n import N_, Plural
from lora_backend.runs.checkpoints.manifest import Damaged
from lora_backend.runs.history.checkpoint_list import Best, Checkpoint
from lora_backend.runs.record.attempts import DamagedCheckpoint
from lora_backend.terminal import aligned
from lora_backend.views.compare_view import BEST_MARK
from lora_backend.views.run_view import best_message
from lora_backend.views.state_view import damaged_messages

MOST_CHECKPOINTS = 10
"""Of which `runs show` has a line; `--json` has all."""


def checkpoint_lines(checkpoints: dict[str, Any]) -> list[str]:
    """The newest whole one, those that are damaged, and a table."""
    name = checkpoints["newest_whole"]
    whole = say(
        Plural(
            "{count} checkpoint; the newest whole one is {name}.",
            "{count} checkpoints; the newest whole one is {name}.",
        ),
        count=len(checkpoints["all"]),
        name=name,
    )
    return [
        *([whole] if name else []),
        *map(str, damaged_messages(list(map(DamagedCheckpoint.model_validate, checkpoints["damaged"])))),
        *_checkpoint_table(checkpoints),
    ]


def checkpoint_documents(saved: Sequence[Checkpoint], damaged: Sequence[Damaged]) -> list[dict[str, Any]]:
    """All of them; the newest were read byte for byte, of the others names and sizes are known."""
    known = {item.path.name: list(item.problems) for item in damaged}
    return [one.to_json() | ({"problems": known[one.name]} if one.name in known else {}) for one in saved]


def best_document(best: Best) -> dict[str, Any]:
    """The best of them by its figure."""
    return {"name": best.checkpoint.name, "figure": best.by.column, "message": best_message(best).text()}


def _checkpoint_table(checkpoints: dict[str, Any]) -> list[str]:
    """The newest of them, a line each; the best has a mark, and what that means stands below."""
    best = checkpoints["best"]
    figures = ["loss", "eval_loss"]
    if best and best["figure"] not in figures:
        figures.append(best["figure"])
    shown = checkpoints["list"][-MOST_CHECKPOINTS:]
    rows = [
        (
            f"  {one['name']}", when(one["saved_at"]), size(one["size_bytes"]), *(f"{name} {number(one[name])}" for name in figures),
            say(N_("damaged")) if one["problems"] else say(N_("complete")), BEST_MARK if best and one["name"] == best["name"] else "",
        )
        for one in reversed(shown)
    ]  # fmt: skip
    lines = aligned(rows).splitlines() if rows else []
    if best and any(one["name"] == best["name"] for one in shown):
        lines.append(f"  {best['message']}")
    return lines
