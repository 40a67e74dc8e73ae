"""`python -m lora_backend.worker`: answers requests that come as JSON lines on stdin, on stdout.

In: `{"id", "method", "params"}`. Out: `{"id", "progress": {"message", "fraction"}}` any number of times, then
`{"id", "result"}` or `{"id", "error": message}`, with `"untrainable": key` where the answer is that a config
does not go with its model. End of input ends the process, whatever it is doing: the dashboard
that asked is gone.
"""

from __future__ import annotations

import queue
import traceback
from typing import Any

from lora_backend.errors import FlightdeckError, UntrainableError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.json_pipes import JsonLines
from lora_backend.worker.methods import METHODS


def main() -> None:
    """Serve until the input ends."""
    lines = JsonLines()
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    lines.listen(requests.put)
    lines.send({"ready": True})
    while True:
        _serve(requests.get(), lines)


def _serve(request: dict[str, Any], lines: JsonLines) -> None:
    def report(message: Message, fraction: float) -> None:
        lines.send({"id": request["id"], "progress": {"message": message.to_json(), "fraction": fraction}})

    try:
        result = METHODS[request["method"]](request["params"], report)
    except UntrainableError as error:
        lines.send({"id": request["id"], "error": error.message.to_json(), "untrainable": error.key})
    except FlightdeckError as error:
        lines.send({"id": request["id"], "error": error.message.to_json()})
    except Exception as error:  # whatever it is, the asker gets a sentence and this process lives on
        traceback.print_exc()
        message = Message(
            N_("The check failed with {kind}: {reason}"), {"kind": type(error).__name__, "reason": first_line(error)}
        )
        lines.send({"id": request["id"], "error": message.to_json()})
    else:
        lines.send({"id": request["id"], "result": result})


if __name__ == "__main__":
    main()
