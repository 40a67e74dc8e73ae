"""`python -m lora_backend.worker`: answers requests that come as JSON lines on stdin, on stdout.

In: `{"id", "method", "params"}`. Out: `{"id", "progress": {"message", "fraction"}}` any number of times, then
`{"id", "result"}` or `{"id", "error": message}`, with `"untrainable": key` where the answer is that a config
does not go with its model. End of input ends the process, whatever it is doing: the dashboard
that asked is gone.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from typing import Any, TextIO

from lora_backend.errors import FlightdeckError, UntrainableError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.worker.methods import METHODS


def main() -> None:
    """Serve until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what libraries print must not come between the answers
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    _send(answers, {"ready": True})
    while True:
        _serve(requests.get(), answers)


def _read(requests: queue.Queue[dict[str, Any]]) -> None:
    try:
        for line in sys.stdin:
            requests.put(json.loads(line))
    finally:  # half a line too means that who asked is gone
        os._exit(0)  # in the middle of a load as well


def _serve(request: dict[str, Any], answers: TextIO) -> None:
    def report(message: Message, fraction: float) -> None:
        _send(answers, {"id": request["id"], "progress": {"message": message.to_json(), "fraction": fraction}})

    try:
        result = METHODS[request["method"]](request["params"], report)
    except UntrainableError as error:
        _send(answers, {"id": request["id"], "error": error.message.to_json(), "untrainable": error.key})
    except FlightdeckError as error:
        _send(answers, {"id": request["id"], "error": error.message.to_json()})
    except Exception as error:  # whatever it is, the asker gets a sentence and this process lives on
        traceback.print_exc()
        message = Message(
            N_("The check failed with {kind}: {reason}"), {"kind": type(error).__name__, "reason": first_line(error)}
        )
        _send(answers, {"id": request["id"], "error": message.to_json()})
    else:
        _send(answers, {"id": request["id"], "result": result})


def _send(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
