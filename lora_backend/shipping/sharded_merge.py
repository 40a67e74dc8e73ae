"""Merge an adapter into a model's files shard by shard: never more than a few tensors in memory, however large it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.shipping.adapter_changes import Ties
from lora_backend.shipping.merged_weights import Change, merged, stored_as
from lora_backend.shipping.weight_files import DTYPES, NAMES, Stored, WeightFiles, write_index, write_tensors


@dataclass(frozen=True)
class ShardPlan:
    """Which tensor of the merged files is made how."""

    files: WeightFiles
    changes: Mapping[str, Change]
    """Name in the files that are written → what the adapter makes of it."""
    sources: Mapping[str, str]
    """Name in the files that are written → the tensor of the base model's files that it begins as, where it is another."""
    added: Mapping[str, Path]
    """Names that the base model's files do not have, by the file that they are put into."""
    is_untied: bool
    """Whether embedding and head, one tensor in the base model, are two in what is written."""
    dtype: str | None = None
    """safetensors' word for the dtype of all weights; None: each as it was."""

    def source(self, name: str) -> str:
        """The tensor of the base model's files that one of the merged files begins as."""
        return self.sources.get(name, name)

    def stored(self, path: Path) -> list[Stored]:
        """What is written into the file that takes the place of the base model's `path`."""
        names = [*self.files.headers[path], *(name for name, home in self.added.items() if home == path)]
        return [Stored(name, self.dtype_of(name), self.files.info(self.source(name)).shape) for name in names]

    def dtype_of(self, name: str) -> str:
        """safetensors' word for the dtype that a tensor is written in."""
        own = self.files.info(self.source(name)).dtype
        return self.dtype if self.dtype is not None and own in DTYPES else own

    @property
    def total_bytes(self) -> int:
        """Of all tensors that are written."""
        return sum(item.size_bytes for path in self.files.files for item in self.stored(path))

    def tensor(self, name: str) -> torch.Tensor:
        """One tensor as it is written. Raises `ModelError` where it does not go into its dtype."""
        base, word = self.files.tensor(self.source(name)), self.dtype_of(name)
        change = self.changes.get(name)
        if change is None and NAMES.get(base.dtype, word) == word:
            return base
        value = base if change is None else merged(base, change)
        if value.shape != base.shape:
            raise ModelError(
                N_("The adapter does not fit the base model: {name} {what}. Set its own base model with `--model`."),
                name=name,
                what=f"{tuple(value.shape)} ≠ {tuple(base.shape)}",
            )
        try:
            return stored_as(value, DTYPES[word])
        except OverflowError:
            raise ModelError(
                N_("A number in {name} is too large for fp16. Choose `--dtype bf16`."), name=name
            ) from None


def plan_shards(
    files: WeightFiles, by_parameter: Mapping[str, Change], names: Mapping[str, str], ties: Ties, dtype: str | None
) -> ShardPlan | str:
    """`names`: parameter → its tensor in the files. The parameter that the files do not hold one to one, where there is
    one: then the merge goes through the loaded model.
    """
    changes: dict[str, Change] = {}
    sources: dict[str, str] = {}
    added: dict[str, Path] = {}
    for parameter in (*by_parameter, *ties.untied):
        source = names.get(ties.sources.get(parameter, parameter))
        if source is None:
            return parameter
        is_apart = parameter in ties.untied
        name = names.get(parameter, parameter) if is_apart else names.get(parameter, source)
        if name != source:
            sources[name] = source
        if is_apart and parameter not in names:
            added[name] = files.places[source]
        if parameter in by_parameter:
            changes[name] = by_parameter[parameter]
    return ShardPlan(files, changes, sources, added, bool(ties.untied), dtype)


def merge_shards(plan: ShardPlan, output: Path, done: Callable[[float], None]) -> None:
    """Write the merged files into `output` under the names of the base model's. `done` is told the share, from 0 to 1, and
    may raise to end it."""
    total, written = max(plan.total_bytes, 1), 0
    places: dict[str, str] = {}

    def made(stored: list[Stored]) -> Iterator[torch.Tensor]:
        nonlocal written
        for item in stored:
            done(written / total)
            yield plan.tensor(item.name)
            written += item.size_bytes

    for path in plan.files.files:
        stored = plan.stored(path)
        write_tensors(output / path.name, stored, made(stored), plan.files.metadata(path))
        plan.files.close()
        places |= {item.name: path.name for item in stored}
    if len(plan.files.files) > 1:
        write_index(plan.files.folder, output, places, plan.total_bytes)
    done(1.0)
