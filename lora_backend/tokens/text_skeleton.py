"""What a template writes between the texts of a chat, so that the next chat of this shape need not be traced."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lora_backend.tokens.chat_messages import Part
from lora_backend.tokens.template_trace import Stretch, Trace

KEPT_SHAPES, KEPT_OF_ONE = 512, 4
Places = tuple[list[Stretch], list[Stretch], frozenset[int]]
"""Answers, turns, lost answers."""
_Spot = tuple[int, int]
"""A place: so many characters behind the beginning of a literal by its number."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Literals, and the parts by their numbers that stand between them."""

    literals: tuple[str, ...]
    parts: tuple[int, ...]
    answers: tuple[tuple[_Spot, _Spot, int], ...]
    turns: tuple[tuple[_Spot, _Spot, int], ...]
    lost: frozenset[int]

    @classmethod
    def of(cls, trace: Trace, parts: Sequence[Part], answers: Sequence[Stretch], lost: frozenset[int]) -> Skeleton:
        """Of a text whose parts are known."""
        literals, numbers, starts, end = [], [], [0], 0
        for one in sorted(trace.parts, key=lambda one: one.begin):
            if one.begin < end or trace.text[one.begin : one.end] != parts[one.of].text:
                continue
            if any(stretch.begin < one.end and one.begin < spot < one.end for stretch in answers for spot in (stretch.begin, stretch.end)):  # fmt: skip
                continue
            literals.append(trace.text[end : one.begin])
            numbers.append(one.of)
            end = one.end
            starts.append(end)
        literals.append(trace.text[end:])

        def spot(place: int) -> _Spot:
            number = max(number for number, start in enumerate(starts) if start <= place)
            return number, place - starts[number]

        def spots(stretches: Sequence[Stretch]) -> tuple[tuple[_Spot, _Spot, int], ...]:
            return tuple((spot(one.begin), spot(one.end), one.of) for one in stretches)

        return cls(tuple(literals), tuple(numbers), spots(answers), spots(trace.turns), lost)

    def writes(self, text: str, parts: Sequence[Part]) -> bool:
        """Whether `text` is these literals with `parts` between them."""
        end = 0
        for literal, number in zip(self.literals, self.parts, strict=False):
            if number >= len(parts) or not text.startswith(literal, end):
                return False
            end += len(literal)
            part = parts[number].text
            if not text.startswith(part, end):
                return False
            end += len(part)
        return len(text) - end == len(self.literals[-1]) and text.endswith(self.literals[-1])

    def places(self, parts: Sequence[Part]) -> Places:
        """Where answers and turns stand in a text that this skeleton writes."""
        starts = [0]
        for literal, number in zip(self.literals, self.parts, strict=False):
            starts.append(starts[-1] + len(literal) + len(parts[number].text))

        def stretches(spots: Sequence[tuple[_Spot, _Spot, int]]) -> list[Stretch]:
            return [Stretch(starts[a] + b, starts[c] + d, of) for (a, b), (c, d), of in spots]

        return stretches(self.answers), stretches(self.turns), self.lost


class Skeletons:
    """Those of one template, the newest of each shape first."""

    def __init__(self) -> None:
        self._by_shape: dict[Hashable, list[Skeleton]] = {}

    def find(self, shape: Hashable, text: str, parts: Sequence[Part]) -> Places | None:
        for skeleton in self._by_shape.get(shape, ()):
            if skeleton.writes(text, parts):
                return skeleton.places(parts)
        return None

    def keep(self, shape: Hashable, skeleton: Skeleton) -> None:
        if len(self._by_shape) >= KEPT_SHAPES:
            self._by_shape.clear()
        known = self._by_shape.setdefault(shape, [])
        known.insert(0, skeleton)
        del known[KEPT_OF_ONE:]
