"""The chats of a workspace: a file each, written whole or not at all, and put into a bin of their own when deleted."""

from __future__ import annotations

import builtins
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_backend.atomic import filling, write_json
from lora_backend.bounded import MAX_JSON_BYTES, read_json
from lora_backend.chats.documents import Chat
from lora_backend.clock import Clock, stamp
from lora_backend.errors import ChatError, FileRefusedError
from lora_backend.formats import size
from lora_backend.i18n import N_
from lora_backend.symlinks import is_unlinked_file, refuse_link

CHAT_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,79}")
MAX_CHAT_BYTES = MAX_JSON_BYTES
MOST_LISTED = 500
"""Of a folder with more, the newest are shown."""
BIN = ".deleted"


class ChatStore:
    """The chats in `folder`. Reading is lenient: a field that is wrong is absent, and a file that is none is no chat."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock

    def new_id(self) -> str:
        """An id that no chat has; ids sort by the time they were made at."""
        return f"{stamp(self.clock())}-{secrets.token_hex(3)}"

    def read(self, chat_id: str) -> Chat:
        """The chat. Raises `ChatError` where there is none of that id, or one of a newer version."""
        path = self._path(chat_id)
        try:
            found = read_json(path, MAX_CHAT_BYTES, follow=False)
        except FileRefusedError as error:
            raise ChatError(error.message.template, **error.message.values) from error
        except (OSError, ValueError) as error:
            raise _gone(chat_id) from error
        if not isinstance(found, dict):
            raise _gone(chat_id)
        if Chat.is_newer(found):
            raise ChatError(N_("Chat {id} was written by a newer version. Update to open it."), id=chat_id)
        return Chat.read({**found, "id": chat_id})

    def write(self, chat: Chat) -> None:
        """Keep the chat as it is now. Raises `ChatError` where it is larger than what is read again, `OSError` where it
        cannot be written; what was kept before is kept then."""
        path, document = self._path(chat.id), _without_nothing(chat.to_json())
        size_bytes = len(str(document).encode("utf-8", "backslashreplace"))
        if size_bytes > MAX_CHAT_BYTES // 2:
            raise ChatError(
                N_("This chat is {size}; the limit is {limit}. Start a new one."),
                size=size(size_bytes),
                limit=size(MAX_CHAT_BYTES // 2),
            )
        with filling(self.folder):
            write_json(path, document)

    def list(self) -> builtins.list[Chat]:
        """All chats that can be read, the newest first."""
        found = []
        for path in self._newest():
            with suppress(ChatError):
                found.append(self.read(path.stem))
        return sorted(found, key=lambda chat: chat.created_at or 0.0, reverse=True)

    def delete(self, chat_id: str) -> None:
        """Put a chat into the bin. Raises `ChatError` where there is none."""
        path = self._path(chat_id)
        if not is_unlinked_file(path):
            raise _gone(chat_id)
        refuse_link(self.folder / BIN)
        (self.folder / BIN).mkdir(exist_ok=True)
        path.replace(self.folder / BIN / path.name)

    def undelete(self, chat_id: str) -> None:
        """Take a chat out of the bin. Raises `ChatError` where it is not there, or another took its place."""
        path = self._path(chat_id)
        refuse_link(self.folder / BIN)
        if not is_unlinked_file(self.folder / BIN / path.name):
            raise _gone(chat_id)
        if path.exists() or path.is_symlink():
            raise ChatError(N_("Chat {id} stays in the trash: another chat has taken its place."), id=chat_id)
        (self.folder / BIN / path.name).replace(path)

    def _newest(self) -> builtins.list[Path]:
        """By their ids, which begin with the time."""
        try:
            names = [path for path in self.folder.glob("*.json") if CHAT_ID.fullmatch(path.stem)]
        except OSError:
            return []
        return sorted(names, key=lambda path: path.stem, reverse=True)[:MOST_LISTED]

    def _path(self, chat_id: str) -> Path:
        """Where the chat lies. Raises `ChatError` for what is no id, so that none leads out of the folder."""
        if not CHAT_ID.fullmatch(chat_id):
            raise _gone(chat_id)
        return self.folder / f"{chat_id}.json"


def _without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def _gone(chat_id: str) -> ChatError:
    return ChatError(N_("Chat {id} does not exist; it may have been deleted. Start a new one."), id=chat_id[:80])
