"""The columns of an evaluation, one after the other, on one base model that is loaded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from peft import PeftModel
from transformers import PreTrainedModel

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.launching.evaluation_request import adapter_config
from lora_backend.modeling.adapter import refuse_slow_expressions
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.runs.record.job_documents import Column
from lora_backend.verification.start_adapter import TAKES_FROM_BASE

logger = logging.getLogger(__name__)


def each_column(
    columns: Sequence[Column], load: Callable[[], PreTrainedModel]
) -> Iterator[tuple[int, PreTrainedModel | PeftModel]]:
    """Each column's place and its model, to be used before the next is asked for.

    An adapter is put on the bare base and taken off again, so that no column knows of another. The base alone comes
    first, and last come adapters that leave it changed, behind which it is loaded anew. Raises
    `ModelError` where an adapter does not arrive whole.
    """
    base: PreTrainedModel | None = None
    for place in sorted(range(len(columns)), key=lambda place: _order(columns[place])):
        base = base or load()
        column = columns[place]
        if column.adapter is None:
            yield place, base
            continue
        model = _with_adapter(base, column)
        yield place, model
        base = None if _changes_base(Path(column.adapter)) else model.unload()
        del model


def _with_adapter(base: PreTrainedModel, column: Column) -> PeftModel:
    folder = Path(column.adapter or "")
    refuse_slow_expressions(adapter_config(folder), (name for name, _ in base.named_modules()))
    loaded = load_adapter(base, folder)
    if loaded.is_refused or loaded.differences:
        raise ModelError(
            N_("The adapter {adapter} does not fit the base model: {name}. Run `verify` on it to see what differs."),
            adapter=column.label,
            name=loaded.differences[0].name if loaded.differences else "–",
        )
    logger.info("adapter %s is loaded", column.adapter)
    return loaded.model


def _order(column: Column) -> int:
    return 0 if column.adapter is None else 1 + _changes_base(Path(column.adapter))


def _changes_base(folder: Path) -> bool:
    """Whether the base model is another when the adapter has been taken off: PEFT writes into its own weights (PiSSA,
    biases, replicated layers), and leaves modules that were saved whole in the place of its own."""
    config = adapter_config(folder)
    takes = str(config.get("init_lora_weights")).lower().startswith(TAKES_FROM_BASE)
    biased = config.get("bias", "none") != "none"
    return takes or biased or any(config.get(key) for key in ("layer_replication", "modules_to_save"))
