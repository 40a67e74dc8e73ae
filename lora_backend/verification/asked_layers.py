"""Which modules and parameters a config asks a LoRA for, and of which rank: from the config's words and the model's
names alone, so that a check before the start and the trainer after it mean the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lora_backend.expressions.matching import SAVED, WHOLE
from lora_backend.expressions.question import Question
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.coverage import Targets, as_tuple, is_all_linear, targets_of
from lora_backend.verification.ranks import RankRule, rank_rule
from lora_backend.verification.shapes import block_of


class Place(NamedTuple):
    """Where a name of the config's leads to."""

    name: str
    """The module, or the parameter of experts or of a router."""
    part: str | None = None
    """The name that the model's files have for a part of the parameter (`w1` of `gate_up_proj`)."""
    is_parameter: bool = False


class ParameterRank(NamedTuple):
    """Rank and alpha of a LoRA on a parameter."""

    rank: int
    alpha: float
    """With which the parameter is scaled as each of its parts would be."""


@dataclass
class Chosen:
    """What the entries of `target_modules` lead to, before layers and modules trained whole are taken out."""

    places: dict[Place, None] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)
    """Entries that stand for nothing in the model."""
    unfit: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Entry → modules that LoRA cannot be put on."""
    single_experts: list[str] = field(default_factory=list)
    """Entries that name one expert of those that lie in one tensor."""
    of_parameters: list[str] = field(default_factory=list)
    """Entries that stand for parameters of experts or routers alone."""
    left_alone: dict[str, None] = field(default_factory=dict)
    """Towers that have modules of the names asked for."""


@dataclass(frozen=True)
class Asked:
    """What a config asks for, exactly."""

    modules: Mapping[str, int]
    """Module → rank."""
    parameters: Mapping[str, ParameterRank]
    """Parameter of experts or of a router → rank and alpha."""
    saved_whole: tuple[str, ...]
    """Modules that are trained whole."""
    chosen: Chosen
    halves: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    """Parameter → its parts that are named, and those that are not."""
    uneven: tuple[str, ...]
    """Parameters whose parts would have to be scaled differently."""
    unsaved: tuple[str, ...]
    """Entries of `modules_to_save` that stand for nothing in the model."""

    @property
    def ranks(self) -> dict[str, int]:
        """Name of each LoRA layer → rank."""
        return {**self.modules, **{name: found.rank for name, found in self.parameters.items()}}


def asked_of(config: Mapping[str, Any], tree: ModuleTree, question: Question | None = None) -> Asked:
    """What `config` (ours; keys left out have their defaults) asks of the model. Raises `ExpressionError` where an
    expression takes too long."""
    question = question or Question()
    chosen = choose(config, tree, question)
    targets, rule = targets_of(config, (), question), rank_rule(config, question=question)
    kept = [place for place in chosen.places if is_in_layers(place.name, config, tree)]
    excluded = _excluded(kept, targets)
    kept = [place for place in kept if place.name not in excluded]
    rule.prepare(name for place in kept for name in (place.name, _part_name(place)))
    halves, parameters, uneven = {}, {}, []
    for name, parts in _parameters(kept).items():
        named = tuple(part for part in tree.experts.get(name, ()) if part in parts)
        left_out = tuple(part for part in tree.experts.get(name, ()) if part not in parts)
        if named and left_out and None not in parts:
            halves[name] = named, left_out
        found = _parameter_rank(name, () if None in parts else named, rule, config)
        if found is None:
            uneven.append(name)
        else:
            parameters[name] = found
    saved, unsaved = _saved_whole(targets, tree)
    return Asked(
        modules={place.name: rule.for_layer(place.name) or 0 for place in kept if not place.is_parameter},
        parameters=parameters,
        saved_whole=saved,
        chosen=chosen,
        halves=halves,
        uneven=tuple(uneven),
        unsaved=unsaved,
    )


def choose(config: Mapping[str, Any], tree: ModuleTree, question: Question) -> Chosen:
    """What `target_modules` stands for in all blocks."""
    targets = config.get("target_modules", "all-linear")
    chosen = Chosen()
    if is_all_linear(targets):
        chosen.places = dict.fromkeys(_all_linear(tree))
        towers = (tree.tower_of(name) for name in tree.linear)
        chosen.left_alone = dict.fromkeys(tower for tower in towers if tower)
        return chosen
    places = dict(_places(tree))
    if isinstance(targets, str):
        question.prepare((WHOLE, (targets,), (*places, *tree.modules)))
        hits = [name for name in places if question.matches(WHOLE, targets, name)]
        others = [name for name in tree.modules if name not in places and question.matches(WHOLE, targets, name)]
        _take(targets, hits, others, chosen, places, tree)
        return chosen
    for entry in map(str, as_tuple(targets)):
        hits = [name for name in places if _ends(name, entry)]
        others = [name for name in tree.modules if name not in places and _ends(name, entry)]
        _take(entry, hits, others, chosen, places, tree)
    return chosen


def _take(
    entry: str, hits: list[str], others: list[str], chosen: Chosen, places: Mapping[str, Place], tree: ModuleTree
) -> None:
    """A name that text modules have means these alone: a tower is adapted where it is named itself."""
    in_text = [name for name in hits if tree.tower_of(name) is None]
    towers = {tower for name in hits if (tower := tree.tower_of(name))}
    named = {tower for tower in towers if tower.rpartition(".")[2] in entry}
    kept = [name for name in hits if tree.tower_of(name) is None or tree.tower_of(name) in named] if in_text else hits
    chosen.left_alone.update(dict.fromkeys(towers - named if in_text else ()))
    chosen.places.update(dict.fromkeys(places[name] for name in kept))
    if kept:
        chosen.of_parameters += [entry] if all(places[name].is_parameter for name in kept) else []
    elif _names_one_expert(entry, tree):
        chosen.single_experts.append(entry)
    elif others:
        chosen.unfit[entry] = tuple(others)
    else:
        chosen.unmatched.append(entry)


def _places(tree: ModuleTree) -> Iterator[tuple[str, Place]]:
    """Every name that an entry may end in → what it stands for."""
    for name in tree.targetable:
        yield name, Place(name)
    for name in tree.routers:
        yield name, Place(f"{name}.weight", None, True)
    for name, parts in tree.experts.items():
        holder, _, own = name.rpartition(".")
        for part in parts:
            if part != own:
                yield f"{holder}.{part}", Place(name, part, True)
        yield name, Place(name, None, True)


def _all_linear(tree: ModuleTree) -> Iterator[Place]:
    for name in tree.all_linear:
        yield Place(name)
    for name in tree.all_linear_parameters:
        parts: list[str | None] = [part for part in tree.experts.get(name, ()) if not _ends(name, part)]
        yield from (Place(name, part, True) for part in parts or [None])


def _names_one_expert(entry: str, tree: ModuleTree) -> bool:
    """Whether an entry ends in `3.w1`, the matrix of one expert as the model's files call it."""
    number, _, part = entry.rpartition(".")
    if not number.rpartition(".")[2].isdecimal():
        return False
    return any(part in (*parts, name.rpartition(".")[2]) for name, parts in tree.experts.items())


def is_in_layers(name: str, config: Mapping[str, Any], tree: ModuleTree) -> bool:
    """Whether a name lies in one of the blocks of `target_layers`."""
    layers = config.get("target_layers")
    if layers is None:
        return True
    layers = as_tuple(layers)
    return (block_of(name) if tree.blocks is None else tree.block_of(name)) in layers


def _excluded(places: Iterable[Place], targets: Targets) -> set[str]:
    """What is trained whole, or lies in such a module, gets no LoRA."""
    if not targets.saved_whole:
        return set()
    names = [place.name for place in places]
    targets.question.prepare((SAVED, targets.saved_whole, names))
    return {name for name in names if targets.excludes(name)}


def _parameters(places: Iterable[Place]) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = {}
    for place in places:
        if place.is_parameter:
            found.setdefault(place.name, set()).add(place.part)
    return found


def _parameter_rank(
    name: str, parts: tuple[str, ...], rule: RankRule, config: Mapping[str, Any]
) -> ParameterRank | None:
    """Each part keeps its rank, so the parameter has them all together; None where their scaling differs."""
    holder = name.rpartition(".")[0]
    if not parts and not rule.has_pattern_for(name) and rule.has_pattern_for(holder):
        name = holder  # a router goes by its own name as well
    if not parts or rule.has_pattern_for(name):
        rank = rule.for_layer(name) or 0
        return ParameterRank(rank, _alpha(rule.scaling_for(name), rank, rule))
    ranks = [rule.for_layer(f"{holder}.{part}") or 0 for part in parts]
    scalings = {rule.scaling_for(f"{holder}.{part}") for part in parts}
    if len(scalings) > 1:
        return None
    return ParameterRank(sum(ranks), _alpha(scalings.pop(), sum(ranks), rule))


def _alpha(scaling: float | None, rank: int, rule: RankRule) -> float:
    alpha = (scaling or 0.0) * (math.sqrt(rank) if rule.use_rslora else rank)
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-9) else alpha


def _part_name(place: Place) -> str:
    holder = place.name.rpartition(".")[0]
    return f"{holder}.{place.part}" if place.part else holder


def _saved_whole(targets: Targets, tree: ModuleTree) -> tuple[tuple[str, ...], tuple[str, ...]]:
    saved: dict[str, None] = {}
    unsaved = []
    for entry in targets.saved_whole:
        hits = [name for name in tree.modules if _ends(name, entry)]
        in_text = [name for name in hits if tree.tower_of(name) is None]
        saved.update(dict.fromkeys(in_text or hits))
        if not hits:
            unsaved.append(entry)
    return tuple(saved), tuple(unsaved)


def _ends(name: str, entry: str) -> bool:
    return name == entry or name.endswith(f".{entry}")
