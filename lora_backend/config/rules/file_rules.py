"""What can be wrong with the file, or with a key by itself; found where the file is read and held against the schema."""

from __future__ import annotations

from lora_backend.config.rules.example_facts import missing_file
from lora_backend.config.rules.rule import NOTHING_KNOWN, Rule
from lora_backend.i18n import N_

MISSING_KEY = Rule(
    "missing_key",
    "error",
    N_("Choose a base model: `{key}` is missing."),
    N_("Name a model's folder or a hub id: `{key}: …`."),
    broken="r: 8",
    fixed="model_name: m\nr: 8",
    is_whole_file=True,
)

SYNTAX = Rule(
    "syntax",
    "error",
    None,
    N_("Fix the file there; none of it was used."),
    broken="r: [1, 2",
    fixed="target_layers: [1, 2]",
)

DUPLICATE_KEY = Rule(
    "duplicate_key",
    "error",
    N_("`{key}` appears twice, on line {first} and again on line {second}."),
    N_("Keep one of the two lines."),
    broken="r: 8\nr: 16",
    fixed="r: 8\nalpha: 16",
)

UNKNOWN_KEY = Rule(
    "unknown_key",
    "error",
    N_("`{key}` is not a key of a training config; it would be ignored."),
    N_("Remove the line."),
    broken="lora_rank: 8",
    fixed="r: 8",
)

CACHE_WITH_CHECKPOINTING = Rule(
    "cache_with_checkpointing",
    "error",
    N_("`use_cache` is not a key of a training config: the cache is for generating, and off while training."),
    N_("Remove the line."),
    broken="gradient_checkpointing: true\nuse_cache: true",
    fixed="gradient_checkpointing: true",
)

FOREIGN_CONFIG = Rule(
    "foreign_config",
    "error",
    N_("This is a config of {title}, not of LoRA Flightdeck."),
    N_("Convert it; on the command line: `python -m lora_backend import FILE`."),
    broken="lora_rank: 8\nlora_alpha: 32\nlora_target: all\ncutoff_len: 2048",
    fixed="r: 8\nalpha: 32\ntarget_modules: all-linear\nmax_length: 2048",
)

WRONG_TYPE = Rule(
    "wrong_type",
    "error",
    N_("`{key}` is {value}, but must be {expected}."),
    N_("Change the value of `{key}`."),
    broken='r: "16"',
    fixed="r: 16",
)

OUT_OF_RANGE = Rule(
    "out_of_range",
    "error",
    N_("`{key}` is {value}, but must be {expected}."),
    N_("Change the value of `{key}`."),
    broken="lora_dropout: 1.0",
    fixed="lora_dropout: 0.9",
)

MISSING_PART = Rule(
    "missing_part",
    "error",
    N_("`{key}` is missing."),
    N_("Add it to `{entry}`."),
    broken="datasets:\n- share: 2",
    fixed="datasets:\n- path: a.jsonl\n  share: 2",
)

UNKNOWN_PART = Rule(
    "unknown_part",
    "error",
    N_("`{key}` is not a known key; it would be ignored."),
    N_("Remove it; an entry can have {keys}."),
    broken="datasets:\n- path: a.jsonl\n  weight: 2",
    fixed="datasets:\n- path: a.jsonl\n  share: 2",
)

UNUSABLE_WORD = Rule(
    "unusable_word",
    "error",
    None,
    N_("Set another `{key}`, or remove it (the default is {default})."),
    broken="lr_scheduler_type: reduce_lr_on_plateau",
    fixed="lr_scheduler_type: cosine",
)

LEADING_ZERO = Rule(
    "leading_zero",
    "warning",
    N_("`{key}: {written}` is read as {value} here; other YAML readers read it as octal or as text."),
    N_('Write `{key}: {value}`, or in quotes if the zero is part of a name: `{key}: "{written}"`.'),
    broken="seed: 010",
    fixed="seed: 10",
)

YAML_1_1 = Rule(
    "yaml_1_1",
    "hint",
    N_("`{key}: {written}` is text here, but tools that read YAML 1.1 read it as something else."),
    N_('Write it in quotes: `{key}: "{written}"`.'),
    broken="knowledge_type: 1:30\npkg: p\nversion: v",
    fixed='knowledge_type: "1:30"\npkg: p\nversion: v',
)

FULL_WIDTH = Rule(
    "full_width",
    "warning",
    N_("`{key}` is {value}, which contains full-width characters that look like ordinary ones."),
    N_("Write {plain}."),
    broken="output_dir: ａｄａｐｔｅｒｓ",
    fixed="output_dir: adapters",
)

_CHANGE_OR_PUT = N_("Change `{key}`, or put the right file where it points.")

MODEL_NAME_UNUSABLE = Rule(
    "model_name_unusable",
    "warning",
    None,
    _CHANGE_OR_PUT,
    broken="",
    fixed="",
    facts=missing_file("model_name", N_("There is no model folder {path}. Check `model_name`."), "m"),
    fixed_facts=NOTHING_KNOWN,
)

DATASET_UNUSABLE = Rule(
    "dataset_unusable",
    "warning",
    None,
    _CHANGE_OR_PUT,
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=missing_file("dataset", N_("There is no data set {path}. Check the path."), "d.jsonl"),
    fixed_facts=NOTHING_KNOWN,
)

DATASETS_UNUSABLE = Rule(
    "datasets_unusable",
    "warning",
    None,
    _CHANGE_OR_PUT,
    broken="datasets:\n- path: d.jsonl",
    fixed="datasets:\n- path: d.jsonl",
    facts=missing_file("datasets", N_("There is no data set {path}. Check the path."), "d.jsonl"),
    fixed_facts=NOTHING_KNOWN,
)

EVAL_DATASET_UNUSABLE = Rule(
    "eval_dataset_unusable",
    "warning",
    None,
    _CHANGE_OR_PUT,
    broken="eval_dataset: e.jsonl\neval_strategy: epoch",
    fixed="eval_dataset: e.jsonl\neval_strategy: epoch",
    facts=missing_file("eval_dataset", N_("There is no data set {path}. Check the path."), "e.jsonl"),
    fixed_facts=NOTHING_KNOWN,
)

QUESTIONS_UNUSABLE = Rule(
    "questions_unusable",
    "warning",
    None,
    _CHANGE_OR_PUT,
    broken="questions: q.jsonl",
    fixed="questions: q.jsonl",
    facts=missing_file("questions", N_("There is no data set {path}. Check the path."), "q.jsonl"),
    fixed_facts=NOTHING_KNOWN,
)

INIT_FROM_ADAPTER_UNUSABLE = Rule(
    "init_from_adapter_unusable",
    "warning",
    None,
    N_("Change `{key}`, or the keys of the adapter."),
    broken="init_from_adapter: a",
    fixed="init_from_adapter: a",
    facts=missing_file("init_from_adapter", N_("There is no adapter folder {path}. Check `init_from_adapter`."), "a"),
    fixed_facts=NOTHING_KNOWN,
)

UNUSABLE = {
    "model_name": MODEL_NAME_UNUSABLE,
    "dataset": DATASET_UNUSABLE,
    "datasets": DATASETS_UNUSABLE,
    "eval_dataset": EVAL_DATASET_UNUSABLE,
    "questions": QUESTIONS_UNUSABLE,
    "init_from_adapter": INIT_FROM_ADAPTER_UNUSABLE,
}
"""Key → the rule about its file."""

RULES = (
    MISSING_KEY,
    SYNTAX,
    DUPLICATE_KEY,
    UNKNOWN_KEY,
    FOREIGN_CONFIG,
    WRONG_TYPE,
    MISSING_PART,
    UNKNOWN_PART,
    UNUSABLE_WORD,
    OUT_OF_RANGE,
    CACHE_WITH_CHECKPOINTING,
    LEADING_ZERO,
    YAML_1_1,
    FULL_WIDTH,
)
