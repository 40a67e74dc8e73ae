"""Which cases of a long list run in `make test`; `make soak` has them all."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def often(cases: Iterable[Any], always: Container[Any]) -> list[Any]:
    """Every case, those that are not in `always` marked for the soak. A case is a value, or a tuple of them."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if case in always else pytest.mark.soak)
        for case in cases
    ]
