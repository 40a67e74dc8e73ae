"""Find a model: a local folder, a bare `config.json`, or a hub id that is in the cache. No network is asked."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants as hub

from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.installation import path_of

ADAPTER_CONFIG = "adapter_config.json"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def find_model(name: str) -> Path:
    """The folder that holds the model `name`, or the `config.json` itself where only that was named.

    Raises `ModelError` where there is none, with the command that downloads a hub model.
    """
    path = path_of(name)
    if path is None:
        raise ModelError(N_("There is no model folder {path}. Check `model_name`."), path=name[:200])
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                N_("The folder {path} contains no model: it has no config.json. Name the folder that has one."),
                path=str(path),
            )
        return path
    if path.is_file():
        if path.suffix == ".json":
            return path
        raise ModelError(N_("{path} is a file. Name the model's folder, or its config.json."), path=str(path))
    if HUB_ID.fullmatch(name):
        cached = _cached_config(name)
        if cached is not None:
            return cached.parent
        raise ModelError(
            N_(
                "There is no folder {name}, and no model with that id in the hub's cache. Download it with `flightdeck download {name}`, or on the Models page."
            ),
            name=name,
        )
    raise ModelError(N_("There is no model folder {path}. Check `model_name`."), path=name)


def find_adapter(name: str) -> Path:
    """The folder that holds the adapter `name`; of a run or a checkpoint the one in it. Raises `ModelError` where there
    is none, with the command that downloads one of the hub."""
    path = path_of(name)
    if path is not None and path.is_dir():
        for folder in (path, path / "adapter"):
            if (folder / ADAPTER_CONFIG).is_file():
                return folder
        raise ModelError(
            N_("The folder {path} contains no adapter: it has no adapter_config.json. Name the folder that has one."),
            path=str(path),
        )
    if path is not None and not path.exists() and HUB_ID.fullmatch(name):
        cached = _cached_config(name, ADAPTER_CONFIG)
        if cached is not None:
            return cached.parent
        raise ModelError(
            N_(
                "There is no folder {name}, and no adapter with that id in the hub's cache. Download it with `flightdeck download {name}`, or on the Models page."
            ),
            name=name,
        )
    raise ModelError(N_("There is no adapter folder {path}. Check `init_from_adapter`."), path=name[:200])


def _cached_config(name: str, file: str = "config.json") -> Path | None:
    """The `config.json`, or another `file`, of a hub id in the cache. Raises `ModelError` for an id that the hub would not give."""
    is_ordinary = not re.search(r"--|\.\.|[.-](/|$)|\.git$", name) and len(name) <= 96
    if is_ordinary and not Path(hub.HF_HUB_CACHE, f"models--{name.replace('/', '--')}").exists():
        return None
    # The library brings in a client for the network, a fifth of what a plan imports.
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, file)
    except HFValidationError:
        raise ModelError(N_("There is no model folder {path}. Check `model_name`."), path=name[:200]) from None
    return Path(cached) if isinstance(cached, str) else None
