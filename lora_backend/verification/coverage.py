"""Which modules a config targets, and what each of its entries matched."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from lora_backend.config.key_queries import PATTERN_KEYS
from lora_backend.expressions.matching import KEY, LAYERS, SAVED, WHOLE
from lora_backend.expressions.question import Question
from lora_backend.verification.rank_documents import CoverageEntry
from lora_backend.verification.ranks import asks_for_adalora
from lora_backend.verification.shapes import LoraLayer, block_of

MANY_GUESSES, MANY_ENDINGS = 20, 200
"""Entries for which a near name is looked for, among so many: each is compared with each, letter by letter."""
HEADS, HEADS_OF = ("classifier", "score"), ("SEQ_CLS", "TOKEN_CLS")
"""What PEFT adds to `modules_to_save` by itself, and for which tasks."""


@dataclass(frozen=True)
class Targets:
    """The part of a config that says where LoRA goes, in PEFT's words."""

    modules: str | tuple[str, ...] | None
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    exclude: str | tuple[str, ...] = ()
    saved_whole: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    question: Question = field(default_factory=Question, compare=False, repr=False)

    @property
    def has_expressions(self) -> bool:
        """Whether anything here is matched, and not only compared."""
        return any(isinstance(text, str) and text for text in (self.modules, self.exclude)) or bool(
            self.saved_whole or (self.layers and self.layers_pattern)
        )

    def prepare(self, names: Iterable[str]) -> None:
        """Hold all names against all expressions at once; one that is asked for without costs a question of its own."""
        names = tuple(names)
        whole = [text for text in (self.modules, self.exclude) if isinstance(text, str) and text]
        self.question.prepare(
            (WHOLE, whole, names),
            (SAVED, self.saved_whole, names),
            (LAYERS, map(str, self.layers_pattern) if self.layers else (), names),
        )

    def matches(self, name: str) -> bool:
        """Whether PEFT would put a LoRA on the module `name`.

        PEFT: `check_target_module_exists` in peft/tuners/tuners_utils.py. `all-linear` is decided by type, not by
        name, so it is written out before.
        """
        if self.modules is None or ((self.exclude or self.saved_whole) and self.excludes(name)):
            return False
        if isinstance(self.modules, str):
            return self.question.matches(WHOLE, self.modules, name)
        if name in self.modules:
            return True
        if not name.endswith(self._endings):
            return False
        return not self.layers or self._layer_index(name) in self.layers

    @cached_property
    def _endings(self) -> tuple[str, ...]:
        return tuple(f".{target}" for target in self.modules or ())

    def excludes(self, name: str) -> bool:
        """Whether `exclude_modules` or `modules_to_save` keeps LoRA off the module `name`."""
        if isinstance(self.exclude, str):
            excluded = bool(self.exclude) and self.question.matches(WHOLE, self.exclude, name)
        else:
            excluded = any(name == item or name.endswith(f".{item}") for item in self.exclude)
        return excluded or any(self.question.matches(SAVED, item, name) for item in self.saved_whole)

    def excludes_all_of(self, entry: str, base_names: Iterable[str]) -> bool:
        """Whether no module that `entry` names may have a LoRA, or that cannot be told.

        Where the base model's modules are not known an expression may keep off any of them.
        """
        if self.excludes(entry):
            return True
        if not self.exclude:
            return False
        named = [name for name in base_names if name == entry or name.endswith(f".{entry}")]
        if named:
            return all(map(self.excludes, named))
        return isinstance(self.exclude, str) or any(item.endswith(f".{entry}") for item in self.exclude)

    def index_of(self, name: str) -> int | None:
        """The index that `layers_to_transform` is held against; the block's where PEFT sees none."""
        found = self._layer_index(name)
        return block_of(name) if found is None else found

    def _layer_index(self, name: str) -> int | None:
        if not self.layers_pattern:
            found = re.match(r".*?\.[^.]*\.(\d+)\.", name)
            return int(found[1]) if found else None
        numbers = (self.question.layer_number(str(pattern), name) for pattern in self.layers_pattern)
        return next((number for number in numbers if number is not None), None)


def is_all_linear(modules: Any) -> bool:
    """PEFT takes the word in any case."""
    return isinstance(modules, str) and modules.lower() == "all-linear"


def targets_of(
    config: Mapping[str, Any], linear_names: Iterable[str] = (), question: Question | None = None
) -> Targets:
    """The targets in our config, or in an `adapter_config.json`; `all-linear` becomes `linear_names`.

    Its expressions are part of `question`.
    """
    question = question or Question()
    modules = config.get("target_modules")
    layers = config.get("layers_to_transform", config.get("target_layers"))
    exclude = config.get("exclude_modules") or ()
    exclude = exclude if isinstance(exclude, str) else tuple(map(str, as_tuple(exclude)))
    saved_whole = tuple(map(str, as_tuple(config.get("modules_to_save"))))
    parameters = tuple(map(str, as_tuple(config.get("target_parameters"))))
    if is_all_linear(modules):
        names = tuple(linear_names)
        kept = names if not layers else tuple(name for name in names if block_of(name) in as_tuple(layers))
        return Targets(kept or None, exclude=exclude, saved_whole=saved_whole, parameters=parameters, question=question)
    return Targets(
        modules if isinstance(modules, str) or modules is None else tuple(sorted(map(str, as_tuple(modules)))),
        as_tuple(layers) or None,
        as_tuple(config.get("layers_pattern")),
        exclude,
        saved_whole,
        parameters,
        question,
    )


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A value of a config as entries, whether it is one of them or several."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, Collection) and not isinstance(value, str) else (value,)


def coverage(
    config: Mapping[str, Any],
    targets: Targets,
    layers: Sequence[LoraLayer],
    saved_whole: Sequence[str] = (),
    converted: Container[str] = (),
    base_names: Sequence[str] = (),
) -> list[CoverageEntry]:
    """One record for each entry of the config: `key`, `entry`, `layers` (how many it matched), `near`, `warning`.

    `near` is the module that the entry may have meant, where it matched none. `converted`: names of modules that PEFT
    has turned into parameters of experts (`w1` of Mixtral is in `experts.gate_up_proj` now). `base_names`: all modules
    of the base model, where they are known.
    """
    experts = [layer for layer in layers if layer.kind == "experts"]
    names = [layer.name for layer in layers]
    endings = Counter(layer.module for layer in layers)
    records: list[CoverageEntry] = []
    if isinstance(targets.modules, tuple) and not is_all_linear(config.get("target_modules")):
        known = endings.keys() | {name.rpartition(".")[2] for name in base_names}
        meant = sorted(known - {entry.rpartition(".")[2] for entry in targets.modules})
        guesses = MANY_GUESSES if len(meant) <= MANY_ENDINGS else 0
        for entry in targets.modules:
            count = endings[entry] if "." not in entry else sum(_ends(name, entry) for name in names)
            count = count or (len(experts) if entry in converted else 0)
            if not count and targets.excludes_all_of(entry, base_names):  # PEFT writes their names out as well
                continue
            guesses -= not count
            last = entry.rpartition(".")[2]
            is_guessed = not count and guesses >= 0 and last not in known
            near = difflib.get_close_matches(last, meant, n=1) if is_guessed else []
            records.append(coverage_entry("target_modules", entry, count, "unmatched_target", near))
    elif isinstance(targets.modules, str):
        records.append(
            coverage_entry("target_modules", targets.modules, sum(map(targets.matches, names)), "unmatched_target")
        )
    for entry in targets.parameters:
        count = sum(_ends(layer.name, _parameter_of(layer, entry)) for layer in experts)
        records.append(coverage_entry("target_parameters", entry, count, "unmatched_target_parameter"))
    wanted = config.get("layers_to_transform", config.get("target_layers"))
    for index in as_tuple(wanted):
        count = sum(targets.index_of(layer.name) == index for layer in layers)
        records.append(coverage_entry("target_layers", index, count, "missing_layer_index"))
    for entry in targets.saved_whole:
        if entry in HEADS and config.get("task_type") in HEADS_OF:  # PEFT names both, whichever the model has
            continue
        # Of a module with children the file has only the children's tensors. PEFT asks how a name ends: `norm` is
        # `embedding_norm` too (`_set_trainable` in peft/utils/other.py).
        inside = {f"{name}.".partition(f"{entry}.")[0] for name in saved_whole if f"{entry}." in f"{name}."}
        records.append(coverage_entry("modules_to_save", entry, len(inside), "unmatched_module_to_save"))
    names = [name for layer in layers for name in pattern_names(layer, targets)]
    patterns = (_pattern_coverage(config, key, names, targets.question) for key in PATTERN_KEYS)
    return [*records, *chain.from_iterable(patterns)]


def _parameter_of(layer: LoraLayer, entry: str) -> str:
    """What a layer's name ends in where `entry` is its parameter; a folder does not say which of a module's it is."""
    return entry if layer.num_experts is not None else entry.rpartition(".")[0] or layer.module


def pattern_names(layer: LoraLayer, targets: Targets) -> list[str]:
    """What rank patterns are held against; a folder does not say which of its module's parameters an expert layer is."""
    if layer.kind != "experts" or layer.num_experts is not None:
        return [layer.pattern_name]
    return [f"{layer.name}.{entry.rpartition('.')[2]}" for entry in targets.parameters]


def _ends(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _pattern_coverage(
    config: Mapping[str, Any], key: str, names: Sequence[str], question: Question
) -> list[CoverageEntry]:
    found = config.get(key)
    patterns = [pattern for pattern in found if isinstance(pattern, str)] if isinstance(found, Mapping) else []
    if not patterns or (key == "rank_pattern" and asks_for_adalora(config)):  # AdaLoRA keeps its rows there
        return []
    first = question.first_matches(patterns, names)
    wins, all_names = Counter(first.get(name) for name in names), frozenset(names)
    records = []
    for pattern in patterns:
        matched = wins[pattern] or question.matches_any(KEY, pattern, all_names)
        records.append(coverage_entry(key, pattern, wins[pattern], f"{'shadowed' if matched else 'unmatched'}_{key}"))
    return records


def coverage_entry(key: str, entry: Any, count: int, warning: str, near: Sequence[str] = ()) -> CoverageEntry:
    """What came of one entry of a config."""
    return CoverageEntry(
        key=key, entry=entry, layers=count, near=near[0] if near else None, warning=None if count else warning
    )
