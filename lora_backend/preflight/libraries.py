"""Python packages that single values of a config need beyond the requirements, and which of them are missing here."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lora_backend.models.quantized import Quantized


@dataclass(frozen=True)
class Package:
    """A package by its name for pip, in the versions that transformers takes."""

    name: str
    least: str | None = None
    below: str | None = None

    def __str__(self) -> str:
        bounds = [f">={self.least}"] * bool(self.least) + [f"<{self.below}"] * bool(self.below)
        return self.name + ",".join(bounds)


BITSANDBYTES = Package("bitsandbytes", "0.46.1")
KERNELS = Package("kernels", "0.18.2", "0.19.0")
TORCHAO = Package("torchao", "0.15.0")
FLASH = {
    "flash_attention_2": Package("flash-attn", "2.3.3"),
    "flash_attention_3": Package("flash-attn-3"),
    "flash_attention_4": Package("flash-attn-4"),
}
"""Attention → the package that holds it; without it transformers takes the same from the hub by `kernels`."""
OPTIMIZERS = {
    "adamw_torch_4bit": TORCHAO,
    "adamw_torch_8bit": TORCHAO,
    "adamw_anyprecision": Package("torchdistx"),
    "grokadamw": Package("grokadamw"),
    "stable_adamw": Package("torch-optimi"),
    **dict.fromkeys(
        [
            "adamw_8bit",
            "adamw_bnb_8bit",
            "paged_adamw_8bit",
            "paged_adamw_32bit",
            "ademamix",
            "ademamix_8bit",
            "paged_ademamix_8bit",
            "paged_ademamix_32bit",
            "lion_8bit",
            "lion_32bit",
            "paged_lion_8bit",
            "paged_lion_32bit",
            "rmsprop_bnb",
            "rmsprop_bnb_8bit",
            "rmsprop_bnb_32bit",
        ],
        BITSANDBYTES,
    ),
}
"""Optimizer → its package, for all that torch and transformers do not have themselves (transformers/trainer_optimizer.py)."""
TRACKERS = {
    "tensorboard": (Package("tensorboard"), Package("tensorboardX")),
    "trackio": (Package("trackio"),),
    "mlflow": (Package("mlflow-skinny"), Package("mlflow")),
    "wandb": (Package("wandb"),),
}
"""Tracker → the packages of which accelerate needs one (accelerate/utils/imports.py)."""
GPTQ = (Package("gptqmodel", "7.0.0"), Package("optimum", "1.24.0"))
CHECKPOINTS: Mapping[str, tuple[Package, ...]] = {
    "bitsandbytes": (BITSANDBYTES,),
    "gptq": GPTQ,
    "awq": GPTQ,
    "hqq": (Package("hqq", "0.2.1"),),
    "aqlm": (Package("aqlm", "1.0.2"),),
    "compressed-tensors": (Package("compressed-tensors", "0.15.0"),),
}
"""Method of a quantized checkpoint → all that loading and training it needs (peft/import_utils.py, transformers/quantizers)."""
Version = Callable[[str], str | None]


def version_of(name: str) -> str | None:
    """The version of a package that is installed, without importing it; None where it is not."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing_packages(values: Mapping[str, Any], version: Version | None = None) -> dict[str, str]:
    """Key → the package that its value needs and that is not here in a version that transformers takes."""
    found = version or version_of  # looked up now: a test passes another
    missing: dict[str, str] = {}
    for key, value in values.items():
        for word in value if key == "report_to" and isinstance(value, list) else [value]:
            packages = _needed(key, word) if isinstance(word, str) else ()
            if packages and not any(_is_here(package, found) for package in packages):
                missing.setdefault(key, str(packages[0]))
    return missing


def missing_for(quantized: Quantized | None, version: Version | None = None) -> tuple[str, ...]:
    """The packages that a quantized checkpoint needs and that are not here."""
    needed = CHECKPOINTS.get(quantized.method, ()) if quantized else ()
    return tuple(str(package) for package in needed if not _is_here(package, version or version_of))


def _needed(key: str, word: str) -> tuple[Package, ...]:
    """The packages of which one must be there."""
    if key == "quantization":
        return (BITSANDBYTES,)
    if key == "optim" and word in OPTIMIZERS:
        return (OPTIMIZERS[word],)
    if key == "report_to":
        return TRACKERS.get(word, ())
    if key == "attn_implementation" and word in FLASH:
        return (FLASH[word], KERNELS)
    if key == "attn_implementation" and "/" in word:
        return (KERNELS,)
    return ()


def _is_here(package: Package, version: Version) -> bool:
    found = version(package.name)
    if found is None:
        return False
    numbers = _numbers(found)
    return not (package.least and numbers < _numbers(package.least)) and not (
        package.below and numbers >= _numbers(package.below)
    )


def _numbers(version: str) -> tuple[int, ...]:
    """`2.3.3.post1` and `0.18.2+cu12` by their release; what comes behind it does not count."""
    release = re.match(r"v?(\d+(?:\.\d+)*)", version)
    numbers = [int(part) for part in release[1].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
