"""What the plan page is asked: its address in typed words, the config that this makes, and the way back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, get_args

from lora_backend.config.key_queries import planned_keys
from lora_backend.config.schema import KEYS, TrainingConfig
from lora_backend.planning.plan import Options
from lora_backend.planning.planner import options_of
from lora_backend.planning.price import Price
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.preflight.plan_question import config_to_plan
from pages.parts.shell import addresses

CONFIG_KEYS = planned_keys()
"""Keys of the config that the page sets, by their own names."""
CURRENCIES = ("USD", "EUR", "CNY", "GBP", "JPY", "KRW", "INR", "CHF")
PAGE_KEYS: dict[str, type] = {"goal": str, "max_utilisation": int, "rows": int, "price": float, "currency": str}
"""What a config has no key for."""
PAGE_DEFAULTS: dict[str, Any] = {
    "goal": "balance",
    "max_utilisation": 90,
    "rows": None,
    "price": None,
    "currency": CURRENCIES[0],
}
NONE = "none"
MAX_MACHINES = 3
MAX_UNITS = 10_000
_RUN = re.compile(r"(\d{1,4})x(\d{1,5})")


@dataclass(frozen=True)
class Question:
    """A plan's address; everything on the page follows from it."""

    params: Mapping[str, str]
    base: Mapping[str, Any] = field(default_factory=dict)
    """Values of the draft that is planned; the address wins over them."""
    price: Price | None = None
    """What a GPU hour costs here; the address wins over it as well."""

    @property
    def model(self) -> str:
        return (self.params.get(addresses.MODEL) or str(self.base.get("model_name") or "")).strip()

    @property
    def gpus(self) -> str | None:
        """Words for GPUs; None is this machine."""
        return self.params.get(addresses.GPUS, "").strip() or None

    @property
    def machines(self) -> list[str]:
        """Words of the machines that are compared."""
        words = [part.strip() for part in self.params.get(addresses.MACHINES, "").split(";")]
        return [part for part in words if part][:MAX_MACHINES]

    def default(self, name: str) -> Any:
        """What holds while the address does not name it."""
        if self.price is not None and name in ("price", "currency"):
            return self.price.amount if name == "price" else self.price.currency
        return PAGE_DEFAULTS[name] if name in PAGE_KEYS else self.base.get(name, KEYS[name].default)

    def value(self, name: str) -> Any:
        """A setting by its name; text that is no value of its kind stays text, for the check to name it."""
        text = self.params.get(name)
        if text is None:
            return self.default(name)
        value = _value(text, (CONFIG_KEYS | PAGE_KEYS)[name])
        return self.default(name) if name in PAGE_KEYS and not _is_usable(name, value) else value

    def config(self) -> TrainingConfig:
        """The config that is planned, without a `device_map`. Raises `ConfigError` naming every error."""
        given = {name: self.value(name) for name in CONFIG_KEYS if name in self.params}
        return config_to_plan({**self.base, "model_name": self.model, **given, "device_map": None})

    def options(self, config: TrainingConfig) -> Options:
        """How the placement is chosen."""
        share = self.value("max_utilisation") / 100
        return replace(options_of(config), goal=self.value("goal"), max_utilisation=share)


def as_text(value: Any) -> str:
    """A setting as it stands in the address."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return NONE if value is None else str(value)


def _value(text: str, kind: type) -> Any:
    if text == NONE:
        return None
    if kind is bool:
        return text == "true"
    if kind is list:
        return text if text == "all-linear" else [part.strip() for part in text.split(",") if part.strip()]
    if kind in (int, float):
        try:
            number = float(text) if kind is float else int(text[:20])
        except ValueError:
            return text
        return int(number) if isinstance(number, float) and number.is_integer() else number
    return text


def _is_usable(name: str, value: Any) -> bool:
    if name == "goal":
        return value in get_args(Goal)
    if name == "currency":
        return value in CURRENCIES
    if not isinstance(value, int | float):
        return value is None
    return math.isfinite(value) and (1 <= value <= 100 if name == "max_utilisation" else 0 < value <= 1e12)


def placement_text(assignment: Sequence[int]) -> str:
    """The device of each unit, as `0x31.1x50`: 31 units on device 0, then 50 on device 1."""
    return ".".join(f"{device}x{len(list(run))}" for device, run in groupby(assignment))


def placement_of(text: str, num_units: int, num_devices: int) -> tuple[int, ...] | None:
    """The other way round; None for what is no placement of so many units on so many devices."""
    runs = [_RUN.fullmatch(part) for part in text.split(".")]
    if any(run is None for run in runs):
        return None
    pairs = [(int(run[1]), int(run[2])) for run in runs if run is not None]
    if sum(count for _, count in pairs) != num_units or num_units > MAX_UNITS:
        return None
    found = tuple(device for device, count in pairs for _ in range(count))
    return found if all(device < num_devices for device in found) else None
