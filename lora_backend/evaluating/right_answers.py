"""Whether an answer is right: exactly what is expected, or containing it; counted by group."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from lora_backend.runs.record.evaluation_documents import ColumnAnswer, EvaluatedAnswer, Score
from lora_backend.training.answers import is_correct

AROUND = " .,;:!?…\"'`´“”‘’«»()[]{}*。、・《》「」『』【】"
"""What may stand around an answer; no sign of a number is among it."""


def normalised(text: str) -> str:
    """A text as it is compared: Unicode's NFKC, without case, one space for any run of spaces, and without punctuation
    or spaces around it. Words inside stay as they are: what is an article in one language is a name in another."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(AROUND) or folded


def is_exact(answer: str, expect: Sequence[str]) -> bool | None:
    """Whether `answer` is one of `expect`, both normalised; None where nothing is expected."""
    return normalised(answer) in {normalised(text) for text in expect} if expect else None


def judged(answer: str, expect: Sequence[str]) -> ColumnAnswer:
    """An answer with what is to be said of it. `contained` is as a training counts it."""
    return ColumnAnswer(text=answer, contained=is_correct(answer, expect), exact=is_exact(answer, expect))


def score(answers: Sequence[EvaluatedAnswer], label: str, group: str = "") -> Score:
    """How many of a column's answers are right, of those where something is expected."""
    found = [answer.answers[label] for answer in answers if answer.expect]
    return Score(
        group=group,
        num_questions=len(found),
        contained=sum(bool(one.contained) for one in found),
        exact=sum(bool(one.exact) for one in found),
    )


def scores_by_group(answers: Sequence[EvaluatedAnswer], label: str) -> list[Score]:
    """The same of each group, in the order in which they are first asked; none where no question has a group."""
    groups = dict.fromkeys(answer.group for answer in answers if answer.expect)
    if not any(groups):
        return []
    return [score([one for one in answers if one.group == group], label, group) for group in groups]
