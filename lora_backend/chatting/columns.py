"""One base model in memory with several adapters: which of them answers is switched, and nothing is loaded twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lora_backend.chatting.sharing import refuse_other_weights, refuse_unshareable
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.modeling.adapter import refuse_slow_expressions
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.modeling.loaded_identity import load_adapter, read_tensors
from lora_backend.models.describe import describe_model
from lora_backend.models.find import find_model
from lora_backend.runs.record.job_documents import Column
from lora_backend.tokens.end_of_turn import end_of_turn, stops_of
from lora_backend.verification.adapter_folder import adapter_within, read_adapter_config
from lora_backend.verification.base_words import WHAT_DIFFERS
from lora_backend.verification.other_base import FindBase

OnProgress = Callable[[Message, float], None]
MOST_KEPT = 6
"""Adapters in memory; the one that was asked for the longest ago leaves it."""
FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


class ChatModel:
    """A base model, its tokenizer, and the adapters that are on it. Made by `load_columns`."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, name: str, find_base: FindBase
    ) -> None:
        self.model = model
        """The base model; with an adapter in use, its layers add what that learned."""
        self.tokenizer = tokenizer
        self.base_model = name
        """As it was asked for."""
        self.path = path
        self.max_positions = describe_model(path).max_positions
        given = model.generation_config.eos_token_id
        own = tuple(given) if isinstance(given, list) else () if given is None else (given,)
        self._stops = end_of_turn(tokenizer, own).stops
        self._find_base = find_base
        self._peft: PeftModel | None = None
        self._kept: dict[tuple[object, ...], str] = {}
        """Folder and the state of its files → PEFT's name of it; the one that was asked for last at the end."""
        self._by_label: dict[str, tuple[str | None, Path | None]] = {}
        self._in_use: str | None = None
        self._set: str | None = None
        """The adapter that answers where adapters are on at all."""
        self._layers: list[BaseTunerLayer | AuxiliaryTrainingWrapper] = []
        self._num_loaded = 0
        self._is_broken = False

    @property
    def is_broken(self) -> bool:
        """Whether an adapter was refused halfway, so that the base model is not what it was: load it anew."""
        return self._is_broken

    @property
    def num_bytes(self) -> int:
        """Of all weights in memory."""
        tensors = {id(tensor): tensor for tensor in (*self.model.parameters(), *self.model.buffers())}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def hold(self, columns: Sequence[Column], on_progress: OnProgress = lambda *_: None) -> None:
        """Let these columns answer: adapters that are not in memory are loaded, the base model never.

        Raises `ModelError` for an adapter that cannot stand beside its base model, or is another's.
        """
        held: dict[str, tuple[str | None, Path | None]] = {}
        for place, column in enumerate(columns):
            if column.adapter is None:
                held[column.label] = (None, None)
                continue
            folder = adapter_within(Path(column.adapter))
            key = _state_of(folder)
            if key not in self._kept:
                on_progress(Message(N_("Loading the adapter {label}"), {"label": column.label}), place / len(columns))
                self._kept[key] = self._load(column.label, folder)
            self._kept[key] = name = self._kept.pop(key)
            held[column.label] = (name, folder)
        self._by_label = held
        self._forget({name for name, _ in held.values()})

    @contextmanager
    def use(self, label: str) -> Iterator[PreTrainedModel]:
        """Within the block the model answers as this column."""
        self._switch(self._by_label[label][0])
        yield self.model

    @contextmanager
    def base(self) -> Iterator[PreTrainedModel]:
        """Within the block the model answers without any adapter."""
        self._switch(None)
        yield self.model

    def stops(self, label: str) -> tuple[int, ...]:
        """Tokens at which a column's answer ends: the model's own, the chat template's, and those beside the adapter."""
        folder = self._by_label[label][1]
        beside = stops_of(folder) if folder is not None else ()
        return tuple(dict.fromkeys((*self._stops, *beside)))

    def _load(self, label: str, folder: Path) -> str:
        refuse_unshareable(label, folder, self.path, self.base_model, self._find_base)
        own = read_adapter_config(folder) or {}
        refuse_slow_expressions(own, (name for name, _ in self.model.named_modules()))
        refuse_other_weights(label, read_tensors(folder, self.model), own.get("modules_to_save"), self.model)
        self._num_loaded += 1
        name = f"column_{self._num_loaded}"
        try:
            loaded = load_adapter(self._peft or self.model, folder, name)
        except BaseException:
            self._is_broken = True
            raise
        self._peft, self._in_use, self._set = loaded.model, name, None
        self._find_layers()
        loaded.model.eval()  # dropout of a fresh adapter is on
        loaded.model.requires_grad_(False)
        self._switch(None)
        if loaded.differences or loaded.is_refused or loaded.differences is None:
            loaded.model.delete_adapter(name)
            self._find_layers()
            first = next(iter(loaded.differences or ()), None)
            raise ModelError(
                N_("{label} does not fit {base}: {name} {what}. Choose another adapter."),
                label=label,
                base=self.base_model,
                name=first.name if first else "–",
                what=Message(WHAT_DIFFERS[first.code]) if first else "–",
            )
        return name

    def _switch(self, name: str | None) -> None:
        """What PEFT's `disable_adapter` and `set_adapter` do, without a walk through the whole model for each token."""
        if self._peft is None or name == self._in_use:
            return
        if name is None or self._in_use is None:
            for layer in self._layers:
                layer.enable_adapters(name is not None)
        if name is not None and name != self._set:
            self._peft.set_adapter(name, inference_mode=True)
            self._set = name
        self._in_use = name

    def _find_layers(self) -> None:
        kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
        self._layers = [module for module in self.model.modules() if isinstance(module, kinds)]

    def _forget(self, needed: set[str | None]) -> None:
        for key, name in list(self._kept.items()):
            if len(self._kept) <= MOST_KEPT:
                return
            if name not in needed and self._peft is not None:
                self._switch(None)
                self._peft.delete_adapter(name)
                self._set = None
                del self._kept[key]
                self._find_layers()


def load_columns(
    base_model: str,
    columns: Sequence[Column],
    device: str = "cpu",
    on_progress: OnProgress = lambda *_: None,
    *,
    find_base: FindBase = find_model,
    name: str | None = None,
) -> ChatModel:
    """Load the base model onto `device` (torch's word), in its `auto` precision, then the columns' adapters.

    `find_base` finds a base model that an adapter names; `name` is what people call this one, if not `base_model`. Raises `ModelError` where something cannot be loaded, or an
    adapter is another base model's.
    """
    tokenizer = load_tokenizer(base_model)
    on_progress(Message(N_("Loading the base model")), 0.0)
    model = load_model(TrainingConfig(model_name=base_model), {"": device})
    model.eval()
    model.requires_grad_(False)
    loaded = ChatModel(model, tokenizer, find_model(base_model), name or base_model, find_base)
    loaded.hold(columns, on_progress)
    return loaded


def _state_of(folder: Path) -> tuple[object, ...]:
    """The folder and its files as they are: a run that goes on replaces them."""
    states = []
    for name in FILES:
        try:
            found = (folder / name).stat()
        except OSError:
            continue
        states.append((name, found.st_mtime_ns, found.st_size, found.st_ino))
    return (str(folder), *states)
