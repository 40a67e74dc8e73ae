"""What is left of a row that is longer than `max_length`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_backend.config.options import Truncation

Range = tuple[int, int]
"""From the first token to behind the last."""


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What a cut has to know of a row: places of its tokens, before the cut."""

    num_tokens: int
    has_bos: bool
    lead: int
    """Tokens of the beginning that a cut of the prompt leaves where there is room: the system's turn, with what stands before it."""
    turns: Sequence[int]
    """Where a turn of the user begins."""
    answers: Sequence[Range]
    """What is trained."""


def kept(row: RowTokens, max_length: int, truncation: Truncation) -> list[Range]:
    """The tokens that stay, in one or two ranges.

    `drop`: none. `cut_answer`: the first ones. `cut_prompt`: what stands behind the last answer goes first; then as much
    from behind the system's turn (the first token, where that turn takes more than half) as has to, from there to the
    beginning of a turn of the user where the last answer still has one before it. An answer that is longer than
    `max_length` by itself keeps its beginning, and nothing before it but the first token.
    """
    if row.num_tokens <= max_length:
        return [(0, row.num_tokens)]
    if truncation == "drop":
        return []
    if truncation == "cut_answer" or not row.answers:
        return [(0, max_length)]
    begin, end = row.answers[-1]
    if end <= max_length:
        return [(0, max_length)]
    first = int(row.has_bos)
    lead = row.lead if row.lead <= max_length // 2 and row.lead + end - begin < max_length else first
    lead = min(lead, begin)
    if lead + end - begin >= max_length:
        lead = min(first, begin)
        return [(0, lead), (begin, begin + max_length - lead)] if lead else [(begin, begin + max_length)]
    cut = end - (max_length - lead)
    cut = min((turn for turn in row.turns if cut <= turn < begin), default=cut)
    return [(0, lead), (cut, end)] if lead else [(cut, end)]


def whole_answers(answers: Sequence[Range], ranges: Sequence[Range]) -> list[Range]:
    """Those that still have their beginning: one without it would be learned as the answer to another question."""
    return [one for one in answers if any(begin <= one[0] < end for begin, end in ranges)]
