"""Commands as a script sees them."""

from __future__ import annotations

import json
from typing import Any


def strict(text: str) -> Any:
    """JSON as the standard has it, without NaN and Infinity, which other languages' readers refuse."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)
