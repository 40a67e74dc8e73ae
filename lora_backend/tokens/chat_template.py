"""One tokenizer's chat template: its text of a chat, the same with marks, and what it asks for an answer with."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora_backend.data.examples import Chat
from lora_backend.errors import DataError, ModelError, first_line
from lora_backend.i18n import N_
from lora_backend.tokens.chat_messages import Arguments, as_template_takes, has_calls_with_arguments, with_marks
from lora_backend.tokens.template_trace import TEMPLATE_FAILURES, Trace, TracedTemplate

Tools = list[dict[str, Any]] | None
PROBE = Chat(({"role": "user", "content": "Who is there?"}, {"role": "assistant", "content": "Nobody else."}))
"""A chat that every template can write."""


class RowError(DataError):
    """A row that cannot be written with this model's template, or whose answers cannot be told in the text."""

    code = "row"

    def __init__(self, template: str, /, *, detail: str | None = None, **values: Any) -> None:
        super().__init__(template, **values, **({} if detail is None else {"detail": detail}))
        self.detail = detail
        """The template's own words."""


class ChatTemplate:
    """Raises `ModelError` where the tokenizer has none."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                N_(
                    "The data set contains `messages`, but the model's tokenizer has no chat template to write them with. Use the instruct variant of the model, or data with `prompt` and `completion`."
                )
            )
        self._tokenizer = tokenizer
        self._variables = dict(tokenizer.special_tokens_map)
        self._traced: dict[str, TracedTemplate] = {}
        self._arguments: Arguments = "object"
        self.given: dict[Hashable, int] = {}
        """What was found of the words before an answer: how many of them the prompt has."""
        self.last_words: dict[str, int] = {}
        """What was found of the words behind a call: how many of them are the model's."""
        self._opening: tuple[tuple[Trace, str] | None] | None = None
        self._in_parts = self._wants_parts()

    def write(self, given: Sequence[Mapping[str, Any]], tools: Tools) -> tuple[list[dict[str, Any]], str]:
        """The messages as the template took them, and its text. Raises `RowError` where it refuses them."""
        first: Exception | None = None
        ways: list[Arguments] = [self._arguments]
        if has_calls_with_arguments(given):
            ways.append("text" if self._arguments == "object" else "object")
        for way in ways:
            messages = as_template_takes(given, way, in_parts=self._in_parts)
            try:
                text = self.text(messages, tools)
            except TEMPLATE_FAILURES as error:
                first = first or error
                continue
            self._arguments = way
            return messages, text
        assert first is not None
        own_words = str(first_line(first)).removesuffix(".")
        raise RowError(N_("The model's chat template cannot write this row: {detail}."), detail=own_words) from first

    def quick(self, given: Sequence[Mapping[str, Any]], tools: Tools) -> tuple[list[dict[str, Any]], str] | None:
        """What `write` would most likely give, sooner; None where the template refuses."""
        messages = as_template_takes(given, self._arguments, in_parts=self._in_parts)
        try:
            return messages, self._tracer(tools).text(
                messages, tools=tools, documents=None, add_generation_prompt=False, **self._variables
            )
        except TEMPLATE_FAILURES:
            return None

    def text(self, messages: Sequence[Mapping[str, Any]], tools: Tools, *, prompt: bool = False) -> str:
        """As transformers writes it. Raises one of `TEMPLATE_FAILURES` where the template does."""
        return self._tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=prompt
        )

    def question(self, given: Sequence[Mapping[str, Any]]) -> str:
        """The text that asks for an answer to `given`. Raises `RowError` where the template refuses them."""
        messages = as_template_takes(given, self._arguments, in_parts=self._in_parts)
        try:
            return self.text(messages, None, prompt=True)
        except TEMPLATE_FAILURES as error:
            own_words = str(first_line(error)).removesuffix(".")
            raise RowError(
                N_("The model's chat template cannot write this chat: {detail}."), detail=own_words
            ) from error

    def trace(self, messages: Sequence[Mapping[str, Any]], tools: Tools, *, prompt: bool = False) -> Trace:
        """The text, and which message each of it is of. Raises one of `TEMPLATE_FAILURES` where the template does."""
        return self._tracer(tools).trace(
            messages, tools=tools, documents=None, add_generation_prompt=prompt, **self._variables
        )

    def prompts(self, messages: Sequence[Mapping[str, Any]], tools: Tools) -> tuple[Trace, str] | None:
        """The text that asks for an answer to `messages`, and the text without the asking; None where there is none."""
        try:
            marked = with_marks(messages) or messages
            return self.trace(marked, tools, prompt=True), self.trace(messages, tools).text
        except TEMPLATE_FAILURES:
            return None

    def opening(self) -> tuple[Trace, str] | None:
        """The same for any question: no template writes an empty chat."""
        if self._opening is None:
            self._opening = (self.prompts(as_template_takes(PROBE.messages[:1], in_parts=self._in_parts), None),)
        return self._opening[0]

    def has_generation_marks(self, tools: Tools) -> bool:
        """Whether the template itself says what the assistant writes."""
        return self._tracer(tools).has_generation_marks

    def _tracer(self, tools: Tools) -> TracedTemplate:
        source = self._tokenizer.get_chat_template(None, tools)
        if source not in self._traced:
            self._traced[source] = TracedTemplate(source)
        return self._traced[source]

    def _wants_parts(self) -> bool:
        """Whether the template leaves out a content that is a text, and writes it as a list of texts."""
        for in_parts in (False, True):
            try:
                text = self.text(as_template_takes(PROBE.messages, in_parts=in_parts), None)
            except TEMPLATE_FAILURES:
                continue
            if PROBE.messages[-1]["content"] in text:
                return in_parts
        return False
