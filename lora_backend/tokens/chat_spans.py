"""Where in the text that a model's chat template writes each answer of a chat stands.

What stands between the texts of a chat is remembered by the chat's shape; a text that consists of just these words and
this chat's texts has its answers where they were put together. Any other chat is written by transformers, and once more
with marks in it (`template_trace`), and that is believed where the two are the same without them; where they are not, each
answer lies between the text of the chat before it and the text with it, if the whole begins with both. What none of
them can tell is refused, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from lora_backend.data.examples import Chat
from lora_backend.i18n import N_
from lora_backend.tokens.chat_messages import Part, called_names, parts_of, shape_of, with_marks
from lora_backend.tokens.chat_template import ChatTemplate, RowError, Tools
from lora_backend.tokens.template_trace import MARK_CHARACTERS, TEMPLATE_FAILURES, Stretch
from lora_backend.tokens.text_skeleton import Skeleton, Skeletons
from lora_backend.tokens.traced_answers import TracedAnswers, is_plausible


@dataclass(frozen=True, slots=True)
class WrittenChat:
    """A chat's text with the places of its answers in it."""

    text: str
    answers: list[Stretch]
    """What the assistant writes of each of its turns, with the mark that ends it; `of` is the message's place."""
    turns: list[Stretch]
    """What the template writes for each message, in the text's order."""
    lost: frozenset[int]
    """Places of answers that are not in the text as they were given."""


class ChatWriter:
    """Writes chats with one tokenizer's template."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._template = ChatTemplate(tokenizer)
        self._skeletons = Skeletons()

    def write(self, chat: Chat) -> WrittenChat:
        """Raises `RowError` for a chat that the template refuses, or whose answers cannot be told apart."""
        tools = [dict(tool) for tool in chat.tools] if chat.tools is not None else None
        has_calls = any(message.get("tool_calls") for message in chat.messages)  # hardly ever the words of another chat
        quick = None if has_calls else self._template.quick(chat.messages, tools)
        if quick is not None:
            messages, text = quick
            found = self._skeletons.find((shape_of(messages), chat.tools is not None), text, parts_of(messages))
            if found is not None:
                return WrittenChat(text, *found)
        messages, text = self._template.write(chat.messages, tools)
        shape, parts = (shape_of(messages), chat.tools is not None), parts_of(messages)
        skeleton = self._told_by_marks(messages, tools, text, parts)
        if skeleton is not None:
            self._skeletons.keep(shape, skeleton)
            return WrittenChat(text, *skeleton.places(parts))
        return self._told_by_prefixes(messages, tools, text, parts)

    def _told_by_marks(
        self, messages: list[dict[str, Any]], tools: Tools, text: str, parts: list[Part]
    ) -> Skeleton | None:
        if MARK_CHARACTERS.search(text):
            return None
        marked = with_marks(messages)
        for tried in () if marked is None else (marked, messages):  # a mark may be what makes the text another one
            try:
                trace = self._template.trace(tried, tools)
            except TEMPLATE_FAILURES:
                continue
            if trace.text == text:
                if not is_plausible(trace, messages, parts):
                    return None
                found = TracedAnswers(self._template, messages, tools, trace, parts)
                return Skeleton.of(trace, parts, found.answers(), found.lost())
        return None

    def _told_by_prefixes(
        self, messages: list[dict[str, Any]], tools: Tools, text: str, parts: list[Part]
    ) -> WrittenChat:
        answers, lost = [], set()
        for place, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            try:
                before = self._template.text(messages[:place], tools, prompt=True) if place else ""
                after = self._template.text(messages[: place + 1], tools)
            except TEMPLATE_FAILURES:
                before, after = text + "?", ""
            if len(before) <= len(after) and text.startswith(before) and text.startswith(after):
                answers.append(Stretch(len(before), max(len(before), len(after.rstrip())), place))
            elif any(part.of == place and part.text in text for part in parts) or called_names(message):
                raise RowError(
                    N_(
                        "The answers of this row cannot be found in the text that the model's chat template makes of it. Remove the row, or write it as `prompt` and `completion`."
                    )
                )
            else:
                lost.add(place)
        return WrittenChat(text, answers, [], frozenset(lost))
