"""How the select box of a picker is known and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class PickerField:
    """A widget's key, and what is called when something was picked."""

    key: str
    on_change: Callable[..., object]
    args: tuple[Any, ...] = ()
    disabled: bool = False
    label_visibility: Literal["visible", "hidden", "collapsed"] = "visible"
