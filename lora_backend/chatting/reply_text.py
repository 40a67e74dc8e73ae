"""The text of an answer while its tokens come one by one: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

UNFINISHED = "\ufffd"
"""What a tokenizer writes for bytes that are no whole character yet."""
MOST_UNFINISHED = 8
"""Tokens; no character has more bytes than that, so what is still none then is broken for good."""


class TokenTexts:
    """The text that each token adds. What is added by all of them together is what the tokenizer makes of all."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, with_marks: bool = False) -> None:
        """`with_marks`: special tokens are written too."""
        self._tokenizer, self._with_marks = tokenizer, with_marks
        self._ids: list[int] = []
        self._begin = 0
        """Of the tokens before the new ones, by which a tokenizer knows whether a word goes on."""
        self._read = 0

    def add(self, token: int) -> str:
        """Its text; empty where a character is not whole yet, and then part of the next token's."""
        self._ids.append(token)
        return self._new(at_end=len(self._ids) - self._read >= MOST_UNFINISHED)

    def rest(self) -> str:
        """What is left at the end, whole or not."""
        return self._new(at_end=True)

    def _new(self, *, at_end: bool) -> str:
        before = self._decoded(self._ids[self._begin : self._read])
        now = self._decoded(self._ids[self._begin :])
        if len(now) <= len(before) or (now.endswith(UNFINISHED) and not at_end):
            return ""
        self._begin, self._read = self._read, len(self._ids)
        return now[len(before) :]

    def _decoded(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(
            list(ids), skip_special_tokens=not self._with_marks, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text


class StopTexts:
    """Lets a text through up to the first of some texts, wherever the borders of its pieces are."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(filter(None, stops))
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """What can be shown of the text so far and was not yet, and whether a stop text is there."""
        held = self._held + text
        places = [place for stop in self._stops if (place := held.find(stop)) >= 0]
        if places:
            self._held = ""
            return held[: min(places)], True
        kept = max((_begun(held, stop) for stop in self._stops), default=0)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept], False

    def rest(self) -> str:
        """What was held out because a stop text might have begun with it, and none did."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` a `stop` begins with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
