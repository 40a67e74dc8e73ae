"""Make a profile without importing what a trace has no use for."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import Message
from lora_backend.installation import Installation
from lora_backend.planning.cost.profile import Profile

KERNELS = "bitsandbytes"
"""PEFT imports it wherever it is installed, and with it torch's compiler: a fifth of all that a trace imports. Layers
that it quantizes have stand-ins in a trace, which are put in when PEFT is done."""

REMEMBERED = {
    "peft.import_utils": ("is_bnb_available", "is_bnb_4bit_available"),
    "transformers.utils.import_utils": ("is_bitsandbytes_available",),
}
"""Functions that say whether it is there, by module."""


def lean_profile(
    facts: Mapping[str, Any],
    config: TrainingConfig,
    installation: Installation,
    report: Callable[[Message, float], None] = lambda *_: None,
) -> Profile:
    """A trace, in a process that has not imported torch yet."""
    with as_if_not_installed(KERNELS):
        with without_collections():
            from lora_backend.modeling.profiling import tracer  # torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT's and transformers' of one another
            return tracer(installation, report)(facts, config)


@contextmanager
def without_collections() -> Iterator[None]:
    """Importing torch and transformers makes millions of objects that stay: looking through them takes a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def as_if_not_installed(package: str) -> Iterator[None]:
    """Within the block an import of `package` fails, and PEFT looks no further. No effect where it is imported already."""
    if package in sys.modules:
        yield
        return
    _forget_what_is_installed()
    sys.modules[package] = None  # type: ignore[assignment]  # an import of it raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[package]
        _forget_what_is_installed()


def _forget_what_is_installed() -> None:
    """PEFT and transformers remember their answers."""
    for module, names in REMEMBERED.items():
        for name in names if module in sys.modules else ():
            getattr(sys.modules[module], name).cache_clear()
