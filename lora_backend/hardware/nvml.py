"""What a driver may leave unanswered: an older one lacks the call, another hides the answer from this user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pynvml


def ask(call: Callable[..., Any], *arguments: Any) -> Any | None:
    """The answer of an NVML call that an inventory can do without; None where there is none."""
    try:
        return call(*arguments)
    except pynvml.NVMLError:
        return None
