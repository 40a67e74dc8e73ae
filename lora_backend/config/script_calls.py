"""What a script hands to the libraries: keywords of PEFT's, transformers', TRL's and Unsloth's calls, and their classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence, Set

from lora_backend.config.foreign.key_meanings import targets_of
from lora_backend.config.script_options import Group, Option, Remark, keywords_of, last_name
from lora_backend.i18n import N_, Message

CONFIGS = {"LoraConfig", "TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "BitsAndBytesConfig"}
"""Classes whose keywords are the config of a training."""
TRAINERS = {"SFTTrainer", "Trainer", "Seq2SeqTrainer"}
"""Beside their objects, older versions took numbers as well."""
LOADING = {
    "model_name", "pretrained_model_name_or_path", "max_seq_length", "load_in_4bit", "load_in_8bit", "dtype",
    "torch_dtype", "attn_implementation", "full_finetuning", "device_map",
}  # fmt: skip
"""Keywords of `from_pretrained` that decide the training."""
OBJECTS = {"model", "train_dataset", "eval_dataset", "args", "peft_config", "tokenizer", "processing_class"}
"""What a trainer is handed beside its settings."""
PARSERS = {"HfArgumentParser", "TrlParser", "H4ArgumentParser"}


def call_options(nodes: Sequence[ast.AST], declared: Set[str]) -> Iterator[Group]:
    """The keywords of each call, in order; a model's name is its first argument.

    What is handed on of a `declared` option (`args.lora_r`, `lora_r`) is left out: that option speaks for itself.
    """
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = last_name(call)
        found = [option for option in _options(call, name) if not _is_handed_on(option.node, declared)]
        if found:
            yield Message(N_("the call of `{name}`"), {"name": name}), found


def _options(call: ast.Call, name: str) -> Iterator[Option]:
    keywords = keywords_of(call)
    if name == "from_pretrained":
        if not _loads_a_model(call):
            return
        if call.args:
            yield Option("model_name", call.args[0].lineno, call.args[0])
        keywords = {key: node for key, node in keywords.items() if key in LOADING}
    elif name in TRAINERS or name == "get_peft_model":
        keywords = {key: node for key, node in keywords.items() if _is_setting(key, node)}
    elif name not in CONFIGS:
        return
    yield from (Option(key, node.lineno, node) for key, node in keywords.items())


def _is_setting(key: str, node: ast.expr) -> bool:
    """Whether a keyword is a setting; what is computed counts where its name is known."""
    return key not in OBJECTS and (bool(targets_of(key)) or isinstance(node, ast.Constant | ast.List))


def _loads_a_model(call: ast.Call) -> bool:
    """`AutoModelForCausalLM`, `FastLanguageModel`; not a tokenizer, nor an adapter."""
    owner = last_name(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    return owner.startswith(("AutoModel", "Fast")) or owner.endswith("ForCausalLM")


def _is_handed_on(node: ast.expr | None, declared: Set[str]) -> bool:
    is_name = isinstance(node, ast.Name) and node.id in declared
    return is_name or (isinstance(node, ast.Attribute) and node.attr in declared)


def classes_from_elsewhere(nodes: Sequence[ast.AST]) -> Iterator[Remark]:
    """Dataclasses that a parser of transformers or TRL takes its options from, and that the script only imports."""
    own = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    modules = {
        alias.asname or alias.name: node.module or "."
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    lists = {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    }
    for call in nodes:
        if isinstance(call, ast.Call) and last_name(call) in PARSERS:
            given = call.args[0] if call.args else keywords_of(call).get("dataclass_types")
            if isinstance(given, ast.Name) and given.id in lists:
                given = lists[given.id]
            items = given.elts if isinstance(given, ast.Tuple | ast.List) else [given] if given is not None else []
            for item in items:
                name = last_name(item)
                if name in modules and name not in own:
                    said = {"name": name, "module": modules[name]}
                    message = Message(N_("The options of `{name}` are defined in `{module}`; they are not read."), said)
                    yield Remark(call.lineno, name, message)
