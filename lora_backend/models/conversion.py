"""Whether transformers calls a model's tensors in memory by other names than its files do.

It fuses the experts of a mixture into one parameter, and moves the towers of a vision-language model. The table is
transformers' own, read as text: to import it would import torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CLASS = re.compile(r"(Model|Backbone|Encoder|Decoder|For[A-Z]\w+)$")
DEEPEST = 4
"""Configs in configs: of text, of vision, of a thinker's text."""


def converts_names(facts: Mapping[str, Any]) -> bool:
    """Whether anything that a `config.json` names is in transformers' table, or there is no telling: a model with
    other models in it may be loaded as its text part alone, under shorter names."""
    table = converted()
    has_parts = any(isinstance(part, Mapping) and "model_type" in part for part in facts.values())
    return (
        table is None
        or has_parts
        or isinstance(facts.get("text_config"), Mapping)
        or any(name in table or name.replace("_", "") in table for name in _names(facts, DEEPEST))
    )


@lru_cache(maxsize=1)
def converted() -> frozenset[str] | None:
    """Model types and classes whose tensors get other names; None where transformers has no such table.

    Of a class (`GPTNeoXForCausalLM`) its stem too (`gptneox`), for a `config.json` need not name its class.
    """
    spec = find_spec("transformers")
    try:
        text = (Path(str(spec and spec.origin)).parent / "conversion_mapping.py").read_text("utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return None
    assigned = [node for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    names = {name for node in assigned for name in _keys(node)} - {"legacy"}
    return frozenset(names | {stem.lower() for name in names if (stem := _CLASS.sub("", name)) != name})


def _keys(node: ast.Assign) -> Iterator[str]:
    """`mapping = {"a": …}` and `mapping["a"] = …`."""
    keys = list(node.value.keys) if isinstance(node.value, ast.Dict) else []
    keys += [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
    for key in keys:
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _names(facts: Mapping[str, Any], depth: int) -> Iterator[str]:
    yield str(facts.get("model_type"))
    classes = facts.get("architectures")
    yield from map(str, classes if isinstance(classes, list) else ())
    for part in facts.values():
        if isinstance(part, Mapping) and depth:
            yield from _names(part, depth - 1)
