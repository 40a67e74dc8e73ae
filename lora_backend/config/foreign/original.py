"""The YAML of the tool that this grew out of (its `loraTrainUtils.py`): most keys are ours under their old names."""

from __future__ import annotations

import re

from lora_backend.config.foreign import reasons as why
from lora_backend.config.foreign.common_rules import launcher_rank
from lora_backend.config.foreign.flat_source import Source
from lora_backend.config.foreign.key_mapping import (
    Carried,
    Rule,
    Tool,
    absent,
    as_taken,
    keep,
    keys,
    lost,
    nothing,
    number,
    take,
)
from lora_backend.config.schema import KEYS
from lora_backend.i18n import N_, Message, Plural

COUNTED = Plural(
    "Becomes `{target}`, which counts from 0, as it did there: block 0 gets no adapter, and a model with {count} block has no block {count}. If you meant every block, subtract one from each.",
    "Becomes `{target}`, which counts from 0, as it did there: block 0 gets no adapter, and a model with {count} blocks has no block {count}. If you meant every block, subtract one from each.",
)
PLACED = N_("`use_balanced_device_map` places the model.")

_PREDICTION = re.compile(
    r"predict|prompt|generat|infer|benchmark|temperature|top_[kp]$|max_new_tokens|^task$|max_token|depend|deprecat|^rag|_rag|pred_",
    re.IGNORECASE,
)
"""Keys of the same file that belong to asking the model afterwards."""


def _layers(source: Source, key: str) -> Carried:
    carried = as_taken("target_layers", source.get(key)) if source.get(key) is not None else nothing(N_("Not set."))
    layers = carried.target_value
    if not layers or layers != list(range(1, len(layers) + 1)):
        return carried
    return Carried("taken", why_counted(layers[-1]), "target_layers", layers)


def why_counted(last: int) -> Message:
    """What a list that begins at 1 did there, and does here."""
    return Message(COUNTED, {"target": "target_layers", "count": last})


def _device_map(source: Source, key: str) -> Carried:
    if source.get(key) == "auto" and source.get("use_balanced_device_map") is True:
        return nothing(PLACED)
    return nothing(N_("Not set.")) if source.get(key) is None else as_taken("device_map", source.get(key))


def _share(source: Source, key: str) -> Carried:
    share = number(source.get(key))
    return nothing(N_("All rows, as here.")) if source.get(key) is None or share == 1 else lost(why.ROWS)


def _prediction(key: str) -> Rule | None:
    return absent(why.GENERATION) if _PREDICTION.search(key) else None


DATA_KEYS = "corpus_path dataset_type data_path block_size codeParrotMixNumber santa_dataset_path granularity enable_description"
RULES: dict[str, Rule] = {
    **{key: keep(key) for key in KEYS},
    "target_layers": Rule(_layers, ("target_layers",)),
    "device_map": Rule(_device_map, ("device_map",)),
    "dropout": take("lora_dropout"),
    "loraadaptor_save_path_base": take("output_dir"),
    "traindata_percentage": Rule(_share, (), why.ROWS),
    "override_data_percentage": Rule(_share, (), why.ROWS),
    **{key: absent(why.DATA) for key in DATA_KEYS.split()},
    **{key: absent(why.DISTRIBUTED) for key in ("world_size", "num_gpus")},
    "rank": launcher_rank(),
    **{key: absent(why.LOGGING) for key in ("log_dir", "log_level", "base_output_dir")},
}

TOOL = Tool(
    id="original",
    title="loraTrainUtils",
    markers=keys(
        "alpha target_layers dropout loraadaptor_save_path_base traindata_percentage override_data_percentage "
        "use_balanced_device_map force_balance exclude_cpu min_memory_gb check_r_consistency strict_r_check pkg "
        "knowledge_type target_batch_size model_name precision"
    ),
    rules=RULES,
    defaults=lambda values: {},
    also=_prediction,
)
