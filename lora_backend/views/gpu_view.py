"""What a GPU does at this moment, for people: its memory beside the plan, how busy and warm it is, what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lora_backend.formats import size
from lora_backend.hardware.inventory import Gpu
from lora_backend.i18n import N_, Message
from lora_backend.runs.history.usage import GpuUsage

KEPT_S = 300
"""Of a GPU's past."""


@dataclass(frozen=True)
class Reading:
    """One moment of one GPU."""

    at: float
    """Seconds since the epoch."""
    gpu: Gpu


@dataclass(frozen=True)
class Figure:
    """One figure of a GPU, as it is now and as it was."""

    head: str
    text: Message | str
    past: list[float]
    """Empty where the driver does not tell it."""


@dataclass(frozen=True)
class Bullet:
    """Shares of a GPU's memory, from 0 to 1."""

    trainer: float
    """What the run's own processes hold; all that is in use, where the driver does not say whose it is."""
    others: float
    planned: float | None
    """What the run was to hold at most; None where nothing is planned for it."""


def kept_readings(past: Sequence[Reading], now: Reading) -> list[Reading]:
    """The last minutes, `now` among them."""
    return [*(one for one in past if 0 <= now.at - one.at <= KEPT_S), now]


def bullet_of(found: GpuUsage) -> Bullet:
    """Of a plan that is larger than the GPU the mark is at its end."""
    total = max(found.gpu.total_bytes, 1)
    own = found.gpu.used_bytes if found.trainer_bytes is None else min(found.trainer_bytes, found.gpu.used_bytes)
    planned = None if found.planned_bytes is None else min(found.planned_bytes / total, 1.0)
    return Bullet(min(own / total, 1.0), min((found.gpu.used_bytes - own) / total, 1.0), planned)


def memory_parts(found: GpuUsage) -> list[Message]:
    """The same in words, and whether the run holds more than planned."""
    gpu = found.gpu
    values = {"used": size(gpu.used_bytes), "total": size(gpu.total_bytes)}
    parts = [Message(N_("{used} of {total} in use"), values)]
    if found.trainer_bytes is not None:
        parts.append(Message(N_("{size} by the trainer"), {"size": size(found.trainer_bytes)}))
        if (others := gpu.used_bytes - found.trainer_bytes) > 0:
            parts.append(Message(N_("{size} by others"), {"size": size(others)}))
    if found.planned_bytes is not None:
        parts.append(Message(N_("┃ planned at most {size}"), {"size": size(found.planned_bytes)}))
        beyond = (found.trainer_bytes or 0) - found.planned_bytes
        if beyond > 0:
            parts.append(Message(N_("⚠ {size} more than planned"), {"size": size(beyond)}))
    return parts


def figures_of(readings: Sequence[Reading]) -> list[Figure]:
    """Utilisation, temperature and power of the newest of one GPU's readings, and their past; a dash for what its driver
    does not tell."""
    gpu = readings[-1].gpu
    power: Message | str = f"{gpu.power_w:.0f} W" if gpu.power_w is not None else "–"
    if gpu.power_w is not None and gpu.power_limit_w is not None:
        power = Message(
            N_("{power} of {limit} W"), {"power": f"{gpu.power_w:.0f}", "limit": f"{gpu.power_limit_w:.0f}"}
        )
    busy = "–" if gpu.utilization is None else f"{100 * gpu.utilization:.0f}%"
    warm = "–" if gpu.temperature_c is None else f"{gpu.temperature_c} °C"
    return [
        Figure(N_("Utilization"), busy, _past([one.gpu.utilization for one in readings], 100)),
        Figure(N_("Temperature"), warm, _past([one.gpu.temperature_c for one in readings])),
        Figure(N_("Power"), power, _past([one.gpu.power_w for one in readings])),
    ]


def _past(values: Sequence[float | None], factor: float = 1.0) -> list[float]:
    return [factor * value for value in values if value is not None]


def untold(figures: Sequence[Figure]) -> Message | None:
    """Why some of them are a dash."""
    missing = [Message(one.head) for one in figures if not one.past]
    if not missing:
        return None
    if len(missing) == len(figures):
        return Message(N_("This GPU's driver reports no utilization, temperature or power."))
    both = {"first": missing[0], "second": missing[-1]}
    named = Message(N_("{first} and {second}"), both) if len(missing) > 1 else missing[0]
    return Message(N_("Not reported by this GPU's driver: {figures}."), {"figures": named})
