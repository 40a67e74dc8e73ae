"""An adapter's headers against its base model's: is every tensor's module there, and is it as wide?

Headers decide only where the names of the files are those in memory. Whatever they leave open (packed weights, experts,
another prefix) is for the model itself to say, built without its bytes; so an intact adapter is never refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.expressions.question import Question
from lora_backend.models.base_headers import HEADS, BaseHeaders, Shape
from lora_backend.verification.adapter_folder import PEFT_PREFIX, USUAL_ENDINGS, AdapterFolder, split_lora_key
from lora_backend.verification.beside import is_inside, is_second_copy
from lora_backend.verification.coverage import Targets, targets_of
from lora_backend.verification.differences import Difference
from lora_backend.verification.ranks import RankRule, rank_rule
from lora_backend.verification.shapes import LoraLayer, block_of

Sides = tuple[int | None, ...]
"""A shape; None where any size is right."""
EMBEDDING = re.compile(r"embed|^wt?e$|^wpe$")
MAGNITUDE, TOKENS = ".lora_magnitude_vector", ".token_adapter.trainable_tokens_delta"
BASE_LAYER = ".base_layer"
VARIANTS = ("use_bdlora", "use_qalora", "monteclora_config", "kasa_config")
"""Keys of a config that give A and B other sizes than the module's, or tensors beside them."""


@dataclass
class HeaderAnswer:
    """What the headers say."""

    differences: list[Difference] = field(default_factory=list)
    open_names: list[str] = field(default_factory=list)
    """Tensors and modules that they do not decide about."""


def compare_with_headers(adapter: AdapterFolder, base: BaseHeaders, question: Question) -> HeaderAnswer:
    """Hold every tensor of an adapter against the base model's headers, and what its config targets against the adapter.

    Raises `ExpressionError` where an expression of its config takes too long.
    """
    rule = rank_rule(adapter.config, on_disk=True, question=question)
    rule.prepare(layer.pattern_name for layer in adapter.layers)
    return _Comparison(adapter, base, targets_of(adapter.config, question=question), rule).answer()


def ranks_by_values(config: Mapping[str, Any]) -> bool:
    """Whether a layer may have fewer rows than the adapter's own config says, by its budget or the base model's values.

    Of any other PEFT refuses a tensor whose rank is not the one that its own config asks for.
    """
    is_decomposed = str(config.get("init_lora_weights")).lower().startswith(("pissa", "olora", "corda"))
    return config.get("peft_type") == "ADALORA" or is_decomposed or config.get("ensure_weight_tying") is True


class _Comparison:
    def __init__(self, adapter: AdapterFolder, base: BaseHeaders, targets: Targets, rule: RankRule) -> None:
        self.adapter, self.base, self.targets, self.rule = adapter, base, targets, rule
        self.config = adapter.config
        self.has_other_sizes = any(self.config.get(key) for key in VARIANTS)
        self.has_own_ranks = not ranks_by_values(self.config)
        self.layers = {layer.name for layer in adapter.layers}
        dropped = set(adapter.dropped)
        self.shapes = {_name(key): info.shape for key, info in adapter.tensors.items() if key not in dropped}
        self.of_layer: dict[str, list[str]] = {}
        for name in self.shapes:
            if ".lora_" in name:
                self.of_layer.setdefault(name.partition(".lora_")[0], []).append(name)
        self.found = HeaderAnswer()

    def answer(self) -> HeaderAnswer:
        if self.targets.has_expressions:
            self.targets.prepare([*self.base.matrices, *HEADS, *self.layers])
        for key in self.adapter.dropped:
            self.differs("not_in_model", key.removeprefix(PEFT_PREFIX), _layer_of(key), self.adapter.tensors[key].shape)
        for layer in self.adapter.layers:
            self.compare_layer(layer)
        for name, shape in self.shapes.items():
            if ".lora_" not in name and not is_second_copy(name, self.shapes):
                self.compare_beside(name, shape)
        self.find_missing_layers()
        self.find_missing_beside()
        return self.found

    def differs(
        self, code: Any, name: str, layer: str | None, shape: Shape | None = None, model: Shape | None = None
    ) -> None:
        self.found.differences.append(Difference(code, name, layer, shape, model))

    def leave_open(self, name: str) -> None:
        self.found.open_names.append(name)

    def compare_layer(self, layer: LoraLayer) -> None:
        """One LoRA layer of a plain kind; conv, experts and what stands inside of a wrapped module stay open."""
        name, names = layer.name, self.of_layer.get(layer.name, [])
        is_plain = layer.kind in ("linear", "embedding", "adalora") and layer.groups == 1 and layer.rule_name is None
        is_plain = is_plain and f"{name}{BASE_LAYER}" not in self.of_layer
        is_plain = is_plain and not self.has_other_sizes
        if not is_plain or (EMBEDDING.search(layer.module) is not None) != (layer.kind == "embedding"):
            self.leave_open(name)
            return
        weight = self.base.weight(name)
        if weight is None or (weight != "open" and self.is_dropped(name)):
            for tensor in names:
                self.differs("not_in_model", tensor, name, self.shapes[tensor])
            return
        has_no_targets = (
            self.targets.modules is None and not self.targets.parameters
        )  # then PEFT takes the family's own
        if weight == "open" or len(weight) != 2 or has_no_targets:
            self.leave_open(name)
            return
        wanted = self.wanted(layer, weight)
        for tensor, sides in wanted.items():
            self.compare(tensor, sides, name)
        for tensor in names:
            if tensor not in wanted:
                self.leave_open(tensor)

    def is_dropped(self, name: str) -> bool:
        """Whether PEFT puts no LoRA on a module that there is, so that it drops what the file has for it."""
        modules = self.targets.modules
        is_listed = isinstance(modules, tuple) or (isinstance(modules, str) and modules.lower() != "all-linear")
        is_tied = bool(self.config.get("ensure_weight_tying"))  # then the other end of a tied weight gets one too
        return is_listed and not is_tied and not self.targets.matches(name)

    def wanted(self, layer: LoraLayer, weight: Shape) -> dict[str, Sides]:
        """The tensors that a layer has on a module with this weight."""
        name = layer.name
        rank = self.rule.for_layer(layer.pattern_name) if self.has_own_ranks else None
        into, out = self.base.widths(name, weight)
        if layer.kind == "embedding":
            wanted: dict[str, Sides] = {".lora_embedding_A": (rank, weight[0]), ".lora_embedding_B": (weight[1], rank)}
            out = weight[1]
        elif layer.kind == "adalora":
            wanted = {".lora_A": (None, into), ".lora_B": (out, None), ".lora_E": (None, 1)}
        else:
            wanted = {".lora_A.weight": (rank, into), ".lora_B.weight": (out, rank)}
            if self.config.get("lora_bias") is True:
                wanted[".lora_B.bias"] = (out,)
        if self.config.get("use_dora") is True and layer.kind != "adalora":
            wanted[MAGNITUDE] = (out,)
        return {name + ending: sides for ending, sides in wanted.items()}

    def compare(self, tensor: str, sides: Sides, layer: str | None) -> None:
        shape = self.shapes.get(tensor)
        if shape == sides:
            return
        if shape is None:
            self.differs("not_from_file", tensor, layer)
        elif len(shape) != len(sides):
            self.differs("other_shape", tensor, layer, shape, tuple(side or 0 for side in sides))
        elif any(side not in (None, size) for side, size in zip(sides, shape, strict=True)):
            told = tuple(size if side is None else side for side, size in zip(sides, shape, strict=True))
            self.differs("other_shape", tensor, layer, shape, told)

    def compare_beside(self, name: str, shape: Shape) -> None:
        """A tensor that is no half of a LoRA: saved whole, a bias, trained tokens."""
        if name.endswith(TOKENS):
            self.compare_tokens(name, shape)
            return
        module, _, leaf = name.rpartition(".")
        owner = module.removesuffix(BASE_LAYER)
        if (owner != module) != (owner in self.layers):  # only below a LoRA there is a base_layer, and there always is
            self.differs("not_in_model", name, None, shape)
            return
        info = self.base.tensors.get(f"{owner}.{leaf}")
        there = self.base.weight(owner) if leaf == "weight" or info is None else info.shape
        if there is None:
            if not self.is_new_head(owner):
                self.differs("not_in_model", name, None, shape)
        elif there == "open" or (info is None and leaf != "weight"):
            self.leave_open(name)
        elif there != shape:
            self.differs("other_shape", name, None, shape, there)

    def compare_tokens(self, name: str, shape: Shape) -> None:
        weight = self.base.weight(name.removesuffix(TOKENS).removesuffix(BASE_LAYER))
        indices = self.config.get("trainable_token_indices")
        if weight is None:
            self.differs("not_in_model", name, None, shape)
        elif weight == "open" or len(weight) != 2 or not isinstance(indices, list):
            self.leave_open(name)
        elif shape != (len(indices), weight[1]):
            self.differs("other_shape", name, None, shape, (len(indices), weight[1]))

    def is_new_head(self, module: str) -> bool:
        """Whether it is a head that the adapter's task has and a causal language model has not."""
        return self.config.get("task_type") not in (None, "CAUSAL_LM") and module in self.adapter.saved_whole

    def find_missing_layers(self) -> None:
        """Modules that the adapter's own config targets and that have no tensor in it."""
        targeted = self.config.get("target_modules")
        if isinstance(targeted, str) and targeted.lower() == "all-linear":  # decided by type, which headers do not tell
            self.leave_open(targeted)
            return
        places = {_place(name) for name in self.layers}
        for name in self.base.matrices:
            if name in self.layers or not self.targets.matches(name):
                continue
            # Files may hold blocks that are not in memory, as those that predict tokens beyond the next.
            if _place(name) in places and (block_of(name) or 0) < self.base.num_blocks:
                self.differs("not_from_file", name, name)
            else:
                self.leave_open(name)
        for head in HEADS:
            if head not in self.layers and head not in self.base.modules and self.targets.matches(head):
                self.leave_open(head)

    def find_missing_beside(self) -> None:
        """What the config says is saved beside the LoRA, and is not: modules, biases, trained tokens."""
        for entry in self.targets.saved_whole:
            inside = [name for name in self.base.tensors if is_inside(name, entry)]
            for name in inside:
                if name in self.shapes:
                    continue
                if block_of(name) is None and name.rpartition(".")[0].endswith(entry):
                    self.differs("not_from_file", name, None, None, self.base.tensors[name].shape)
                else:
                    self.leave_open(name)
            if not inside and not any(is_inside(name, entry) for name in self.shapes):
                self.leave_open(entry)
        bias = self.config.get("bias")
        if bias in ("lora_only", "all"):
            for name in sorted(self.layers):
                known = self.base.tensors.get(f"{name}.bias")
                if known and f"{name}{BASE_LAYER}.bias" not in self.shapes:
                    self.differs("not_from_file", f"{name}.bias", name, None, known.shape)
        if bias == "all":
            others = (name for name in self.base.tensors if name.endswith(".bias"))
            for name in others:
                if name.removesuffix(".bias") not in self.layers and name not in self.shapes:
                    self.leave_open(name)
        if self.config.get("trainable_token_indices") and not any(name.endswith(TOKENS) for name in self.shapes):
            self.leave_open("trainable_token_indices")


def _name(key: str) -> str:
    """A tensor's name as PEFT saves it: without its prefix, and without an adapter's name behind a half."""
    name = key.removeprefix(PEFT_PREFIX)
    if name.endswith(USUAL_ENDINGS):
        return name
    half = split_lora_key(name)
    if not half:
        return name
    return ".".join((*half, "weight")) if name.endswith(".weight") else ".".join(half)


def _layer_of(key: str) -> str | None:
    half = split_lora_key(key.removeprefix(PEFT_PREFIX))
    return half[0] if half else None


def _place(name: str) -> str:
    """The name with `*` for its numbers: the same module of every block."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
