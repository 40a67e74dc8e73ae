"""`python -m lora_backend.chatting`: answers chats that come as JSON lines on stdin, on stdout.

In: first `{"installation", "idle_s"}`, then `{"id", "method": "answer" | "disagreement", "params": {"chat", "turn",
"labels"}}` and, at any time, `{"stop": id}`. Out, by `id`: `{"progress": {"message", "fraction"}}`, `{"is_completion"}`,
`{"loaded"}`, `{"piece": {"label", "text", …}}`, `{"reply": {"label", "reply"}}`, then `{"result"}` or `{"error": message}`;
without one `{"leaving": message}`, before the process ends by itself. End of input ends it, whatever it is doing.
"""

from __future__ import annotations

import os
import queue
import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lora_backend.chats.documents import Chat
from lora_backend.errors import FlightdeckError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.json_pipes import JsonLines
from lora_backend.preflight.roots import BrowserRoots

if TYPE_CHECKING:  # torch and transformers take seconds, and whoever asked is told first
    from lora_backend.chatting.chat_device import ChatDevice
    from lora_backend.chatting.chat_session import ChatSession, Told

IDLE = N_("The model was unloaded because nobody asked it anything for a while.")


class AnsweringProcess:
    """What this process is asked, one question after another."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines
        self._questions: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stopped: set[int] = set()
        self._session: ChatSession | None = None
        self._id: int | None = None
        self._leaving = threading.Lock()

    def serve(self) -> None:
        """Until the input ends, nobody asks any more, or a run wants the GPU."""
        self._lines.listen(self._hear)
        first = self._questions.get()
        installation = Installation.from_json(first["installation"])
        while True:
            try:
                question = self._questions.get(timeout=first["idle_s"])
            except queue.Empty:
                self._leave(Message(IDLE))
                continue
            self._id = question["id"]
            try:
                self._serve(question, installation)
            except FlightdeckError as error:
                self._say(error=error.message.to_json())
            except Exception as error:  # whatever it is, the asker gets a sentence and this process lives on
                traceback.print_exc()
                said = N_("Answering failed with {kind}: {reason}")
                values = {"kind": type(error).__name__, "reason": first_line(error)}
                self._say(error=Message(said, values).to_json())
            else:
                self._say(result={})

    def _serve(self, question: dict[str, Any], installation: Installation) -> None:
        params, policy = question["params"], BrowserRoots(installation)
        chat, turn, labels = Chat.read(params["chat"]), int(params["turn"]), list(map(str, params["labels"]))
        policy.model(chat.base_model)  # says what is wrong in a moment
        self._progress(Message(N_("Starting torch and PEFT")), 0.0)
        from lora_backend.chatting.chat_session import ChatSession

        if self._session is None:
            self._session = ChatSession(installation, policy, self._on_device(installation), self._progress)
        number = int(question["id"])
        self._say(is_completion=self._session.is_completion(chat))
        if question["method"] == "answer":
            told = self._session.answer(chat, turn, labels, lambda: number in self._stopped)
        else:
            told = self._session.disagreement(chat, turn, labels[0], lambda: number in self._stopped)
        self._tell(told)

    def _tell(self, told: Iterator[Told]) -> None:
        has_told_model = False
        for one in told:
            if not has_told_model:
                has_told_model = True
                self._tell_model()
            if one.reply.ended is not None:
                self._say(reply={"label": one.label, "reply": one.reply.to_json()})
            else:
                given = one.reply.to_json()
                del given["text"]
                self._say(piece={"label": one.label, "text": one.text, **given})

    def _tell_model(self) -> None:
        session = self._session
        if session is None or session.model is None or session.device is None:
            return
        room = session.device.room
        self._say(
            loaded={
                "base_model": session.model.base_model,
                "device": room.device,
                "device_name": room.device_name.to_json(),
                "num_bytes": session.model.num_bytes,
            }
        )

    def _on_device(self, installation: Installation) -> Any:
        from lora_backend.chatting.chat_device import leave_when_wanted

        def settle(device: ChatDevice) -> None:
            os.environ.update(device.environment)  # before torch looks
            leave_when_wanted(device, installation, self._leave)

        return settle

    def _hear(self, message: dict[str, Any]) -> None:
        if "stop" in message:
            self._stopped.add(int(message["stop"]))
        else:
            self._questions.put(message)

    def _progress(self, message: Message, fraction: float) -> None:
        self._say(progress={"message": message.to_json(), "fraction": fraction})

    def _say(self, **said: Any) -> None:
        self._lines.send({"id": self._id, **said})

    def _leave(self, why: Message) -> None:
        """Say why and end, in the middle of an answer too: the kernel frees the memory, and then the lease."""
        with self._leaving:
            self._lines.send({"leaving": why.to_json()})
            os._exit(0)


def main() -> None:
    """Entry of the process."""
    AnsweringProcess(JsonLines()).serve()


if __name__ == "__main__":
    main()
