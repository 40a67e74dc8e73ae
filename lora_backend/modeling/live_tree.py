"""Read the module tree of a base model off a model in memory or on the meta device, with an adapter or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer, _check_lora_target_modules_mamba
from peft.utils import transformers_weight_conversion as weight_conversion
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, get_model_conversion_mapping
from transformers.pytorch_utils import Conv1D

from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.lora_layers import TARGETABLE
from lora_backend.models.tree import ModuleTree
from lora_backend.verification.shapes import canonical_name

INSIDE_ADAPTERS = ("modules_to_save", "token_adapter")


def tree_of_model(model: nn.Module) -> ModuleTree:
    """The tree of the base model in memory, or on the meta device; of one with an adapter, as it was without."""
    base = next(module for module in model.modules() if isinstance(module, PreTrainedModel))
    modules = dict(_modules(base))
    head, embedding = (_name_of(base, part) for part in (base.get_output_embeddings(), base.get_input_embeddings()))  # type: ignore[operator]
    parameters, tied = _parameters(base)
    found = find_blocks(base)
    blocks = found[0] if found else None
    return ModuleTree(
        model_type=str(base.config.model_type),
        modules={name: type(module).__name__ for name, module in modules.items()},
        parameters=parameters,
        tied=tied,
        embedding=embedding,
        head=head,
        blocks=blocks,
        num_blocks=len(found[1]) if found else 0,
        linear=tuple(n for n, module in modules.items() if isinstance(module, nn.Linear | Conv1D) and n != head),
        targetable=tuple(name for name, module in modules.items() if _is_targetable(module)),
        towers=_towers(modules, parameters, blocks, embedding, head),
        experts=_experts(base, modules, parameters),
        routers=tuple(name for name, module in modules.items() if _is_router(module)),
        rewritten=_rewritten(base),
        refused=_refused(base, modules),
    )


def _modules(base: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Name → module, without what adapters put around or into them."""
    for name, module in base.named_modules():
        if not name or _is_inside_adapter(name) or isinstance(module, BaseTunerLayer):
            continue
        whole = module.original_module if isinstance(module, AuxiliaryTrainingWrapper) else module
        if not isinstance(whole, BaseTunerLayer):
            yield _plain(name), whole


def _parameters(base: nn.Module) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Name → shape, and tied name → the first of the same tensor."""
    first: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    tied: dict[str, str] = {}
    for raw, parameter in base.named_parameters(remove_duplicate=False):
        if _is_inside_adapter(raw):
            continue
        name = _plain(raw)
        known = first.setdefault(id(parameter), name)
        if known == name:
            shapes[name] = tuple(parameter.shape)
        else:
            tied[name] = known
    return shapes, tied


def _is_inside_adapter(name: str) -> bool:
    return any(part.startswith("lora_") or part in INSIDE_ADAPTERS for part in name.split("."))


def _plain(name: str) -> str:
    return canonical_name(name).replace(".original_module", "")


def _name_of(base: nn.Module, wanted: nn.Module | None) -> str | None:
    names = (name for name, module in base.named_modules() if module is wanted and name)
    return next(map(_plain, names), None) if wanted is not None else None


def _is_targetable(module: nn.Module) -> bool:
    """By type, or what quantized layers of other packages have in common."""
    return isinstance(module, TARGETABLE) or (hasattr(module, "in_features") and hasattr(module, "out_features"))


def _is_router(module: nn.Module) -> bool:
    """A module that chooses experts by a matrix of its own: `MixtralTopKRouter`, `MoEGate`."""
    weight = module._parameters.get("weight")
    name = type(module).__name__.lower()
    return (
        not _is_targetable(module) and weight is not None and weight.dim() == 2 and ("router" in name or "gate" in name)
    )


def _towers(
    modules: Mapping[str, nn.Module],
    parameters: Mapping[str, Any],
    blocks: str | None,
    embedding: str | None,
    head: str | None,
) -> tuple[str, ...]:
    """The outermost modules with weights that hold neither the text's embedding nor its blocks nor its head."""
    if blocks is None or embedding is None:
        return ()
    root: list[str] = []
    for one, other in zip(blocks.split(".")[:-1], embedding.split(".")[:-1], strict=False):
        if one != other:
            break
        root.append(one)
    if not root:
        return ()
    head_side = (head or "").rpartition(".")[0] or head
    text = [".".join(root), *([head_side] if head_side else [])]
    found: list[str] = []
    for name in modules:
        is_text = any(f"{name}.".startswith(f"{part}.") or part.startswith(f"{name}.") for part in text)
        if is_text or any(name.startswith(f"{tower}.") for tower in found):
            continue
        if any(parameter.startswith(f"{name}.") for parameter in parameters):
            found.append(name)
    return tuple(found)


def _experts(
    base: PreTrainedModel, modules: Mapping[str, nn.Module], parameters: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, ...]]:
    """Parameters with a matrix for each expert, and what transformers makes each of when it reads the model's files."""
    parts: dict[str, tuple[str, ...]] = {}
    for conversion in get_model_conversion_mapping(base):
        if len(conversion.target_patterns) == 1:
            target = conversion.target_patterns[0].replace("\\", "")
            sources = (source.replace("\\", "").removesuffix(".weight") for source in conversion.source_patterns)
            parts[f".{target.removeprefix('.')}"] = tuple(source.rpartition(".")[2] for source in sources)
    return {
        name: next((found for target, found in parts.items() if name.endswith(target)), ())
        for name, shape in parameters.items()
        if len(shape) == 3 and _holds_experts(name.rpartition(".")[0], modules)
    }


def _holds_experts(owner: str, modules: Mapping[str, nn.Module]) -> bool:
    return owner in modules and "expert" in f"{owner.rpartition('.')[2]} {type(modules[owner]).__name__}".lower()


def _rewritten(base: PreTrainedModel) -> tuple[str, ...]:
    """PEFT: `_convert_peft_config_moe` in peft/utils/transformers_weight_conversion.py."""
    family = weight_conversion._MODEL_TO_CONVERSION_PATTERN.get(base.config.model_type)
    if (
        get_checkpoint_conversion_mapping(base.config.model_type) is None
        or family not in weight_conversion._MOE_FUSED_TARGETS
    ):
        return ()
    return tuple(weight_conversion._MOE_TARGET_MODULE_MAPPING.get(family, ()))


def _refused(base: PreTrainedModel, modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """PEFT: `_check_lora_target_modules_mamba` in peft/tuners/tuners_utils.py."""
    config, refused = LoraConfig(), set()
    for ending in {name.rpartition(".")[2] for name in modules}:
        try:
            _check_lora_target_modules_mamba(config, base, ending)
        except ValueError:
            refused.add(ending)
    return tuple(
        name for name, module in modules.items() if name.rpartition(".")[2] in refused and _is_targetable(module)
    )
