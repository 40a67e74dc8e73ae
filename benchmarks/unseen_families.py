"""Predicted memory against a full trace for every causal family that the catalogue lacks: transformers' default config, at
its own width, with at most six blocks.

Rows and lengths differ from the sizes that are traced for a profile. Both sides without the adapter and the optimizer's
states, which are counted, not predicted.

    python -m benchmarks.unseen_families                every family
    python -m benchmarks.unseen_families mamba2 bamba   these
"""

from __future__ import annotations

import json
import logging
import signal
import statistics
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from benchmarks.memory_prediction import CONFIG, predicted_bytes, settings_for
from lora_backend.errors import FlightdeckError, first_line
from lora_backend.modeling.meta import model_config
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.trace import full_trace
from lora_backend.modeling.trace_sizes import max_positions
from lora_backend.models.catalogue import catalogue
from lora_backend.models.causal import refuse_other_kinds
from lora_backend.planning.cost.scaling import Size

BLOCKS, TOKENS, PADDED_TOKENS, SECONDS = 6, 1000, 333, 150
DEPTH = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    known = {model.model_type for model in catalogue()}
    wanted = sys.argv[1:] or [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in known]
    errors: list[float] = []
    print("family | one row: method, profile − trace | three padded rows: method, profile − trace")
    for family in wanted:
        cells = [_cell(family, rows, errors) for rows in (1, 3)]
        print(" | ".join([family, *cells]), flush=True)
    sizes = sorted(map(abs, errors))
    if sizes:
        print(
            f"{len(sizes)} predictions, {sum(not size for size in sizes)} equal to the byte: median {statistics.median(sizes):.4%}, worst {sizes[-1]:.3%}"
        )


def shallow_facts(family: str) -> dict[str, Any]:
    """The family's default config with at most `BLOCKS` blocks, as its config.json would say it."""
    facts: dict[str, Any] = json.loads(AutoConfig.for_model(family).to_json_string(use_diff=False))
    parts = [facts, *(part for part in facts.values() if isinstance(part, dict) and "model_type" in part)]
    for part in parts:
        depth = next((part[name] for name in DEPTH if isinstance(part.get(name), int)), None)
        if depth is None or depth <= BLOCKS:
            continue
        part.update({name: BLOCKS for name in DEPTH if name in part})
        part.update(
            {key: value[:BLOCKS] for key, value in part.items() if isinstance(value, list) and len(value) == depth}
        )
    return facts


def _cell(family: str, rows: int, errors: list[float]) -> str:
    try:
        with _at_most(SECONDS):
            facts = shallow_facts(family)
            refuse_other_kinds(facts)
            tokens = min(TOKENS if rows == 1 else PADDED_TOKENS, max_positions(model_config(facts)) or TOKENS)
            config = CONFIG.model_copy(update={"batch_size": rows, "max_length": tokens})
            settings = settings_for(facts, tokens, uneven=rows > 1)
            profile = profile_for(facts, config)
            size = Size(rows, tokens, config.r)
            weights, moving = predicted_bytes(profile, size)
            if profile.method == "formula":
                return "formula"
            whole = sum(full_trace(facts, config, settings, size))
    except FlightdeckError as error:
        return f"refused: {str(error)[:90]}"
    except Exception as error:  # whatever a family's defaults do
        return f"none: {type(error).__name__}: {str(first_line(error))[:80]}"
    errors.append((weights + moving) / whole - 1)
    return f"{profile.method} {errors[-1]:+.3%}"


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
