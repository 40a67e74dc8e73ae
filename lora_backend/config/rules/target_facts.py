"""Rules about what `target_modules` means in a family: mixtures of experts, towers beside the text model, Mamba."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.refused_targets import is_refused, left_out
from lora_backend.models.tree import ModuleTree

SOME_NAMES = "q_proj, k_proj, v_proj, o_proj"
"""Stands for the names where the model's own are not known."""

EXPERTS_ALL_LINEAR = Rule(
    "experts_all_linear",
    "warning",
    N_(
        "The model is a mixture of experts. In some families `all-linear` adapts every expert, which takes much more memory and time; the plan shows it."
    ),
    N_("Name the attention's layers, for example `target_modules: [{names}]`, if that is not what you want."),
    broken="target_modules: all-linear",
    fixed="target_modules: [q_proj]",
    facts=Facts(has_experts=True),
)


def _experts(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """PEFT merges an expert's weights anew for each forward pass: about 2.7 GiB a Mixtral layer (peft issue 3577)."""
    targets = config.get("target_modules") if config.has_good("target_modules") else None
    tree = facts.tree
    has_experts = facts.has_experts if tree is None else bool(tree.experts)
    if not has_experts or not isinstance(targets, str) or targets.lower() != "all-linear":
        return
    counted = None if tree is None else _adapted_experts(tree)
    if tree is not None and not tree.all_linear_parameters:
        experts = {"names": ", ".join(_of_experts(tree)) or SOME_NAMES}
        to_train_them = N_("Name {names} in `target_modules` to train the experts too.")
        yield EXPERTS_ALL_LINEAR.found(
            config, "target_modules", experts, severity="hint", sentence=counted, remedy=to_train_them
        )
        return
    attention = _of_attention(facts.linear_names if tree is None else tree.all_linear)
    names = {"names": ", ".join(attention) or SOME_NAMES}
    fix = config.change({"target_modules": attention}) if attention else None
    yield EXPERTS_ALL_LINEAR.found(config, "target_modules", names, fix, sentence=counted)


def _adapted_experts(tree: ModuleTree) -> Message:
    """What `all-linear` means in this mixture, counted."""
    shared = sum("shared_expert" in name for name in tree.all_linear)
    routers = sum(name.removesuffix(".weight") in tree.routers for name in tree.all_linear_parameters)
    values = {
        "experts": tree.num_experts,
        "shared": Message(
            Plural("{count} layer of shared experts", "{count} layers of shared experts"), {"count": shared}
        ),
        "routers": Message(Plural("{count} router", "{count} routers"), {"count": routers}),
        "others": Message(
            Plural("{count} other linear layer", "{count} other linear layers"),
            {"count": len(tree.all_linear) - shared},
        ),
        "parameters": ", ".join(_of_experts(tree)),
    }
    if tree.all_linear_parameters and not shared:
        return Message(
            N_(
                "`all-linear` adapts all {experts} experts ({parameters}), {routers} and {others} of this model, which takes much more memory and time than attention alone."
            ),
            values,
        )
    if not shared:
        return Message(
            N_(
                "`all-linear` leaves the {experts} experts of this model and its routers as they are: it adapts {others}."
            ),
            values,
        )
    if tree.all_linear_parameters:
        return Message(
            N_(
                "`all-linear` adapts all {experts} experts ({parameters}), {routers}, {shared} and {others} of this model, which takes much more memory and time than attention alone."
            ),
            values,
        )
    return Message(
        N_(
            "`all-linear` leaves the {experts} experts of this model and its routers as they are: it adapts {shared} and {others}."
        ),
        values,
    )


def _of_experts(tree: ModuleTree | None) -> list[str]:
    """What the experts' matrices are called in `target_modules`."""
    names = (
        dict.fromkeys(part for name, parts in tree.experts.items() for part in parts or [name.rpartition(".")[2]])
        if tree
        else {}
    )
    return list(names)


def _of_attention(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names if "attn" in name or "attention" in name))


TOWERS_LEFT_ALONE = Rule(
    "towers_left_alone",
    "hint",
    N_(
        "`target_modules` covers only the text model: {towers} get no adapter, because rows of text do not pass through them."
    ),
    N_("To adapt them anyway, include the tower's name in the module names."),
    broken="target_modules: all-linear",
    fixed="target_modules: all-linear",
    facts=Facts(tree=ModuleTree("gemma3", {}, {}, towers=("model.vision_tower", "model.multi_modal_projector"))),
    fixed_facts=Facts(tree=ModuleTree("gemma3_text", {}, {})),
)


def _towers(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Nothing of a row of text passes through a vision or audio tower, so an adapter there learns nothing."""
    targets = config.get("target_modules") if config.has_good("target_modules") else None
    tree = facts.tree
    if tree is None or not tree.towers or targets is None:
        return
    if isinstance(targets, list):
        alike = [name for name in tree.linear if any(name.endswith(f".{target}") for target in targets)]
        if not {tree.tower_of(name) is None for name in alike} >= {True, False}:
            return
    elif targets.lower() != "all-linear":
        return
    values = {"towers": ", ".join(name.rpartition(".")[2] for name in tree.towers)}
    yield TOWERS_LEFT_ALONE.found(config, "target_modules", values)


REFUSED_TARGET = Rule(
    "refused_target",
    "warning",
    N_("PEFT puts no LoRA on {names} of {family} models: Mamba's kernels read these weights directly."),
    N_("Name the other layers: `target_modules: [{kept}]`."),
    broken="target_modules: [in_proj, out_proj]",
    fixed="target_modules: [in_proj, x_proj]",
    facts=Facts(model_type="mamba", linear_modules=("in_proj", "x_proj", "out_proj")),
)


def _refused(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Known of the family and the names in its files; of the model's modules a blocker says the same."""
    targets = config.get("target_modules") if config.has_good("target_modules") else None
    if facts.tree is not None or not isinstance(targets, list):
        return
    named = targets
    refused = [name for name in named if is_refused(name, facts.model_type)]
    if refused:
        kept = [name for name in named if name not in refused]
        values = {"names": ", ".join(refused), "family": facts.model_type, "kept": ", ".join(kept)}
        yield REFUSED_TARGET.found(
            config, "target_modules", values, config.change({"target_modules": kept}) if kept else None
        )


ALL_LINEAR_LEAVES_OUT = Rule(
    "all_linear_leaves_out",
    "hint",
    None,
    N_("Name the layers in `target_modules` yourself to adapt fewer."),
    broken="target_modules: all-linear",
    fixed="target_modules: [in_proj, x_proj]",
    facts=Facts(model_type="mamba", linear_modules=("in_proj", "x_proj", "out_proj")),
)


def _left_out(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    targets = config.get("target_modules") if config.has_good("target_modules") else None
    found = left_out(facts.model_type)
    if found is not None and isinstance(targets, str) and targets.lower() == "all-linear":
        yield ALL_LINEAR_LEAVES_OUT.found(config, "target_modules", sentence=found)


RULES = (
    EXPERTS_ALL_LINEAR,
    TOWERS_LEFT_ALONE,
    REFUSED_TARGET,
    ALL_LINEAR_LEAVES_OUT,
)
CHECKS: tuple[FactCheck, ...] = (_experts, _towers, _refused, _left_out)
