"""Waiting for a page as a person does: who sees something twice while it is being redrawn looks again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from playwright.sync_api import Error, Locator, LocatorAssertions, Page, PageAssertions
from playwright.sync_api import expect as _expect

WAITS_MS = 240_000
"""What a page takes at most to show something, on a machine that does other things too; a test's own limit ends it."""
STARTS_MS = 300_000
"""The same where processes that import torch start meanwhile."""
LOOKS_AGAIN_S = 0.05
TWICE = "strict mode violation"
Result = TypeVar("Result")


def wait_at_most(limit_ms: float) -> None:
    """From here on, for each `expect` that names no limit of its own."""
    _expect.set_options(timeout=limit_ms)


wait_at_most(WAITS_MS)


def patiently(act: Callable[[], Result]) -> Result:
    """Do `act` again while what it is about stands there twice: Playwright waits for all else, but not for that."""
    deadline = time.monotonic() + WAITS_MS / 1000
    while True:
        try:
            return act()
        except (Error, AssertionError) as error:
            if TWICE not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(LOOKS_AGAIN_S)


class _Patient:
    """The assertions of Playwright, each of them made patiently."""

    def __init__(self, assertions: LocatorAssertions | PageAssertions) -> None:
        self._assertions = assertions

    def __getattr__(self, name: str) -> Callable[..., None]:
        check = getattr(self._assertions, name)

        def patient(*words: Any, **options: Any) -> None:
            patiently(lambda: check(*words, **options))

        return patient


def expect(actual: Locator | Page) -> Any:
    """Playwright's `expect`, which a page that is being redrawn does not trip up."""
    return _Patient(_expect(actual))
