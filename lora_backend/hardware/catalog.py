"""GPUs to plan for without owning them: their vendors' figures, and the words of `--gpus`."""

from __future__ import annotations

import difflib
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lora_backend.errors import DeviceError
from lora_backend.i18n import N_

MAX_GPUS = 64
MAX_GIB = 1024
"""More than any GPU has: what is above it was hardly meant as memory."""

_DATA_FILE = Path(__file__).with_name("gpus.json")
_GIB = 2**30
_MARKETING_WORDS = re.compile(r"nvidia|geforce|tesla|quadro|graphics card")
# The driver shows less than the nominal size (error correction and firmware take some), and hardly ever more.
_SHOWN_OF_NOMINAL = (0.85, 1.03)
_COUNTED = re.compile(r"([+-]?\d+)\s*[x×*]\s*(\S.*)", re.IGNORECASE)
_AMOUNT = re.compile(
    r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf(?:inity)?))\s*(?:g|gb|gib)?", re.IGNORECASE
)


@dataclass(frozen=True)
class CatalogGpu:
    """Figures of one card as its vendor publishes them, all peaks that no program reaches."""

    name: str
    memory_bytes: int
    """The nominal size printed on the box, in GiB; what is free is a few per cent less."""
    bandwidth_bytes_per_s: float
    bf16_flops: float | None
    """Operations a second of the tensor cores, dense, adding up in fp32; None where the card has no bf16."""
    fp16_flops: float
    """The same in fp16; without tensor cores, of the ordinary ones."""
    architecture: str
    compute_capability: tuple[int, int]
    nvlink: bool
    """Can be joined to another by NVLink, on its board or by a bridge."""
    source: str
    """Address of the data sheet, architecture paper or product page."""

    @property
    def training_flops(self) -> float:
        """Operations a second in the format that `precision: auto` takes on this card."""
        return self.bf16_flops or self.fp16_flops


@dataclass(frozen=True)
class HypotheticalGpu:
    """One GPU of a machine that need not be there."""

    name: str | None
    total_bytes: int
    spec: CatalogGpu | None
    """None where only an amount of memory was given."""


@lru_cache
def catalog() -> tuple[CatalogGpu, ...]:
    """All cards, consumer first, then workstation, then data centre."""
    return tuple(dict.fromkeys(gpu for _, gpu in _entries()))


@lru_cache
def _entries() -> tuple[tuple[str, CatalogGpu], ...]:
    entries = []
    for row in json.loads(_DATA_FILE.read_text("utf-8")):
        bf16_tflops = row["bf16_tflops"]
        gpu = CatalogGpu(
            name=row["name"],
            memory_bytes=row["memory_gib"] * _GIB,
            bandwidth_bytes_per_s=row["bandwidth_gb_per_s"] * 1e9,
            bf16_flops=None if bf16_tflops is None else bf16_tflops * 1e12,
            fp16_flops=row["fp16_tflops"] * 1e12,
            architecture=row["architecture"],
            compute_capability=tuple(row["compute_capability"]),
            nvlink=row["nvlink"],
            source=row["source"],
        )
        entries += [(_normalized(name), gpu) for name in (gpu.name, *row["also"])]
    return tuple(entries)


def _normalized(name: str) -> str:
    letters = re.sub(r"[^a-z0-9]", "", _MARKETING_WORDS.sub("", name.lower()))
    return re.sub(r"(\d)gi?b", r"\1g", letters)


def find_gpu(name: str, memory_bytes: int | None = None) -> CatalogGpu | None:
    """The card called `name` by its maker, its driver (NVML) or a person, whatever the case, spaces and hyphens.

    Two cards can carry one name in the driver and differ in memory. `memory_bytes`, the total that the driver shows,
    tells them apart; without it the first of the catalogue is meant. A laptop's chip is not the card of that name.
    """
    wanted = _normalized(name)
    found = [gpu for known, gpu in _entries() if known == wanted]
    if memory_bytes is not None:
        least, most = _SHOWN_OF_NOMINAL
        found = [gpu for gpu in found if least <= memory_bytes / gpu.memory_bytes <= most]
    return found[0] if found else None


def parse_gpus(text: str) -> tuple[HypotheticalGpu, ...]:
    """GPUs from the words of `--gpus`: amounts in GiB and names of cards, each with a count before it if wanted.

    `24,12,8` · `2xRTX-4090,A100-40G` · `A100-40G,24` · `2x24`. Raises `DeviceError` with what to change.
    """
    if not text.strip():
        raise DeviceError(N_("Name the GPUs to plan for, such as 24,12,8 (GiB) or 2xRTX-4090,A100-40G."))
    gpus: list[HypotheticalGpu] = []
    for part in text.replace("，", ",").split(","):
        count, gpu = _parse_part(part.strip())
        # Counted before they are made, for the count is the user's.
        if len(gpus) + count > MAX_GPUS:
            raise DeviceError(N_("At most {limit} GPUs can be planned for; name fewer."), limit=MAX_GPUS)
        gpus += [gpu] * count
    return tuple(gpus)


def _parse_part(part: str) -> tuple[int, HypotheticalGpu]:
    counted = _COUNTED.fullmatch(part)
    count_text, rest = counted.groups() if counted else ("1", part)
    # Python refuses to read numbers of thousands of digits; past the limit one is as good as another.
    count = int(count_text) if len(count_text) <= 9 else MAX_GPUS + 1
    if count < 1:
        raise DeviceError(N_("The count in “{part}” must be 1 or more."), part=_shortened(part))
    amount = _AMOUNT.fullmatch(rest)
    return count, _of_memory(rest, float(amount[1])) if amount else _of_name(rest)


def _of_memory(text: str, gib: float) -> HypotheticalGpu:
    if not (math.isfinite(gib) and round(gib * _GIB) > 0):
        raise DeviceError(N_("A GPU’s memory is a number of GiB above 0, not “{text}”."), text=_shortened(text))
    if gib > MAX_GIB:
        raise DeviceError(
            N_("“{text}” would be more GiB than any GPU has (at most {limit}); a card’s name is written like {name}."),
            text=_shortened(text),
            limit=MAX_GIB,
            name=_nearest(f"RTX-{text}", 1),
        )
    return HypotheticalGpu(None, round(gib * _GIB), None)


def _of_name(name: str) -> HypotheticalGpu:
    if not re.search(r"[^\W\d_]", name):
        raise DeviceError(
            N_(
                "“{text}” is neither GiB nor a card; separate GPUs with commas, such as 24,12,8 or 2xRTX-4090,A100-40G."
            ),
            text=_shortened(name) or ",",
        )
    gpu = find_gpu(name)
    if gpu is None:
        raise DeviceError(
            N_(
                "The catalogue has no GPU “{name}”; the nearest names are {nearest}. You can also give GiB, such as 24."
            ),
            name=_shortened(name),
            nearest=_nearest(name, 3),
        )
    return HypotheticalGpu(gpu.name, gpu.memory_bytes, gpu)


def _nearest(name: str, count: int) -> str:
    by_letters = {_normalized(gpu.name): gpu.name for gpu in catalog()}
    wanted = _normalized(name)[:40]  # a long text would only be slow to compare
    # Half a name, as A100, means those that go on from it; and something is nearest whatever was typed.
    longer = [letters for letters in by_letters if wanted and letters.startswith(wanted)]
    near = [*longer, *difflib.get_close_matches(wanted, by_letters, n=count, cutoff=0.0)]
    return ", ".join(by_letters[letters] for letters in list(dict.fromkeys(near))[:count])


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
