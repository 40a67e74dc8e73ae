"""Whether an adapter fits its base model's module tree: kept from before by the content of both, or asked of the torch
process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.models.headers import TensorInfo
from lora_backend.planning.profile_store import model_key
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.against_base import AskTree, TreeAnswer
from lora_backend.worker_client import WorkerClient

VERSION = 1
"""Of what is kept: an answer of another version is asked for anew."""
DEADLINE_S = 180.0
Answer = Mapping[str, Any]
"""What the torch process says: a `TreeAnswer` as JSON, or `error`, a sentence."""


def known_fit(installation: Installation) -> AskTree:
    """Only what was asked before; never asks anybody. Raises `ModelError` where it was not."""

    def never(*_: Any) -> Answer:
        raise ModelError(N_("The base model's headers are not enough to tell. Open the adapter on the Verify page."))

    return kept_fit(never, installation)


def asked_fit(
    client: Callable[[], WorkerClient], installation: Installation, on_progress: Callable[[Message, float], None]
) -> AskTree:
    """Asks the torch process what is not known yet. Raises `WorkerError` where it does not answer."""

    def ask(facts: Mapping[str, Any], folder: Path, _: Mapping[str, TensorInfo]) -> Answer:
        question = {"facts": dict(facts), "adapter": str(folder)}
        return dict(client().ask("adapter_fit", question, DEADLINE_S, on_progress))

    return kept_fit(ask, installation)


def kept_fit(
    ask: Callable[[Mapping[str, Any], Path, Mapping[str, TensorInfo]], Answer], installation: Installation
) -> AskTree:
    """Answers of `ask`, kept on disk; a refusal too, for it comes of the same content."""

    def fit(facts: Mapping[str, Any], folder: Path, tensors: Mapping[str, TensorInfo]) -> TreeAnswer:
        place = installation.cache / "fits" / f"{_key(facts, folder, tensors)}.json"
        answer = _read(place)
        if answer is None:
            answer = {**ask(facts, folder, tensors), "version": VERSION}
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, answer)
        if "error" in answer:
            error = Message.from_json(answer["error"])
            raise ModelError(error.template, **error.values)
        return TreeAnswer.from_json(answer)

    return fit


def _read(place: Path) -> Answer | None:
    try:
        data = read_json(place)
        if data.get("version") != VERSION:
            return None
        if "error" not in data:
            TreeAnswer.from_json(data)
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return dict(data)


def _key(facts: Mapping[str, Any], folder: Path, tensors: Mapping[str, TensorInfo]) -> str:
    shapes = sorted((name, info.shape) for name, info in tensors.items())
    said = [model_key(facts), read_adapter_config(folder), shapes]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]
