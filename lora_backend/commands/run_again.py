"""How to make a run again, in words for a terminal."""

from __future__ import annotations

from lora_backend.commands.words import say
from lora_backend.i18n import N_
from lora_backend.runs.history.reproduce import Reproduction
from lora_backend.terminal import aligned
from lora_backend.views.again_view import HEADS, NO_COMMAND, SAME, again


def again_lines(found: Reproduction) -> list[str]:
    """The command, what was then and what is now, and what may make another adapter."""
    view = again(found)
    lines = [say(NO_COMMAND)] if view.command is None else [say(N_("To reproduce it:")), f"  {view.command}"]
    if view.is_as_recorded:
        lines.append(say(SAME))
    table = [list(map(say, HEADS)), *([cell.text() for cell in row] for row in view.rows)]
    return [*lines, *aligned(table).splitlines(), *map(str, (*view.warnings, *view.notes))]
