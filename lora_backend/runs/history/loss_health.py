"""Whether a run learns, judged by its points alone: the one judgement for alerts, lists, pages and commands."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from lora_backend.bounded import open_regular
from lora_backend.runs.record.curves import Column, points, read_columns
from lora_backend.runs.record.run_store import RunStore

RISE = 1.5
"""A loss that is so many times what it was has turned away …"""
LEAST_RISE = 0.5
"""… if it rose by so much (nats a token): a run that begins near 0 may rise a little."""
NOISE = 4.0
"""… and by so many standard deviations of what one batch differs from the next."""
USUAL_NOISE, KNOWN_FROM = 0.3, 8
"""Batches differ by at least so much (standard deviation of the log) while fewer points than `KNOWN_FROM` tell."""
SURE_POINTS = 20
"""So many points in a row, each far above the first, are no noise, however much they differ among themselves."""
FLOOR = 0.5
"""Added to both sides of a ratio, so that near 0 not every change is a large one."""
LARGEST_VOCABULARY = 300_000
"""A loss of ln(vocabulary) is that of guessing; this bounds it where the vocabulary's size is not known."""
NO_GRADIENT = 1e-10
LEARNED = 0.05
"""A loss this low whose gradient has vanished is one that is learned by heart."""
STANDS_STILL = 2e-3
"""How near to ln(vocabulary) every one of the last losses lies if the model gives every token the same chance."""
OVERFLOW_POINTS = 10
"""A gradient that is no number changes nothing. fp16's scaler meets a few; a run that meets them at most of its last
points has blown up: its loss may stay near that of guessing, so nothing else shows it."""
FEWEST_FOR_LOWEST = 30
"""Points from which on the lowest part of the curve is more than a lucky batch."""
GLANCE_BYTES, LOOK_BYTES = 12_288, 1 << 20
"""A longer file of points is judged by its ends and some blocks between: by few for all runs, which a list asks of a
thousand, and by more of them for those about which there is something to say."""
ENDS_BYTES, BLOCK_BYTES = 4_096, 1_024
JUDGED_STATES = frozenset({"running", "stopping", "stopped", "finished"})
"""Beside these it is said how the loss went; a failure has a cause of its own."""
_POINT = re.compile(
    rb'"step": (\d+), (?:"epoch": [^,]*, )?"loss": ([^,}]+)(?:, "learning_rate": [^,]*)?(?:, "grad_norm": ([^,}]+))?'
)
"""A line as our trainer writes it; to read each as JSON takes several times as long."""


class Point(NamedTuple):
    """One logged training loss."""

    step: int
    loss: float
    grad_norm: float | None
    """None where none was logged; NaN where it was no number."""


@dataclass(frozen=True)
class LossHealth:
    """How the loss went, as a code with its values."""

    code: str
    """`ok`; `diverged`: far above its start; `rose`: far above its lowest; `dead`: nothing is learned any more;
    `unknown`: no point yet."""
    loss: float | None = None
    """Now, or at the end: of the last few points."""
    reference: float | None = None
    """What it is held against: the first loss, or the lowest."""
    ratio: float | None = None
    """`loss` / `reference`; a reference below 0.01 counts as 0.01."""
    step: int | None = None
    """`diverged`: since when it has been above its start; `rose`: where it was lowest."""
    grad_norm: float | None = None
    vocabulary_size: int | None = None
    """Where the loss stands still at its logarithm."""
    overflown: int | None = None
    """At how many of the last `OVERFLOW_POINTS` points the gradient was no number, where it was so at most of them."""

    @property
    def is_bad(self) -> bool:
        return self.code not in ("ok", "unknown")

    @property
    def times(self) -> str:
        """`ratio` as it is read: `2.5`, `12`."""
        ratio = self.ratio or 0.0
        return f"{ratio:,.0f}" if ratio >= 9.5 else f"{ratio:.2g}"

    def is_told_beside(self, state: str) -> bool:
        """Whether a run in `state` is shown with how its loss went."""
        return self.is_bad and state in JUDGED_STATES

    def to_json(self) -> dict[str, Any]:
        """The code, and the values that it has."""
        return {name: value for name, value in vars(self).items() if value is not None}


OK, UNKNOWN = LossHealth("ok"), LossHealth("unknown")


def judge_loss(found: Sequence[Point], vocabulary_size: Callable[[], int | None] = lambda: None) -> LossHealth:
    """The judgement of a run's points, the oldest first. `vocabulary_size` is asked only where it decides.

    A rise is held against the noise between batches, so that one easy batch at the start is no divergence; one that
    goes beyond guessing needs no such proof. Spikes that return leave no trace.
    """
    if not found:
        return UNKNOWN
    return _dead(found, vocabulary_size) or _diverged(found, vocabulary_size) or _rose(found) or OK


def health_of(run: RunStore) -> LossHealth:
    """The judgement of a run as its points are now; judged again only where they have changed."""
    try:
        stat = run.metrics_jsonl.stat()
    except OSError:
        return UNKNOWN
    return _known_health(run.path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _known_health(path: Path, size_bytes: int, changed_at: int) -> LossHealth:
    found = UNKNOWN
    for limit_bytes in (GLANCE_BYTES, LOOK_BYTES):
        found = judge_loss(read_points(path / "metrics.jsonl", limit_bytes), lambda: _vocabulary_size(RunStore(path)))
        if not found.is_bad or size_bytes <= limit_bytes:
            break
    return found


def _vocabulary_size(run: RunStore) -> int | None:
    size = run.read_attempt().vocab_size
    return size if size is not None and size > 1 else None


# ----------------------------------------------------------------------------------------------- judging


def _dead(found: Sequence[Point], vocabulary_size: Callable[[], int | None]) -> LossHealth | None:
    last = found[-max(1, min(5, len(found) // 2)) :]
    loss = median(point.loss for point in last)
    norms = [norm for point in last if (norm := point.grad_norm) is not None and math.isfinite(norm)]
    ending = found[-OVERFLOW_POINTS:]
    overflown = sum(point.grad_norm is not None and not math.isfinite(point.grad_norm) for point in ending)
    if len(ending) == OVERFLOW_POINTS and 2 * overflown > OVERFLOW_POINTS:
        return LossHealth("dead", loss=loss, overflown=overflown)
    if norms and max(norms) <= NO_GRADIENT:
        never_had_one = all((point.grad_norm or 0.0) <= NO_GRADIENT for point in found)
        if loss > LEARNED or never_had_one:
            return LossHealth("dead", loss=loss, grad_norm=max(norms))
    losses = [point.loss for point in last]
    stands_still = len(losses) > 1 and max(losses) - min(losses) <= 2 * STANDS_STILL
    size = vocabulary_size() if stands_still else None
    if size and all(abs(one - math.log(size)) <= STANDS_STILL for one in losses):
        return LossHealth("dead", loss=loss, grad_norm=norms[-1] if norms else None, vocabulary_size=size)
    return None


def _diverged(found: Sequence[Point], vocabulary_size: Callable[[], int | None]) -> LossHealth | None:
    first, now = found[0].loss, _level(found)
    above = _since_above(found, first)
    if not above or not _has_risen(first, now):
        return None
    rise = _log(now) - _log(first)
    noise = _noise([point.loss for point in above]) * math.sqrt(_steps_apart(found))  # the first point is of one step
    if len(above) < KNOWN_FROM:
        noise = max(noise, USUAL_NOISE)
    is_no_noise = rise >= NOISE * noise
    stays = len(above) >= SURE_POINTS and _log(min(point.loss for point in above)) - _log(first) >= math.log(RISE)
    if is_no_noise or stays or now > math.log(vocabulary_size() or LARGEST_VOCABULARY) + 1:
        return LossHealth("diverged", now, first, _ratio(now, first), above[0].step)
    return None


def _rose(found: Sequence[Point]) -> LossHealth | None:
    if len(found) < FEWEST_FOR_LOWEST:
        return None
    losses = [point.loss for point in found]
    levels = [median(losses[start : start + 5]) for start in range(len(losses) - 4)]
    place = min(range(len(levels)), key=levels.__getitem__)
    lowest, now = levels[place], levels[-1]
    if not _has_risen(lowest, now) or _log(now) - _log(lowest) < NOISE * _noise(losses):
        return None
    return LossHealth("rose", now, lowest, _ratio(now, lowest), found[place + 2].step)


def _level(found: Sequence[Point]) -> float:
    """Of the last three points, once there are enough that two of them are no accident."""
    return median(point.loss for point in found[-3:]) if len(found) >= 6 else found[-1].loss


def _since_above(found: Sequence[Point], first: float) -> Sequence[Point]:
    """The points since the loss was last near the first one."""
    near = 1.2 * first + 0.1
    start = next((place + 1 for place in range(len(found) - 1, -1, -1) if found[place].loss <= near), 0)
    return found[start:]


def _has_risen(before: float, now: float) -> bool:
    return now - before >= LEAST_RISE and _log(now) - _log(before) >= math.log(RISE)


def _noise(losses: Sequence[float]) -> float:
    """Standard deviation of one loss against the next, of their logs; by the median, so that a jump does not count."""
    steps = [abs(_log(after) - _log(before)) for before, after in pairwise(losses)]
    return median(steps) / (0.6745 * math.sqrt(2)) if len(steps) > 1 else 0.0


def _steps_apart(found: Sequence[Point]) -> float:
    steps = [after.step - before.step for before, after in pairwise(found[1:])]
    return max(median(steps), 1) if steps else 1


def _log(loss: float) -> float:
    return math.log(max(loss, 0.0) + FLOOR)


def _ratio(now: float, before: float) -> float:
    return now / max(before, 0.01)


# ----------------------------------------------------------------------------------------------- reading


def read_points(path: Path, limit_bytes: int = LOOK_BYTES) -> list[Point]:
    """The training losses in a `metrics.jsonl`; of one longer than `limit_bytes` its ends and some blocks between."""
    data = _blocks(path, limit_bytes)
    found = [_point(*match.groups()) for match in _POINT.finditer(data)]
    if found or not data:
        return [point for point in found if point is not None]
    return points_of(read_columns(path))  # written otherwise than by our trainer


def _point(step: bytes, loss: bytes, grad_norm: bytes | None) -> Point | None:
    number = _finite(loss)
    return None if number is None else Point(int(step), number, _norm(grad_norm))


def _norm(text: bytes | None) -> float | None:
    """`null` is written for what is no number; nothing at all where there was none."""
    return math.nan if text == b"null" else _finite(text or b"")


def _finite(text: bytes) -> float | None:
    """None for `null`, which stands for what is no number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def points_of(columns: dict[str, Column]) -> list[Point]:
    """The training losses of points that are read already."""
    norms = dict(zip(*points(columns, "grad_norm"), strict=True))
    return [Point(int(step), float(loss), norms.get(step)) for step, loss in zip(*points(columns, "loss"), strict=True)]


def _blocks(path: Path, limit_bytes: int) -> bytes:
    """Whole lines only: of half a number another would be read."""
    try:
        with open_regular(path, follow=False) as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            if size_bytes <= limit_bytes:
                data = file.read()
                return data[: data.rfind(b"\n") + 1]
            parts, last = [], size_bytes - ENDS_BYTES
            count = (limit_bytes - 2 * ENDS_BYTES) // BLOCK_BYTES
            gap = (last - ENDS_BYTES) / (count + 1)
            for start in (0, *(round(ENDS_BYTES + gap * number) for number in range(1, count + 1)), last):
                file.seek(start)
                data = file.read(ENDS_BYTES if start in (0, last) else min(BLOCK_BYTES, round(gap)))
                parts.append(data[data.find(b"\n") + 1 if start else 0 : data.rfind(b"\n") + 1])
    except OSError:
        return b""
    return b"".join(parts)
