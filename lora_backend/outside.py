"""Do what takes long or much memory in a process of its own: this one's other threads go on meanwhile.

`python -m lora_backend.outside MODULE:FUNCTION` is that process. It has a limit of memory and a deadline, and ends with
whoever asked.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from lora_backend.errors import FlightdeckError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.installation import child_environment

MEMORY_BYTES = 2 * 2**30
"""Of address space; a process that only reads needs a tenth of it to begin with."""
DEADLINE_S = 60.0
OnProgress = Callable[[float], None]
PR_SET_PDEATHSIG = 1


class OutsideError(FlightdeckError):
    """There is no answer: the process ran out of time or of memory, or was ended from outside."""

    code = "outside"


def call(function: str, *arguments: Any, deadline_s: float = DEADLINE_S, on_progress: OnProgress | None = None) -> Any:
    """What `module:function` answers to `arguments`, all of it JSON. The function may tell how far it is by `progress`.

    Raises the `FlightdeckError` that the function raised, as the same kind, or `OutsideError`.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_backend.outside", function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(OPENBLAS_NUM_THREADS="1"),
    )
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(deadline_s, end)
    timer.start()
    try:
        return _answer(process, arguments, on_progress, is_late, deadline_s)
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream
            stream.close()


def _answer(
    process: subprocess.Popen[bytes],
    arguments: tuple[Any, ...],
    on_progress: OnProgress | None,
    is_late: threading.Event,
    deadline_s: float,
) -> Any:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(json.dumps(arguments).encode())
        process.stdin.close()
    except BrokenPipeError:  # it ended before it asked; what follows says so
        pass
    for line in process.stdout:
        said = json.loads(line)
        if "answer" in said:
            return said["answer"]
        if "error" in said:
            raise _restored(said["error"])
        if on_progress:
            on_progress(said["progress"])
    if is_late.is_set():
        raise OutsideError(N_("It took more than {seconds} s and was cancelled."), seconds=round(deadline_s))
    raise OutsideError(N_("The process that did it ended without an answer (exit code {code})."), code=process.wait())


def progress(fraction: float) -> None:
    """Tell whoever asked how much is done, from 0 to 1. Does nothing in a process that was not started by `call`."""
    if _tell is not None:
        _tell({"progress": fraction})


_tell: Callable[[dict[str, Any]], None] | None = None


def _stored(error: FlightdeckError) -> dict[str, Any]:
    kind = type(error)
    module = "lora_backend.outside" if kind.__module__ == "__main__" else kind.__module__  # as this one runs
    return {"module": module, "kind": kind.__qualname__, "message": error.message.to_json()}


def _restored(stored: dict[str, Any]) -> FlightdeckError:
    message = Message.from_json(stored["message"])
    kind = getattr(importlib.import_module(stored["module"]), stored["kind"])
    error: FlightdeckError = kind(message.template, **message.values)
    return error


def main() -> None:
    """Entry of the process: arguments on stdin, lines of JSON on stdout."""
    global _tell
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def tell(said: dict[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    # This module runs as `__main__`; whoever calls `progress` has imported it under its name.
    importlib.import_module("lora_backend.outside")._tell = tell  # type: ignore[attr-defined]
    module, _, name = sys.argv[1].partition(":")
    try:
        tell({"answer": getattr(importlib.import_module(module), name)(*json.load(sys.stdin))})
    except FlightdeckError as error:
        tell({"error": _stored(error)})
    except MemoryError:
        tell(
            {
                "error": _stored(
                    OutsideError(
                        N_("It needs more than {limit} of memory, which is its limit."), limit=size(MEMORY_BYTES)
                    )
                )
            }
        )


if __name__ == "__main__":
    main()
