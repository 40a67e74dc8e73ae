"""How far the answers to questions are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lora_backend.formats import duration
from lora_backend.i18n import N_, Message

TELL_EVERY_S = 1.0


class Answered(NamedTuple):
    """How far the answers are."""

    answered: int
    """Questions that base model and adapter have answered."""
    questions: int
    part: float
    """Of the whole work, 0 to 1."""
    left_s: float | None
    """About; None before anything is done."""

    def message(self) -> Message:
        values = {"count": self.answered, "questions": self.questions, "time": duration(self.left_s)}
        if self.left_s is None or self.answered == self.questions:
            return Message(N_("{count} of {questions} questions answered"), values)
        return Message(N_("{count} of {questions} questions answered, about {time} left"), values)


@dataclass
class AnswerProgress:
    """Tells how many questions are answered and how long the others take, no oftener than it helps."""

    questions: int
    answers_each: int
    """By base model and adapter, or by the adapter alone."""
    report: Callable[[Answered], None]
    clock: Callable[[], float]
    counts_whole: bool = False
    """Whether the answers that are given now are their questions' last."""
    whole: int = 0
    given: int = 0
    began: float = field(init=False)
    told: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.told = self.clock()

    def is_due(self) -> bool:
        return self.clock() - self.told >= TELL_EVERY_S

    def tell(self, finished: int, begun: float) -> None:
        """`finished`: answers of this batch that have ended; `begun`: the others, each as far as it is."""
        self.told = self.clock()
        part = (self.given + finished + begun) / (self.questions * self.answers_each)
        left_s = (self.told - self.began) * (1 - part) / part if part else None
        self.report(Answered(self.whole + finished * self.counts_whole, self.questions, part, left_s))

    def add(self, answers: int) -> None:
        self.given += answers
        self.whole += answers * self.counts_whole
        self.tell(0, 0.0)
