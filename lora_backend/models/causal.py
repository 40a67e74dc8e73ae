"""Whether a model is one that writes on from its text, which is what is trained here: told from its `config.json`.

transformers says which families have such a class, in tables that stand in its source as plain lists; they are read
without importing it. Some families have one for a part that is no model of its own (BERT's as a decoder, Whisper's
decoder), so that being listed is not enough.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message

ALL, CAUSAL, MASKED, TEXT_TO_TEXT, SPEECH, IMAGE = (
    "MODEL_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
)
_KINDS = {
    SPEECH: N_("a model of speech"),
    TEXT_TO_TEXT: N_("an encoder-decoder"),
    IMAGE: N_("a vision-language model that transformers has no text class for"),
    MASKED: N_("an encoder, which reads text and writes none"),
}
"""Table → what its models are; the first that lists a model says it."""
_OTHER = N_("a model of another kind")


def why_not_causal(config: Mapping[str, Any]) -> Message | None:
    """Why the model of a `config.json` cannot be trained as a causal language model; None where it can.

    None also where transformers is not installed or does not know the family: whoever builds the model says that.
    """
    model_type, tables = config.get("model_type"), _tables()
    if not isinstance(model_type, str) or not any(model_type in table for table in tables.values()):
        return None
    is_encoder = model_type in tables[MASKED] and not (config.get("is_decoder") or config.get("causal"))
    has_encoder = model_type in tables[TEXT_TO_TEXT] | tables[SPEECH] and config.get("is_encoder_decoder", True)
    if model_type in tables[CAUSAL] and not is_encoder and not has_encoder:
        return None
    kind = next((said for table, said in _KINDS.items() if model_type in tables[table]), _OTHER)
    return Message(
        N_(
            "The model is {kind} ({model_type}); only causal language models, such as Llama or Qwen3, are trained here."
        ),
        {"kind": Message(kind), "model_type": model_type},
    )


def refuse_other_kinds(config: Mapping[str, Any]) -> None:
    """Raise `ModelError` for a model that is no causal language model."""
    why = why_not_causal(config)
    if why is not None:
        raise ModelError(why.template, **why.values)


@lru_cache(maxsize=1)
def _tables() -> dict[str, frozenset[str]]:
    """Table → the families in it (`model_type`); all of them empty without transformers."""
    found = {name: frozenset[str]() for name in (ALL, CAUSAL, *_KINDS)}
    package = importlib.util.find_spec("transformers")
    if package is None or package.origin is None:
        return found
    source = Path(package.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(source.read_text("utf-8")).body if source.is_file() else ():
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in found:
            found[node.targets[0].id] = frozenset(_first_words(node.value))
    return found


def _first_words(table: ast.expr) -> list[str]:
    """The first of each pair in `OrderedDict([("llama", "LlamaForCausalLM"), …])`."""
    pairs = [node for node in ast.walk(table) if isinstance(node, ast.Tuple) and len(node.elts) == 2]
    firsts = (pair.elts[0] for pair in pairs)
    return [first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)]
