"""The one question before a start: a plan that is tight. Asked on a terminal, answered by `--yes` or `--anyway`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from lora_backend.i18n import N_, Message, translate
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.placement import PlanDoubtError, TightError
from lora_backend.terminal import ask, can_ask, show
from lora_backend.views.plan_view import advice_text

Started = TypeVar("Started")
YES = frozenset({"y", "yes", "是", "好"})
"""In either language."""


class DeclinedError(TightError):
    """Somebody was asked, and said no."""


def asked_once(arguments: argparse.Namespace, start: Callable[[Verdict], Started]) -> Started:
    """What `start` gives for the worst verdict that is accepted; a tight plan is asked about once, on a terminal.

    Raises `TightError` where the answer is no, or nobody can be asked; `start` has made nothing then.
    """
    try:
        return start(accepted(arguments))
    except TightError as error:
        if not can_ask():
            raise
        if not _says_yes(error):
            refused = error
            raise DeclinedError(Message(N_("Not started.")), lambda: refused.advice) from error
    return start("tight")


def accepted(arguments: argparse.Namespace) -> Verdict:
    """The worst verdict that the options accept."""
    return "over" if arguments.anyway else "tight" if arguments.yes else "fits"


def refusal_lines(error: PlanDoubtError) -> list[str]:
    """What would help, one line each, and the option that starts it all the same."""
    if isinstance(error, DeclinedError):
        return [f"- {advice_text(advice)}" for advice in error.advice]
    option = N_("Start it anyway with `--anyway`.") if error.verdict == "over" else N_("Start it anyway with `--yes`.")
    return [*(f"- {advice_text(advice)}" for advice in error.advice), translate(option)]


def _says_yes(error: TightError) -> bool:
    show(error, to_stderr=True)
    return ask(translate(N_("Start anyway? [y/N]"))).strip().lower() in YES
