"""Which tokens of a text are those of a stretch of its characters.

A token that holds the last characters before a stretch and the first of it is taken apart at the border, as a prompt that
ends there is tokenized when the model is asked; where its halves cannot be written as tokens of their own (a tokenizer
that begins every text with a space), it counts as the stretch's. A special token counts where it begins. A token that
holds the last characters of a stretch counts as the stretch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from lora_backend.tokens.row_truncation import Range

ANCHORS = ("\n", "|")
"""Texts that hardly any tokenizer joins with what begins behind them, the second where the first is joined with a line break."""


class TokenizedText(Protocol):
    """The tokens of one text. Asking for a stretch may take one apart and move those behind it: ask from left to right."""

    ids: list[int]
    text: str

    def tokens_of(self, begin: int, end: int) -> Range:
        """The tokens of characters `begin` to `end`."""
        ...

    def first_at(self, character: int) -> int:
        """The first token that ends behind `character`."""
        ...

    def offsets(self) -> list[Range]:
        """The characters of each token."""
        ...


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[TokenizedText]:
    """Each text's tokens and no others, in one go."""
    if not texts:
        return []
    given = tokenizer(
        list(texts),
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    if tokenizer.is_fast:
        splitter = _Splitter(tokenizer)
        return [_Offsets(text, one, splitter) for text, one in zip(texts, given.encodings, strict=True)]
    return [_Prefixes(text, ids, tokenizer) for text, ids in zip(texts, given["input_ids"], strict=True)]


class _Splitter:
    """Takes a token apart."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._whole = set(tokenizer.added_tokens_decoder)

    def is_whole(self, token: int) -> bool:
        """Whether it is a word of its own that no text is made of."""
        return token in self._whole and token != self._tokenizer.unk_token_id

    def halves(self, before: int | None, token: int, left: str, right: str) -> tuple[list[int], list[int]] | None:
        """Tokens of the two texts that a token holds; None where together they would not read as it does.

        A token that stands for what the tokenizer does not know says nothing of either.
        """
        context = [] if before is None else [before]
        read = self._text([*context, token])
        for one, two in product(self._ways(left), self._ways(right)):
            if one and two and (self._text([*context, *one, *two]) == read or token == self._tokenizer.unk_token_id):
                return one, two
        return None

    def _ways(self, text: str) -> list[list[int]]:
        """Tokens of a text that begins a row, and of one that does not: some tokenizers put a space before the first."""
        ways = [self._ids(text)]
        for anchor in ANCHORS:
            before, both = self._ids(anchor), self._ids(anchor + text)
            if both[: len(before)] == before:
                ways.append(both[len(before) :])
        return ways

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)


class _Offsets:
    """By the places that the tokenizer itself gives."""

    def __init__(self, text: str, encoding: Any, splitter: _Splitter) -> None:
        self.ids: list[int] = encoding.ids
        self.text, self._encoding, self._splitter = text, encoding, splitter
        self._shifts: list[tuple[int, int]] = []
        self._split: dict[int, tuple[int, int, int]] = {}

    def tokens_of(self, begin: int, end: int) -> Range:
        if begin >= end:
            place = self.first_at(begin)
            return place, place
        first, last = self._first(begin), self._last(begin, end)
        by = self._moved(first)
        starts = self._end_of(first - 1) if first else 0
        if starts < begin and first <= last:
            more, skipped = self._taken_apart(first, first + by, starts, begin)
            return first + by + skipped, last + by + more + 1
        return first + by, last + by + 1

    def first_at(self, character: int) -> int:
        first = self._first(character)
        return first + self._moved(first)

    def _moved(self, token: int) -> int:
        return sum(by for at, by in self._shifts if at < token)

    def offsets(self) -> list[Range]:
        found: list[Range] = []
        for number, (begin, end) in enumerate(self._encoding.offsets):
            if number in self._split:
                border, left, right = self._split[number]
                found += [(min(begin, border), border)] * left + [(border, end)] * right
            else:
                found.append((begin, end))
        return found

    def _first(self, begin: int) -> int:
        """The first token that ends behind `begin`; a byte-level tokenizer does not count the space before a word as its."""
        token, character = None, begin
        while token is None and character < len(self.text):
            token = self._encoding.char_to_token(character)
            character += 1
        first = len(self._encoding) if token is None else token
        while first and self._end_of(first - 1) > begin:
            first -= 1
        return first

    def _last(self, begin: int, end: int) -> int:
        token, character = None, end
        while token is None and character > begin:
            character -= 1
            token = self._encoding.char_to_token(character)
        last = self._first(begin) - 1 if token is None else token
        while last + 1 < len(self._encoding) and self._end_of(last + 1) <= end:
            last += 1
        return last

    def _end_of(self, token: int) -> int:
        found = self._encoding.token_to_chars(token)
        return 0 if found is None else found[1]

    def _taken_apart(self, first: int, place: int, starts: int, border: int) -> Range:
        """How many tokens more there are then, and how many of the token's are those before the border."""
        token = self.ids[place]
        if self._splitter.is_whole(token):
            return 0, 1
        left, right = self.text[starts:border], self.text[border : self._end_of(first)]
        halves = self._splitter.halves(self.ids[place - 1] if place else None, token, left, right)
        if halves is None:
            return 0, 0
        self.ids[place : place + 1] = [*halves[0], *halves[1]]
        more = len(halves[0]) + len(halves[1]) - 1
        self._shifts.append((first, more))
        self._split[first] = (border, len(halves[0]), len(halves[1]))
        return more, len(halves[0])


class _Prefixes:
    """By the tokens of what stands before, for a tokenizer that gives no places."""

    def __init__(self, text: str, ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        self.ids = list(ids)
        self.text, self._tokenizer = text, tokenizer

    def tokens_of(self, begin: int, end: int) -> Range:
        first, _ = self._common(begin)
        last, is_whole = self._common(end)
        return first, max(first, last if is_whole else last + 1)

    def first_at(self, character: int) -> int:
        return self._common(character)[0]

    def offsets(self) -> list[Range]:
        """As far as the tokens' own texts tell."""
        found, end = [], 0
        for token in self.ids:
            text = self._tokenizer.decode([token], clean_up_tokenization_spaces=False)
            at = self.text.find(text, end) if text else -1
            begin = end if at < 0 else at
            end = end if at < 0 else at + len(text)
            found.append((begin, end))
        return found

    def _of(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _common(self, character: int) -> tuple[int, bool]:
        """Tokens that the text up to a character has in common with the whole, and whether these are all it has."""
        before = self._of(self.text[:character])
        pairs = enumerate(zip(before, self.ids, strict=False))
        common = next((at for at, (one, two) in pairs if one != two), min(len(before), len(self.ids)))
        return common, common == len(before)
