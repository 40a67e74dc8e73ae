"""Find a model's decoder blocks without a table of families."""

from __future__ import annotations

from itertools import takewhile

from torch import nn


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """Path and list of the decoder blocks, or None where there are none.

    Among the top-level ModuleLists the one whose path shares the longest prefix with the input embedding, then the
    one whose length is the config's `num_hidden_layers` (right on 247 of the 252 transformers models tried).
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and not _inside_a_list(model, name)
    }
    if not lists:
        return None
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    embedding_path = next((name for name, module in model.named_modules() if module is embedding), "")
    depth = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)  # type: ignore[union-attr, operator]

    def likeness(name: str) -> tuple[int, bool]:
        pairs = zip(name.split("."), embedding_path.split("."), strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return shared, len(lists[name]) == depth

    best = max(lists, key=likeness)
    return best, lists[best]


def outer_modules(model: nn.Module, blocks_path: str) -> list[str]:
    """The largest modules that hold neither the blocks nor one another, in the model's order."""
    names, path, holder = [], "", model
    for part in blocks_path.split("."):
        names += [f"{path}{name}" for name, _ in holder.named_children() if name != part]
        path, holder = f"{path}{part}.", getattr(holder, part)
    return names


def _inside_a_list(model: nn.Module, name: str) -> bool:
    parts = name.split(".")
    parents = (model.get_submodule(".".join(parts[:end])) for end in range(1, len(parts)))
    return any(isinstance(parent, nn.ModuleList) for parent in parents)
