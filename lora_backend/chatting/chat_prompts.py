"""What a column is asked: the chat so far, with its own answers, as tokens."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from lora_backend.chats.documents import Chat
from lora_backend.errors import ChatError
from lora_backend.i18n import N_
from lora_backend.tokens.chat_template import ChatTemplate


def is_completion(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether there is no chat template, so that prompts are gone on from, not answered."""
    return not tokenizer.chat_template


def prompt_ids(tokenizer: PreTrainedTokenizerBase, chat: Chat, turn: int, label: str) -> list[int]:
    """The tokens that ask the column `label` for an answer to `chat.turns[turn]`.

    Turns that this column did not answer are left out. Without a chat template all texts stand in lines one below
    another. Raises `ChatError` where the template refuses the chat.
    """
    if is_completion(tokenizer):
        return _ids(tokenizer, "\n".join(filter(None, _texts(chat, turn, label))), special=True)
    return _ids(tokenizer, ChatTemplate(tokenizer).question(_messages(chat, turn, label)), special=False)


def refuse_beyond(num_tokens: int, max_positions: int | None, label: str) -> None:
    """Raise `ChatError` for a prompt that leaves no room for an answer. `max_positions`: tokens that the model reads."""
    if max_positions is not None and num_tokens >= max_positions:
        raise ChatError(
            N_("The prompt of {label} has {tokens} tokens including the chat so far, but the model's limit is {limit}. Shorten it, or start a new chat."),
            label=label, tokens=f"{num_tokens:,}", limit=f"{max_positions:,}",
        )  # fmt: skip


def _messages(chat: Chat, turn: int, label: str) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": chat.system}] if chat.system else []
    for before in chat.turns[:turn]:
        reply = before.replies.get(label)
        if reply is not None and reply.text:
            messages += [{"role": "user", "content": before.prompt}, {"role": "assistant", "content": reply.text}]
    return [*messages, {"role": "user", "content": chat.turns[turn].prompt}]


def _texts(chat: Chat, turn: int, label: str) -> list[str]:
    return [message["content"] for message in _messages(chat, turn, label)]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    whole = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text to a tokenizer
    ids = [int(token) for token in tokenizer(whole, add_special_tokens=special)["input_ids"]]
    if not ids:
        raise ChatError(N_("The model's tokenizer turns this prompt into no tokens. Write another one."))
    return ids
