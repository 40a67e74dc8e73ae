"""Each contender in a process of its own that stays for all of its turns, so that its memory is its own."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.training.contenders import Contender
from benchmarks.training.one_turn import Turn, take_turn
from benchmarks.training.products import Products, time_products
from benchmarks.training.row_sets import Row

MARK = "\x1eresult "
MODULE = "benchmarks.training.processes"


class TurnFailedError(Exception):
    """With the last line that the process wrote."""


class Corner:
    """The process of one contender, or the one that times matrix products."""

    def __init__(self, contender: Contender | None, rows: Sequence[Row], threads: int | None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `__exit__`
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        if threads:
            environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", MODULE]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._log, text=True, env=environment)
        self._contender = contender
        self._send({"contender": contender and asdict(contender), "rows": list(rows)})

    def turn(self, *, is_profiled: bool = False, limit_s: float = 3600.0) -> Turn:
        """Raises `TurnFailedError`."""
        return Turn(**self._ask({"is_profiled": is_profiled}, limit_s))

    def products(self, dtype: str, tokens: int, labels: int) -> Products:
        return Products(**self._ask({"dtype": dtype, "tokens": tokens, "labels": labels}, 3600.0))

    def _ask(self, question: dict[str, Any], limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        self._send(question)
        timer = threading.Timer(limit_s, self._process.kill)
        timer.start()
        try:
            for line in self._process.stdout:
                if line.startswith(MARK):
                    found: dict[str, Any] = json.loads(line.removeprefix(MARK))
                    return found
        finally:
            was_killed = not timer.is_alive()
            timer.cancel()
        self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log if line.strip()]
        raise TurnFailedError(f"not through within {limit_s:.0f} s" if was_killed else (lines or ["-"])[-1][:300])

    def _send(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait()
        self._log.close()


def main() -> None:
    """Answer the questions that come in until there are no more."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    asked = json.loads(sys.stdin.readline())
    contender = Contender(**asked["contender"]) if asked["contender"] else None
    for line in sys.stdin:
        question = json.loads(line)
        found = time_products(**question) if contender is None else take_turn(contender, asked["rows"], **question)
        print(MARK + json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main()
