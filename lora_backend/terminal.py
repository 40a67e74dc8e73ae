"""What people read in a terminal: nothing from outside moves the cursor, colours it, ends a line or turns the reading direction."""

from __future__ import annotations

import copy
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Literal

from lora_backend.escaping import visible, visible_lines

Tone = Literal["good", "doubt", "bad"]
"""Of an answer: green, amber, red. Green is only what is beyond doubt."""
COLOURS: dict[Tone, str] = {"good": "\033[1m\033[32m", "doubt": "\033[1m\033[33m", "bad": "\033[1m\033[31m"}
Style = Literal["trained", "special", "cut"]
"""Of a piece of a row of data."""
STYLES: dict[Style, str] = {"trained": "\033[1m\033[32m", "special": "\033[36m", "cut": "\033[9m"}
"""Of one that is several at once, each is added."""
PLAIN = "\033[0m"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def show(text: object = "", *, to_stderr: bool = False, flush: bool = False) -> None:
    """Print a text of one or several lines. The one way in which a command speaks to people."""
    print(visible_lines(str(text)), file=sys.stderr if to_stderr else sys.stdout, flush=flush)


def show_piece(text: str) -> None:
    """Print a piece of a text that goes on, at once."""
    print(visible_lines(text), end="", flush=True)


def show_over(text: str) -> None:
    """On stderr, in the place of the line that was shown so before; only where it is a terminal."""
    print(f"\r\033[K{visible(text)}", end="", file=sys.stderr, flush=True)


def show_coloured(text: str, tone: Tone) -> None:
    """The same at once, with its first line in the colour of `tone` where the output is a terminal."""
    if not sys.stdout.isatty():
        return show(text, flush=True)
    first, newline, rest = visible_lines(text).partition("\n")
    print(f"{COLOURS[tone]}{first}{PLAIN}{newline}{rest}", flush=True)
    return None


def is_coloured() -> bool:
    """Whether whoever reads the output sees colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def show_styled(pieces: Iterable[tuple[str, Collection[Style]]]) -> None:
    """Print pieces one after another, each in its styles. Only for a terminal (`is_coloured`)."""
    for text, styles in pieces:
        before = "".join(STYLES[style] for style in STYLES if style in styles)
        print(f"{before}{visible_lines(text)}{PLAIN if before else ''}", end="")
    print(flush=True)


def can_ask() -> bool:
    """Whether somebody reads a question and can answer; a job in the background would be stopped when it reads."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # closed, or a terminal that is not ours
        return False


def ask(question: str) -> str:
    """The line that is typed; empty where the input ends. Asked on stderr, for stdout is the answer's alone."""
    print(visible_lines(question), end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def write_file(text: str) -> None:
    """Write the text of a file to stdout: as it is into a file or pipe, escaped on a terminal."""
    print(visible_lines(text) if sys.stdout.isatty() else text, end="")


def while_read(command: Callable[[], int]) -> int:
    """What a command returns once all that it printed is out; 1 where whoever reads has had enough, as `head` has."""
    try:
        try:
            return command()
        finally:  # of `--help` too, which leaves by an exception
            sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # else Python complains once more at its end
            with suppress(OSError, ValueError):
                stream.flush()
                continue
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 1


def in_lines(lines: Iterable[object]) -> str:
    """One line each, whatever they hold."""
    return "\n".join(visible(str(line)) for line in lines)


def log_to_stderr(*, with_tracebacks: bool = True) -> None:
    """Let this process's log be read by people."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(with_tracebacks=with_tracebacks))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class LogFormatter(logging.Formatter):
    """A log's lines, for a file or a terminal; `with_tracebacks=False` where a person waits for the sentence alone."""

    def __init__(self, *, with_tracebacks: bool = True) -> None:
        super().__init__(LOG_FORMAT)
        self._with_tracebacks = with_tracebacks

    def format(self, record: logging.LogRecord) -> str:
        if not self._with_tracebacks:
            record = copy.copy(record)  # the log's file has them
            record.exc_info = record.exc_text = record.stack_info = None
        return visible_lines(super().format(record))


def aligned(rows: Sequence[Sequence[str]], left: int | None = None) -> str:
    """Rows of as many cells each, every column as wide as its widest cell; those from `left` on stand at the right."""
    rows = [[visible(text) for text in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    places = range(len(widths))
    lines = (
        [_padded(row[place], widths[place], at_right=left is not None and place >= left) for place in places]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _padded(text: str, width: int, *, at_right: bool) -> str:
    fill = " " * (width - _width(text))
    return fill + text if at_right else text + fill


def _width(text: str) -> int:
    """Columns that a text takes in a terminal; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
