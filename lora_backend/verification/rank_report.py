"""The rank check: all layers of an adapter held against the ranks that its config asks for."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_backend.errors import ExpressionError, ModelError
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_
from lora_backend.models.find import find_model
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.adapter_folder import (
    ReadBin,
    adapter_within,
    read_adapter_config,
    read_adapter_folder,
    subfolders_with_adapters,
)
from lora_backend.verification.against_base import AskTree, compare_with_base
from lora_backend.verification.asked_layers import asked_of
from lora_backend.verification.coverage import Targets, pattern_names, targets_of
from lora_backend.verification.judgement import Subject, judge
from lora_backend.verification.other_base import FindBase
from lora_backend.verification.passport import ranks_in_passport
from lora_backend.verification.rank_documents import RankReport, empty_report
from lora_backend.verification.ranks import RankRule, rank_rule
from lora_backend.verification.shapes import LoraLayer

LORA_TYPES = ("LORA", "ADALORA")


def check_layers(
    layers: Sequence[LoraLayer],
    config: Mapping[str, Any],
    own_config: Mapping[str, Any] | None = None,
    *,
    module_names: Sequence[str] = (),
    linear_names: Sequence[str] = (),
    saved_whole: Sequence[str] = (),
    warnings: Sequence[str] = (),
    on_disk: bool = False,
    base_names: Sequence[str] = (),
    question: Question | None = None,
) -> RankReport:
    """Hold every layer against the rank that `config` asks of it.

    `own_config` is the adapter's PEFT config (method 1); the tensors' shapes (method 2) and A against B (method 3)
    stand beside it in each record. `saved_whole` are the modules that are trained beside LoRA. `module_names` and
    `linear_names` are the base model's, where it is loaded: with them a module that the config targets and that has no
    LoRA is found. `base_names`: all modules of the base model, where they are known otherwise. The expressions of both
    configs are part of `question`; once its time is up nothing can be told.
    """
    question = question or Question()
    expected = _rule(config, layers, on_disk, question)
    configured = (
        expected if own_config is config else _rule(own_config, layers, on_disk, question) if own_config else None
    )
    targets = targets_of(config, linear_names, question)
    names = base_names or (() if on_disk else module_names)
    try:
        _prepare(layers, module_names, base_names, expected, configured, targets)
        return judge(
            Subject(
                layers, config, own_config, expected, configured, targets, module_names, names, saved_whole, warnings
            )
        )
    except ExpressionError as error:
        return _undecided(error, expected.r)


def _prepare(
    layers: Sequence[LoraLayer],
    module_names: Sequence[str],
    base_names: Sequence[str],
    expected: RankRule,
    configured: RankRule | None,
    targets: Targets,
) -> None:
    """Match every name at once: of a large model there are tens of thousands."""
    rules = [rule for rule in (expected, configured) if rule is not None and (rule.rank_pattern or rule.alpha_pattern)]
    if not (rules or targets.has_expressions):
        return
    names = dict.fromkeys(module_names)
    ranked = dict.fromkeys(name for layer in layers for name in (layer.pattern_name, *pattern_names(layer, targets)))
    entries = targets.modules if isinstance(targets.modules, tuple) else ()
    excluded = base_names if isinstance(targets.exclude, str) and targets.exclude else ()
    targets.prepare([*names, *excluded, *(layer.name for layer in layers), *ranked, *entries])
    for rule in rules:
        rule.prepare([*names, *ranked])


def _undecided(error: ExpressionError, expected_r: int | None) -> RankReport:
    return empty_report("expression_too_slow", None, expected_r).but(expression=error.message)


def check_adapter_folder(
    folder: Path,
    config: Mapping[str, Any] | None,
    adapter_name: str | None = None,
    read_bin: ReadBin | None = None,
    trained: Collection[str] = (),
    *,
    find_base: FindBase = find_model,
    ask_tree: AskTree | None = None,
) -> RankReport:
    """Check an adapter on disk, from its headers alone. `config` None: against its own `adapter_config.json`.

    `trained`: names of the layers that were trained, by default those of the adapter's passport; one that the config
    targets and that has no tensor here is missing. `find_base` and `ask_tree`: see `compare_with_base`.

    Raises `ModelError` for a path that does not exist and for bytes that cannot be read; what is found in a folder
    is a result. PEFT saves an adapter that is not called `default` in a subfolder of its name; a folder is not
    descended into, so asked for that name it has none at its top, and the report names the subfolders.
    """
    if not folder.is_dir():
        raise ModelError(N_("There is no adapter folder {path}. Check the path."), path=str(folder))
    folder = adapter_within(folder)
    own = read_adapter_config(folder)
    expected_r = None if config is None else rank_rule(config).r
    if own is None or (adapter_name and (folder / adapter_name / "adapter_config.json").is_file()):
        found = empty_report("no_adapter_here", False, expected_r)
        return found.but(subfolders=subfolders_with_adapters(folder))
    if not own.get("peft_type"):
        return empty_report("not_peft", None, expected_r)
    if own["peft_type"] not in LORA_TYPES:
        return empty_report("not_lora", None, expected_r)
    question = Question()
    with _collector_paused():
        try:
            adapter = read_adapter_folder(folder, own, read_bin, question)
            comparison = compare_with_base(adapter, folder, config, question, find_base, ask_tree)
        except ExpressionError as error:
            return _undecided(error, expected_r)
        names = list(trained or ranks_in_passport(folder))
        report = check_layers(
            comparison.told(adapter.layers),
            own if config is None else config,
            own,
            module_names=names,
            linear_names=names,
            saved_whole=adapter.saved_whole,
            warnings=adapter.warnings,
            on_disk=True,
            base_names=comparison.base_names,
            question=question,
        )
        return comparison.with_report(report)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Of a folder with many tensors hundreds of thousands of small objects are made, and none of them is garbage:
    looking through them again and again took 40 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def expected_ranks(
    config: Mapping[str, Any], linear_names: Sequence[str], tree: ModuleTree | None = None
) -> dict[str, int]:
    """Layer → rank that a run with `config` will have: by the model's tree, or where it is not known by the names of its
    linear layers alone.

    Raises `ExpressionError` where an expression takes too long.
    """
    if tree is not None:
        return asked_of(config, tree).ranks
    question = Question()
    rule, targets = rank_rule(config, question=question), targets_of(config, linear_names, question)
    targets.prepare(linear_names)
    rule.prepare(linear_names)
    return {name: rank for name in linear_names if targets.matches(name) and (rank := rule.for_layer(name))}


def _rule(config: Mapping[str, Any], layers: Sequence[LoraLayer], on_disk: bool, question: Question) -> RankRule:
    """The rule of a config; a live AdaLoRA keeps all its rows until it is read from disk, where PEFT cuts each layer
    to its budget."""
    rule = rank_rule(config, on_disk=True, question=question)
    if on_disk or not rule.kept_rows:
        return rule
    live = {layer.name: layer.layer_r for layer in layers}
    return replace(rule, kept_rows={name: kept for name, kept in rule.kept_rows.items() if live.get(name) == kept})
