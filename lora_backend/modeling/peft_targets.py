"""How PEFT is told to put a LoRA on exactly what is asked: it matches by endings, and rewrites some of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from peft.utils import transformers_weight_conversion as weight_conversion

from lora_backend.config.schema import TrainingConfig
from lora_backend.expressions.question import Question
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.asked_layers import Asked
from lora_backend.verification.coverage import is_all_linear, targets_of


@dataclass(frozen=True)
class PeftTargets:
    """Arguments of a `LoraConfig`, and what of them PEFT would rewrite."""

    arguments: Mapping[str, Any]
    misread: tuple[str, ...]
    """Modules whose endings PEFT takes for the experts' of this family (`shared_experts.down_proj`)."""
    weights: tuple[str, ...]
    """What they are called by their weights, which PEFT takes as it is."""
    patterns: Mapping[str, Mapping[str, float]]
    """What `rank_pattern` and `alpha_pattern` say of these modules, by the names of their weights."""

    @contextmanager
    def read_as_written(self) -> Iterator[None]:
        """Let PEFT attach to the modules that are named, and not to what it takes their names for."""
        rewrite = weight_conversion.convert_peft_config_for_transformers
        if self.misread:
            weight_conversion.convert_peft_config_for_transformers = lambda *_, **__: None
        try:
            with warnings.catch_warnings():
                # It looks at modules alone, and these patterns are for parameters; the check names those that match nothing.
                warnings.filterwarnings("ignore", message=r"The following (rank|alpha)_pattern keys did not match")
                yield
        finally:
            weight_conversion.convert_peft_config_for_transformers = rewrite

    def settle(self, model: PeftModel) -> None:
        """Write the config that is saved so that PEFT reads the same layers from it.

        It would rewrite the names of these modules at every load; those of their weights it takes as they are.
        """
        if self.misread:
            config = model.peft_config[model.active_adapter]
            config.target_modules = set(self.arguments["target_modules"]) - set(self.misread)
            config.target_parameters = sorted({*(self.arguments["target_parameters"] or ()), *self.weights})
            for key, pattern in self.patterns.items():
                setattr(config, key, {**pattern, **getattr(config, key)})


def peft_targets(config: TrainingConfig, asked: Asked, tree: ModuleTree, question: Question) -> PeftTargets:
    """The config's own words where PEFT understands them as they are meant, else every name written out."""
    misread = tuple(name for name in asked.modules if name.rpartition(".")[2] in tree.rewritten)
    modules, layers = _modules(config, asked, tree, question)
    ranks: dict[str, float] = dict(config.rank_pattern or {})
    alphas: dict[str, float] = dict(config.alpha_pattern or {})
    for spelled, name in _spelled(asked.parameters, tree).items():
        found = asked.parameters[name]
        # As PEFT writes the pattern itself, so that whoever reads the adapter knows it.
        pattern = _pattern(spelled.partition(".")[2] if spelled == name else spelled)
        if found.rank != config.r and not question.first_matches(ranks, [name]):
            ranks[pattern] = found.rank
        if found.alpha != config.alpha and not question.first_matches(alphas, [name]):
            alphas[pattern] = found.alpha
    arguments = {
        "target_modules": modules,
        "layers_to_transform": layers,
        "target_parameters": list(_spelled(asked.parameters, tree)) or None,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "modules_to_save": _saved(config, asked, tree),
    }
    patterns: dict[str, dict[str, float]] = {}
    own: dict[str, Mapping[str, float]] = {
        "rank_pattern": config.rank_pattern or {},
        "alpha_pattern": config.alpha_pattern or {},
    }
    for key, said in own.items():
        first = question.first_matches(said, misread)
        patterns[key] = {_pattern(f"{name.partition('.')[2]}.weight"): said[found] for name, found in first.items()}
    return PeftTargets(arguments, misread, tuple(_spelled([f"{name}.weight" for name in misread], tree)), patterns)


def _pattern(ending: str) -> str:
    return rf".*\.{re.escape(ending)}"


def _modules(
    config: TrainingConfig, asked: Asked, tree: ModuleTree, question: Question
) -> tuple[str | list[str], list[int] | None]:
    """`target_modules` and `layers_to_transform`, as short as they can be."""
    wanted = set(asked.modules)
    endings = list(dict.fromkeys(name.rpartition(".")[2] for name in wanted))
    own = config.target_modules
    if not isinstance(own, str):
        own = [entry for entry in own if entry not in asked.chosen.of_parameters]
    if is_all_linear(own) and config.target_layers is None and not tree.rewritten and wanted == set(tree.linear):
        return own, None
    candidates: list[str | list[str]] = [own, *([sorted(endings)] if is_all_linear(own) else [])]
    for candidate in candidates:
        is_text = isinstance(candidate, str)
        if (is_text and (tree.rewritten or config.target_layers is not None)) or is_all_linear(candidate):
            continue
        if not is_text and any(name.rpartition(".")[2] in tree.rewritten for name in candidate):
            continue
        said = {
            "target_modules": candidate,
            "target_layers": config.target_layers,
            "modules_to_save": config.modules_to_save,
        }
        targets = targets_of(said, question=question)
        targets.prepare(tree.modules)
        if {name for name in tree.modules if targets.matches(name)} == wanted:
            return candidate, config.target_layers
    return sorted(wanted), None


def _spelled(parameters: Collection[str], tree: ModuleTree) -> dict[str, str]:
    """Entry of `target_parameters` → one of the parameters that it stands for: an ending where it stands for no other."""
    spelled: dict[str, str] = {}
    for name in parameters:
        ending = ".".join(name.split(".")[-2:])
        alike = [other for other in tree.parameters if other.endswith(f".{ending}")]
        is_same = all(other in parameters for other in alike)
        spelled.setdefault(ending if is_same and _alike(alike, parameters) else name, name)
    return spelled


def _alike(names: Sequence[str], parameters: Collection[str]) -> bool:
    return not isinstance(parameters, Mapping) or len({parameters[name] for name in names}) == 1


def _saved(config: TrainingConfig, asked: Asked, tree: ModuleTree) -> list[str] | None:
    """PEFT takes any end of a name for an entry: `norm` would be every `input_layernorm` too."""
    loose = {name for name in tree.modules for entry in config.modules_to_save or () if name.endswith(entry)}
    return config.modules_to_save if loose == set(asked.saved_whole) else list(asked.saved_whole)
