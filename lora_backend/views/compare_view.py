"""Two to eight runs side by side: what their configs differ in, what came of each, and what their adapters answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lora_backend.formats import duration, number, size
from lora_backend.i18n import N_, Message
from lora_backend.runs.history.outcome import Outcome
from lora_backend.runs.record.documents import Answer
from lora_backend.verification.verdicts import TONES
from lora_backend.views.run_view import step_of
from lora_backend.views.state_view import state_message
from lora_backend.views.table import Cell, cell_text

FEWEST_COMPARED, MOST_COMPARED = 2, 8
HOW_MANY = N_("Two to eight runs can be compared.")
BEST_MARK = "★"


@dataclass(frozen=True)
class Result:
    """One figure of each run."""

    head: Message
    cells: tuple[Cell, ...]
    best: frozenset[int] = frozenset()
    """Places of the runs that are best in it."""

    def texts(self, language: str | None = None) -> list[str]:
        """The cells as they are read, the best with a mark."""
        texts = [cell.text(language) if isinstance(cell, Message) else cell_text(cell) for cell in self.cells]
        return [f"{text} {BEST_MARK}" if place in self.best else text for place, text in enumerate(texts)]


def can_compare(ids: Sequence[str]) -> bool:
    """Whether so many runs fit side by side."""
    return FEWEST_COMPARED <= len(ids) <= MOST_COMPARED


def results(outcomes: Sequence[Outcome]) -> list[Result]:
    """What came of each run, a row a figure."""
    return [
        Result(Message(head), tuple(show(outcome) for outcome in outcomes), best_of(list(map(best, outcomes))))
        for head, show, best in FIGURES
    ]


def best_of(figures: Sequence[float | None]) -> frozenset[int]:
    """Places of the least figures; none where there is nothing to choose between. Figures that read alike are alike."""
    known = [figure for figure in figures if figure is not None]
    if len({number(figure) for figure in known}) < 2:
        return frozenset()
    return frozenset(place for place, figure in enumerate(figures) if number(figure) == number(min(known)))


def _none(_: Outcome) -> None:
    return None


def _answers(outcome: Outcome) -> str:
    return f"{outcome.right_answers} / {outcome.num_answers}" if outcome.num_answers else "–"


def _wrong_share(outcome: Outcome) -> float | None:
    return -(outcome.right_answers or 0) / outcome.num_answers if outcome.num_answers else None


FIGURES: tuple[tuple[str, Callable[[Outcome], Cell], Callable[[Outcome], float | None]], ...] = (
    (N_("State"), lambda one: state_message(one.state, one.health), _none),
    (N_("Step"), lambda one: step_of(one.step, one.total_steps), _none),
    (N_("Last loss"), lambda one: number(one.last_loss), lambda one: one.last_loss),
    (N_("Lowest evaluation loss"), lambda one: number(one.lowest_eval_loss), lambda one: one.lowest_eval_loss),
    (N_("Time"), lambda one: duration(one.took_s), _none),
    (N_("Ranks"), lambda one: Message(TONES[one.ranks]), _none),
    (N_("Measured tensors, all devices"), lambda one: size(one.measured_bytes), _none),
    (N_("Right answers"), _answers, _wrong_share),
)
"""Head, cell, and a figure of which less is better in any case; a short run is not better for its time, nor a small one
for its memory."""


def answers_beside(asked: Sequence[Sequence[Answer]]) -> list[tuple[str, ...]]:
    """Each question, and what every run's adapter answered; ✓ and ✗ where the config says what is expected."""
    by_question = [{row.question: row for row in rows} for rows in asked]
    questions = dict.fromkeys(question for rows in by_question for question in rows)
    return [(question, *(_answer(rows.get(question)) for rows in by_question)) for question in questions]


def _answer(row: Answer | None) -> str:
    if row is None:
        return "–"
    mark = {True: "✓ ", False: "✗ ", None: ""}[row.adapter_correct]  # None where nothing is expected
    return f"{mark}{row.adapter_answer or '–'}"
