"""What of a traced text the assistant writes: the answers, and the marks that end them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_backend.tokens.chat_messages import Part, called_names
from lora_backend.tokens.chat_template import ChatTemplate, Tools
from lora_backend.tokens.template_trace import TEMPLATE_FAILURES, Stretch, Trace

LAST_WORD = 32
"""Characters behind a call among which the mark stands that asks for its results."""


def is_plausible(trace: Trace, messages: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> bool:
    """Whether no answer stands in another message's turn, and no other message in an answer's."""
    written = {turn.of for turn in trace.turns}
    for stretch in trace.parts:
        of = parts[stretch.of].of
        is_answer = messages[of].get("role") == "assistant"
        for turn in trace.turns:
            is_in = turn.begin < stretch.end and stretch.begin < turn.end
            if is_in and turn.of != of and (is_answer or messages[turn.of].get("role") == "assistant"):
                return False
        if is_answer and of not in written:
            return False
    marked = {parts[stretch.of].of for stretch in trace.parts}
    # Without marks in the texts an answer that is in the text must at least have a turn of its own.
    return all(
        part.of in written or part.of in marked or part.text not in trace.text
        for part in parts
        if messages[part.of].get("role") == "assistant"
    )


class TracedAnswers:
    """The answers of one traced chat."""

    def __init__(
        self,
        template: ChatTemplate,
        messages: list[dict[str, Any]],
        tools: Tools,
        trace: Trace,
        parts: list[Part],
    ) -> None:
        self._template, self._messages, self._tools = template, messages, tools
        self._trace, self._parts = trace, parts

    def answers(self) -> list[Stretch]:
        found = []
        for place, message in enumerate(self._messages):
            if message.get("role") == "assistant" and self._is_there(place):
                found += self._answer(place)
        return found

    def _is_there(self, place: int) -> bool:
        """Whether anything of an answer is written: the mark that ends one is not learned of an answer that is not."""
        turn, wanted = self._written(place)
        return not wanted or any(text in turn for text in wanted)

    def lost(self) -> frozenset[int]:
        """Places of answers of which a text, a thought or a call is not in their turn."""
        lost = set()
        for place, message in enumerate(self._messages):
            if message.get("role") == "assistant":
                turn, wanted = self._written(place)
                if any(text not in turn for text in wanted):
                    lost.add(place)
        return frozenset(lost)

    def _written(self, place: int) -> tuple[str, list[str]]:
        """The text of a turn, and the texts that should be in it."""
        turn = "".join(self._trace.text[one.begin : one.end] for one in self._stretches(place))
        return turn, [part.text for part in self._parts if part.of == place] + called_names(self._messages[place])

    def _stretches(self, place: int) -> list[Stretch]:
        return [
            turn for turn in self._trace.turns if turn.of == place and self._trace.text[turn.begin : turn.end].strip()
        ]

    def _answer(self, place: int) -> list[Stretch]:
        stretches = self._stretches(place)
        found = []
        for number, turn in enumerate(stretches):
            begin = turn.begin if number else self._begin(place, turn)
            end = self._end(place, turn)
            if called_names(self._messages[place]) and end < len(self._trace.text):
                end += self._last_word(place, end)
            if self._template.has_generation_marks(self._tools):
                declared = [one.begin for one in self._trace.generated if one.begin < turn.end and turn.begin < one.end]
                begin = max(begin, min(declared)) if declared else end
            if begin < end:
                found.append(Stretch(begin, end, place))
        return found

    def _begin(self, place: int, turn: Stretch) -> int:
        """Behind what the model is given to begin its answer with."""
        text = self._trace.text
        own = [one.begin for one in self._trace.parts if self._parts[one.of].of == place and one.begin >= turn.begin]
        first = min([*own, turn.end])
        if not own:  # a call, or no marks in the texts: what is found of them limits what can be the template's
            texts = [part.text for part in self._parts if part.of == place] + called_names(self._messages[place])
            at = [text.find(one, turn.begin, turn.end) for one in texts]
            first = min([spot for spot in at if spot >= 0], default=first)
        return turn.begin + self._given_of(text[turn.begin : first], place)

    def _given_of(self, head: str, place: int) -> int:
        """How many characters of what stands before an answer's first text the prompt for it already has."""
        before = self._messages[place - 1] if place else {}
        switches = any("think" in str(message.get("content")) for message in self._messages[:place])
        asked = (head, before.get("role"), bool(before.get("tool_calls")), switches)
        known = self._template.given
        if asked not in known:
            own = self._template.prompts(self._messages[:place], self._tools) if place else None
            known[asked] = max((_given(head, *one) for one in (own, self._template.opening()) if one), default=0)
        return known[asked]

    def _end(self, place: int, turn: Stretch) -> int:
        """Behind the last mark that the template writes; white space behind it belongs to what follows."""
        text = self._trace.text
        end = turn.begin + len(text[turn.begin : turn.end].rstrip())
        for one in self._trace.parts:
            part = self._parts[one.of]
            if part.of == place and turn.begin <= one.begin < turn.end and text.startswith(part.tail, one.end):
                end = max(end, min(one.end + len(part.tail), turn.end))
        return end

    def _last_word(self, place: int, end: int) -> int:
        """Characters behind a call that the model writes to have its results: what a chat that ends there ends with."""
        text, known = self._trace.text, self._template.last_words
        behind = text[end : end + LAST_WORD]
        if behind not in known:
            try:
                alone = self._template.trace(self._messages[: place + 1], self._tools).text
            except TEMPLATE_FAILURES:
                return 0
            rest = alone[end:].rstrip() if alone.startswith(text[:end]) else ""
            known[behind] = len(rest) if rest and behind.startswith(rest) else 0
        return known[behind]


def _given(head: str, prompt: Trace, without: str) -> int:
    """How many characters of `head`, which stands before an answer's first text, the prompt already has.

    A prompt may open a thought that the answer does not have: then what the two have in common.
    """
    asked = _common(prompt.text, without)
    best = 0
    for spot in range(max([part.end for part in prompt.parts], default=0), len(prompt.text)):
        if head and prompt.text[spot] == head[0]:
            length = _common(prompt.text[spot:], head)
            is_all = spot + length == len(prompt.text)
            if spot + length > asked or is_all:
                best = max(best, length if is_all or length == len(head) else _whole_words(head, length))
    return best


def _whole_words(text: str, length: int) -> int:
    """Up to `length` characters of `text` that end no word and no mark in the middle."""
    begun = text.rfind("<", 0, length)
    if begun > text.rfind(">", 0, length):
        return begun
    while 0 < length < len(text) and text[length - 1].isalnum() and text[length].isalnum():
        length -= 1
    return length


def _common(one: str, two: str) -> int:
    """How many characters two texts begin with together."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
