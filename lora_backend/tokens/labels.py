"""Rows into tokens, with a label on what is learned of each: the answers and the marks that end them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lora_backend.config.options import TrainOn, Truncation
from lora_backend.data.examples import Chat, Example, Pair, Text
from lora_backend.i18n import Message
from lora_backend.modeling.loss import IGNORED
from lora_backend.tokens.chat_spans import ChatWriter, WrittenChat
from lora_backend.tokens.chat_template import RowError
from lora_backend.tokens.row_truncation import Range, RowTokens, kept, whole_answers
from lora_backend.tokens.token_places import TokenizedText, tokenize


@dataclass(frozen=True)
class LabelRules:
    """What the config says of labels."""

    max_length: int
    truncation: Truncation = "cut_answer"
    train_on: TrainOn = "all_answers"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A row as it is trained."""

    input_ids: list[int]
    """Empty where `truncation: drop` leaves the row out."""
    labels: list[int]
    num_tokens: int
    """Before the cut."""
    is_cut: bool
    has_lost_end: bool
    """The mark that ends the last answer is cut off."""
    lost_answers: int
    """Answers that the template does not write as the row gives them: thoughts taken out, calls left out."""

    @property
    def is_dropped(self) -> bool:
        """Left out because it is too long."""
        return self.is_cut and not self.input_ids

    @property
    def is_behind_cut(self) -> bool:
        """Nothing is left of it to learn, so it must not be trained."""
        return all(label == IGNORED for label in self.labels)


@dataclass(frozen=True, slots=True)
class RowRefused:
    """A row that cannot be trained with this model."""

    message: Message
    detail: str | None = None
    """The template's own words, where it is the template that refuses."""


@dataclass(frozen=True, slots=True)
class WholeRow:
    """A row with all its tokens, before the cut, for showing it."""

    text: str
    input_ids: list[int]
    offsets: list[Range]
    """The characters of each token in `text`."""
    trained: list[bool]
    special: list[bool]
    """Whether a token is a mark and no text."""
    kept: list[bool]
    """Whether the cut leaves it; where it does not, it is not trained, whatever `trained` says."""


class Labeller:
    """Labels rows for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rules: LabelRules) -> None:
        self._tokenizer, self.rules = tokenizer, rules
        self._writer: ChatWriter | None = None
        self._lead = _lead_of(tokenizer)

    def label(self, examples: Sequence[Example]) -> list[Labelled | RowRefused]:
        """Each example as it is trained, in order. Raises `ModelError` for a chat where the model has no chat template."""
        return [row if isinstance(row, RowRefused) else self._labelled(row) for row in self._rows(examples)]

    def whole(self, example: Example) -> WholeRow | RowRefused:
        """One example with the places of its tokens, before the cut."""
        (row,) = self._rows([example])
        if isinstance(row, RowRefused):
            return row
        trained, stays = [False] * len(row.ids), [False] * len(row.ids)
        for begin, end in row.trained:
            trained[begin:end] = [True] * (end - begin)
        for begin, end in self._kept(row):
            stays[begin:end] = [True] * (end - begin)
        marks = set(self._tokenizer.all_special_ids)
        text, offsets = self._shown(row)
        return WholeRow(text, row.ids, offsets, trained, [token in marks for token in row.ids], stays)

    def _rows(self, examples: Sequence[Example]) -> list[_Row | RowRefused]:
        written = [self._written(one) if isinstance(one, Chat) else plain_text(one) for one in examples]
        texts = [
            one.text if isinstance(one, WrittenChat) else one for one in written if not isinstance(one, RowRefused)
        ]
        tokenized = iter(tokenize(self._tokenizer, texts))
        rows: list[_Row | RowRefused] = []
        for example, one in zip(examples, written, strict=True):
            if isinstance(one, RowRefused):
                rows.append(one)
            elif isinstance(example, Chat):
                assert isinstance(one, WrittenChat)
                rows.append(self._chat(example, one, next(tokenized)))
            else:
                rows.append(self._plain(example, next(tokenized)))
        return rows

    def _written(self, chat: Chat) -> WrittenChat | RowRefused:
        if self._writer is None:
            self._writer = ChatWriter(self._tokenizer)
        try:
            return self._writer.write(chat)
        except RowError as error:
            return RowRefused(error.message, error.detail)

    def _chat(self, chat: Chat, written: WrittenChat, tokens: TokenizedText) -> _Row:
        wanted = [one for one in written.answers if one.of not in chat.untrained]
        lost = written.lost - chat.untrained
        if self.rules.train_on == "last_answer":
            last = max((n for n, message in enumerate(chat.messages) if message.get("role") == "assistant" and n not in chat.untrained), default=-1)  # fmt: skip
            wanted, lost = [one for one in wanted if one.of == last], lost & {last}
        answers = [tokens.tokens_of(one.begin, one.end) for one in wanted]
        row = _Row(tokens.ids, answers, answers, tokens, len(lost), written, chat)
        if self.rules.train_on == "everything":
            row.trained = [(int(self._begins_with_bos(row.ids)), len(row.ids))]
        return row

    def _plain(self, example: Pair | Text, tokens: TokenizedText) -> _Row:
        """Its beginning is the tokenizer's, its end always the model's end mark; none of them stands there twice."""
        text, eos = plain_text(example), self._tokenizer.eos_token_id
        begin = len(example.prompt) if isinstance(example, Pair) else 0
        first, _ = tokens.tokens_of(begin, len(text))
        lead = [] if self._begins_with_bos(tokens.ids) else self._lead
        ends = eos is None or (len(tokens.ids) > first and tokens.ids[-1] == eos)
        ids = [*lead, *tokens.ids, *([] if ends else [eos])]
        first += len(lead)
        if self.rules.train_on == "everything" or first == 0:
            first = max(len(lead), int(self._begins_with_bos(ids)))
        answers = [(first, len(ids))]
        return _Row(ids, answers, answers, tokens, 0, lead=len(lead))

    def _begins_with_bos(self, ids: Sequence[int]) -> bool:
        bos = self._tokenizer.bos_token_id
        return bos is not None and bool(ids) and ids[0] == bos

    def _labelled(self, row: _Row) -> Labelled:
        size = len(row.ids)
        labels = [IGNORED] * size
        if size <= self.rules.max_length:
            for begin, end in row.trained:
                labels[begin:end] = row.ids[begin:end]
            return Labelled(row.ids, labels, size, False, False, row.num_lost)
        ranges = self._kept(row)
        trained = row.trained if self.rules.train_on == "everything" else whole_answers(row.trained, ranges)
        for begin, end in trained:
            labels[begin:end] = row.ids[begin:end]
        last = row.answers[-1][1] - 1 if row.answers else None
        return Labelled(
            [token for begin, end in ranges for token in row.ids[begin:end]],
            [label for begin, end in ranges for label in labels[begin:end]],
            size,
            True,
            last is not None and not any(begin <= last < end for begin, end in ranges),
            row.num_lost,
        )

    def _kept(self, row: _Row) -> list[Range]:
        bos = self._begins_with_bos(row.ids)
        return kept(row.facts(has_bos=bos), self.rules.max_length, self.rules.truncation)

    def _shown(self, row: _Row) -> tuple[str, list[Range]]:
        """The text with the marks that a plain row has none of, and the places of all tokens in it."""
        if row.written is not None:
            return row.written.text, row.tokens.offsets()
        text, offsets = row.tokens.text, row.tokens.offsets()
        before = self._tokenizer.convert_ids_to_tokens(row.ids[: row.lead])
        behind = self._tokenizer.convert_ids_to_tokens(row.ids[row.lead + len(offsets) :])
        shift = sum(map(len, before))
        places = [*_places_of(before, 0), *((begin + shift, end + shift) for begin, end in offsets)]
        return "".join([*before, text, *behind]), [*places, *_places_of(behind, shift + len(text))]


@dataclass(slots=True)
class _Row:
    """A row before the cut."""

    ids: list[int]
    answers: list[Range]
    trained: list[Range]
    tokens: TokenizedText
    num_lost: int
    written: WrittenChat | None = None
    chat: Chat | None = None
    lead: int = 0
    """Tokens before those of the text."""

    def facts(self, *, has_bos: bool) -> RowTokens:
        """What a cut has to know."""
        head, turns = int(has_bos), []
        if self.written is not None and self.chat is not None:
            roles = [message.get("role") for message in self.chat.messages]
            begins = {turn.of: turn.begin for turn in reversed(self.written.turns)}
            behind = [begin for place, begin in begins.items() if roles[place] != "system"]
            if roles[0] == "system" and behind:
                head = max(head, self.tokens.first_at(min(behind)))
            turns = sorted(self.tokens.first_at(begin) for place, begin in begins.items() if roles[place] == "user")
        return RowTokens(len(self.ids), has_bos, head, turns, self.answers)


def _lead_of(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a tokenizer puts before every text."""
    alone = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    at = next((at for at in range(len(whole)) if whole[at : at + len(alone)] == alone), 0)
    return list(whole[:at])


def _places_of(texts: Sequence[str], begin: int) -> list[Range]:
    places = []
    for text in texts:
        places.append((begin, begin + len(text)))
        begin += len(text)
    return places


def plain_text(example: Pair | Text) -> str:
    """All of its text, without marks."""
    return example.text if isinstance(example, Text) else example.prompt + example.completion
