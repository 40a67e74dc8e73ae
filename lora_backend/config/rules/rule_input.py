"""What a rule is given: the config under check, and the facts that are known of model, data and machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_backend.config.findings import Finding, Fix, Severity
from lora_backend.config.fix_offers import change
from lora_backend.config.schema import KEYS
from lora_backend.data.data_report import DataReport
from lora_backend.expressions.question import Question
from lora_backend.i18n import Message
from lora_backend.models.quantized import Quantized
from lora_backend.models.tree import ModuleTree


@dataclass(frozen=True)
class GpuFact:
    """One GPU of this machine."""

    name: str
    compute_capability: tuple[int, int]
    training_flops: float | None = None
    """Operations a second in the format that `precision: auto` takes, as its vendor says; None where nobody told us."""


@dataclass(frozen=True)
class Facts:
    """What is known of model, data and machine; None where nothing is, and then nothing is said about it."""

    num_blocks: int | None = None
    linear_names: tuple[str, ...] = ()
    """Whole names of the model's linear layers inside blocks."""
    linear_modules: tuple[str, ...] | None = None
    """Endings of the names of the model's linear layers (`q_proj`), empty where weights were not there to read."""
    outer_modules: tuple[str, ...] = ()
    """Endings of the names of what an adapter can sit on outside of the blocks (`embed_tokens`, `lm_head`)."""
    linear_width: Mapping[str, int] = field(default_factory=dict)
    """Ending → inputs plus outputs of all linear layers with it: an adapter has `r` times as many parameters."""
    has_experts: bool | None = None
    """Whether it is a mixture of experts."""
    max_positions: int | None = None
    """Tokens that the model was made for."""
    has_weights: bool | None = None
    not_causal: Message | None = None
    """Why the model is none that can be trained here."""
    quantized: Quantized | None = None
    """How its files are quantized already."""
    missing_for_model: tuple[str, ...] = ()
    """Packages that its files need and that are not installed here."""
    model_type: str | None = None
    """Its family, as its `config.json` says."""
    tree: ModuleTree | None = None
    """Its modules as transformers builds them, once that was done."""
    is_tied: bool | None = None
    """Whether its head and its embedding are the same weights."""
    has_tokenizer: bool | None = None
    has_chat_template: bool | None = None
    row_format: str | None = None
    """The form of the rows, by its word in `data_format`."""
    has_chats: bool | None = None
    """Whether a chat template has to write the rows."""
    num_rows: int | None = None
    data_reports: Mapping[str, DataReport] = field(default_factory=dict)
    """What was counted of the rows of each data set, by its name, with the model's tokenizer and the config's settings."""
    eval_reports: Mapping[str, DataReport] = field(default_factory=dict)
    """The same of the rows of `eval_dataset`."""
    gpus: tuple[GpuFact, ...] | None = None
    """Empty: this machine has none. None: nobody asked."""
    missing_packages: Mapping[str, str] = field(default_factory=dict)
    """Key → the package that its value needs and that is not installed here."""
    disk_free_bytes: int | None = None
    """Of the disk that holds the runs."""
    is_published: bool | None = None
    """Whether an adapter of ours stands already where this one would be published."""
    publication_forbidden: tuple[str, Message] | None = None
    """Why no adapter may be published there, and the key that says so."""
    publication_blocked_by: str | None = None
    """The path of what stands there and is no adapter of ours."""
    output_used_by: str | None = None
    """Id of a run that is under way and will publish to the same folder."""
    problems: tuple[tuple[Severity, str, Message], ...] = ()
    """What stood in the way of finding out: severity, key, sentence."""


@dataclass(frozen=True)
class ConfigView:
    """A config under check: what it says, on which line, and which keys are wrong by themselves already."""

    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    invalid: frozenset[str] = frozenset()
    expressions: Question | None = field(default_factory=Question, compare=False)
    """Where the config's expressions are matched, all by one deadline; None once the time is up."""

    def get(self, key: str) -> Any:
        """The value given, else the default."""
        return self.values[key] if key in self.values else KEYS[key].default

    def has_good(self, *keys: str) -> bool:
        """Whether none of `keys` is wrong by itself, so that a rule may read them."""
        return not self.invalid.intersection(keys)

    def finding(
        self,
        severity: Severity,
        code: str,
        key: str,
        message: Message,
        remedy: Message,
        *fixes: Fix | None,
    ) -> Finding:
        """A finding about `key`, on its line."""
        offered = tuple(fix for fix in fixes if fix is not None)
        return Finding(severity, code, message, remedy, key, self.lines.get(key), offered)

    def change(self, changes: Mapping[str, Any]) -> Fix:
        """A fix that sets keys, or takes them out (`DELETE`)."""
        return change(self.values, changes)


KeyCheck = Callable[[ConfigView], Iterator[Finding]]
FactCheck = Callable[[ConfigView, Facts], Iterator[Finding]]
