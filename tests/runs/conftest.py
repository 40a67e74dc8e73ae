"""Fixtures that more than one test of runs needs."""

from tests.runs.stand_in import make  # noqa: F401
