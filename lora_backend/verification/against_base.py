"""The base model that an adapter's folder belongs to: which one it is, and whether the adapter fits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.expressions.question import Question
from lora_backend.i18n import N_, Message
from lora_backend.models.base_headers import BaseHeaders
from lora_backend.models.conversion import converts_names
from lora_backend.models.describe import read_json_object
from lora_backend.models.find import find_model
from lora_backend.models.headers import TensorInfo, read_folder_headers
from lora_backend.verification.adapter_folder import PEFT_PREFIX, AdapterFolder
from lora_backend.verification.beside import overwritten
from lora_backend.verification.differences import Compared, Difference
from lora_backend.verification.dtypes import dtype_differences
from lora_backend.verification.identity_check import with_identity
from lora_backend.verification.on_headers import HeaderAnswer, compare_with_headers
from lora_backend.verification.other_base import FindBase, other_base, other_hub_name
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.shapes import LoraLayer

OTHER_BASE = "other_base"


@dataclass(frozen=True)
class TreeAnswer:
    """What the base model itself, built without its bytes, says of an adapter."""

    differences: tuple[Difference, ...]
    layers: Mapping[str, Mapping[str, Any]]
    """Module as the adapter's file calls it, without PEFT's prefix → fields of its `LoraLayer` that headers do not show."""

    def to_json(self) -> dict[str, Any]:
        return {"differences": [item.to_dict() for item in self.differences], "layers": dict(self.layers)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TreeAnswer:
        return cls(tuple(map(Difference.from_dict, data["differences"])), dict(data["layers"]))


AskTree = Callable[[Mapping[str, Any], Path, Mapping[str, TensorInfo]], TreeAnswer]
"""Holds an adapter's folder, with these tensors, against the module tree of a `config.json`. Raises `FlightdeckError`."""


@dataclass(frozen=True)
class Comparison:
    """What came of it."""

    base: str | None = None
    """The name of the base model, as config, passport or adapter call it; None where none of them names one."""
    compared: Compared | None = None
    differences: tuple[Difference, ...] = ()
    tree: TreeAnswer | None = None
    base_names: tuple[str, ...] = ()
    """The modules of the base model that have a matrix; empty where they are not known."""
    note: Message | None = None
    """Why it was not compared."""
    other_base: str | None = None
    """The base that the adapter was made on, where that is another."""

    def told(self, layers: tuple[LoraLayer, ...]) -> tuple[LoraLayer, ...]:
        """The layers with what their headers do not show."""
        if self.tree is None:
            return layers
        return tuple(
            layer._replace(**known)
            if (known := self.tree.layers.get(layer.file_name.removeprefix(PEFT_PREFIX)))
            else layer
            for layer in layers
        )

    def with_report(self, report: RankReport) -> RankReport:
        """The rank report that also says whether the adapter fits its base."""
        if report.status == "expression_too_slow":
            return report
        found = with_identity(report, self.compared, self.differences)
        if self.compared == "module_tree" and not any(item.code == "not_in_model" for item in self.differences):
            # PEFT renames what transformers renamed since, so names that others would drop have a place here.
            found = found.but(warnings=[code for code in found.warnings if code != "keys_will_not_load"])
        return with_other_base(found, self.base, self.other_base).but(not_compared=self.note)


def with_other_base(report: RankReport, base: str | None, other: str | None) -> RankReport:
    """The report of an adapter that was held against `base`, and was made on the base model `other` (None: on that one)."""
    found = report.but(base=base, other_base=other)
    if other is None:
        return found
    return found.but(status="mismatch", is_consistent=False, warnings=[*report.warnings, OTHER_BASE])


def compare_with_base(
    adapter: AdapterFolder,
    folder: Path,
    config: Mapping[str, Any] | None,
    question: Question,
    find_base: FindBase = find_model,
    ask_tree: AskTree | None = None,
) -> Comparison:
    """Hold an adapter against its base model where that is here: by headers, else by the model's module tree.

    `config`: what the user holds it against; the base model that it names is the one that counts. `ask_tree` None: the
    tree is not asked. Raises `ExpressionError` where an expression takes too long.
    """
    found = _found(adapter, folder, config, question, find_base, ask_tree)
    unfit = dtype_differences({key: info.dtype for key, info in adapter.tensors.items()})
    shapes = {key: info.shape for key, info in adapter.tensors.items()}
    return replace(
        found, differences=(*found.differences, *unfit, *overwritten(shapes, adapter.config, found.differences))
    )


def _found(
    adapter: AdapterFolder,
    folder: Path,
    config: Mapping[str, Any] | None,
    question: Question,
    find_base: FindBase,
    ask_tree: AskTree | None,
) -> Comparison:
    own = adapter.config.get("base_model_name_or_path")
    name = next((str(found) for found in ((config or {}).get("model_name"), own) if found), None)
    if name is None:
        return Comparison(note=Message(N_("Neither the config nor the adapter names a base model.")))
    try:
        base = find_base(name)
    except FlightdeckError as error:
        return Comparison(name, note=error.message, other_base=other_hub_name(name, own))
    found = _compared(adapter, folder, base, question, ask_tree)
    return replace(found, base=name, other_base=other_base(folder, base, name, own, find_base))


def _compared(
    adapter: AdapterFolder, folder: Path, base: Path, question: Question, ask_tree: AskTree | None
) -> Comparison:
    try:
        facts = read_json_object(base / "config.json" if base.is_dir() else base)
        tensors = read_folder_headers(base, "model") if base.is_dir() else {}
    except ModelError as error:
        return Comparison(note=error.message)
    said = HeaderAnswer()
    names: tuple[str, ...] = ()
    # With blocks repeated the adapter has more of them than the files, numbered anew.
    if tensors and not converts_names(facts) and not adapter.config.get("layer_replication"):
        base_headers = BaseHeaders(facts, tensors)
        names = base_headers.matrices
        said = compare_with_headers(adapter, base_headers, question)
        if not said.open_names:
            return Comparison(compared="headers", differences=tuple(said.differences), base_names=names)
    note = Message(
        N_("The base model's headers are not enough to tell; that needs its module tree, which was not asked for.")
    )
    if ask_tree is not None and adapter.config.get("task_type") in (None, "CAUSAL_LM"):
        try:
            tree = ask_tree(facts, folder, adapter.tensors)
            return Comparison(compared="module_tree", differences=tree.differences, tree=tree, base_names=names)
        except FlightdeckError as error:
            note = error.message
    if said.differences:  # all that is left open may be right, and these are not
        return Comparison(compared="headers", differences=tuple(said.differences), base_names=names)
    return Comparison(note=note, base_names=names)
