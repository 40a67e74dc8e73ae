"""What expressions were found to match, and which took too long: a page asks the same again at every click."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

from lora_backend.expressions.matching import Answer

MOST_ANSWERS = 512
MOST_HITS = 50_000
"""Names that one answer may hold to be kept; with `MOST_ANSWERS` some 200 MB at worst, and a few KB as a rule."""
MOST_SLOW = 512
SLOW_FOR_S = 600.0
"""A machine may have been busy, so an expression that took too long is tried again after this."""

_lock = threading.Lock()
_answers: OrderedDict[tuple[str, bytes, bytes], Answer] = OrderedDict()
_slow: OrderedDict[bytes, float] = OrderedDict()


def digest(texts: Sequence[str]) -> bytes:
    """The same for the same texts, without keeping them."""
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def known_answer(form: str, pattern: str, names_digest: bytes) -> Answer | None:
    """The answer to a question that was put before."""
    key = (form, digest([pattern]), names_digest)
    with _lock:
        if key in _answers:
            _answers.move_to_end(key)
        return _answers.get(key)


def keep_answer(form: str, pattern: str, names_digest: bytes, answer: Answer) -> None:
    """Keep an answer; the one that was not asked for the longest is forgotten."""
    if len(answer[0]) > MOST_HITS:
        return
    with _lock:
        _answers[form, digest([pattern]), names_digest] = answer
        while len(_answers) > MOST_ANSWERS:
            _answers.popitem(last=False)


def is_known_slow(pattern: str) -> bool:
    """Whether `pattern` took too long not long ago, whatever it was held against."""
    with _lock:
        return _slow.get(digest([pattern]), 0.0) > time.monotonic()


def keep_slow(pattern: str) -> None:
    """Remember that `pattern` took too long."""
    with _lock:
        _slow[digest([pattern])] = time.monotonic() + SLOW_FOR_S
        while len(_slow) > MOST_SLOW:
            _slow.popitem(last=False)
