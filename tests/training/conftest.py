"""How the runs of this folder are planned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.untraced import planned_by_formula

TRACED = (
    "test_expected.py", "test_key_walk.py", "test_peer_starts.py", "test_planned_devices.py", "test_trained_memory.py",
    "test_worst_case.py",
)  # fmt: skip
"""Modules that look at plans, or hold them against what was measured."""


@pytest.fixture(scope="module", autouse=True)
def _planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if request.path.name in TRACED:
        yield
        return
    with planned_by_formula(tmp_path_factory.getbasetemp() / "by_formula"):
        yield
