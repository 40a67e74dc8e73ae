"""Which parameter of a model each tensor of its files becomes, by transformers' own conversion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key


@dataclass(frozen=True)
class CheckpointNames:
    """Names in files and names in memory."""

    one_to_one: dict[str, str]
    """Parameter → the tensor of the files that is it, whatever it is called there."""
    converted: frozenset[str]
    """Parameters that are made of several tensors, or of another form of one."""


def checkpoint_names(base: PreTrainedModel, stored: Iterable[str]) -> CheckpointNames:
    """Of a model as it is built, without an adapter. A tensor that no parameter takes is in neither.

    As transformers reads a checkpoint: `convert_and_load_state_dict_in_model` in transformers/core_model_loading.py.
    """
    mapping = get_model_conversion_mapping(base)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    parameters, prefix = base.state_dict(), base.base_model_prefix
    one_to_one: dict[str, str] = {}
    converted: set[str] = set()
    for name in stored:
        parameter, pattern = rename_source_key(name, renamings, converters, prefix, parameters)
        if parameter not in parameters and name in parameters:
            parameter, pattern = rename_source_key(name, [], [], base_model_prefix=prefix, meta_state_dict=parameters)
        if parameter in parameters:
            if pattern is None:
                one_to_one[parameter] = name
            else:
                converter = next(entry for entry in converters if pattern in entry.source_patterns)
                first, *_ = converter.target_patterns
                converted |= {parameter, *(parameter.replace(first, other) for other in converter.target_patterns)}
    return CheckpointNames({k: v for k, v in one_to_one.items() if k not in converted}, frozenset(converted))
