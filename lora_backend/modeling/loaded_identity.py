"""Whether the adapter in memory is the one of its file: every tensor in its place with its value, and none left as made.

PEFT loads what it can place and says nothing of the rest, so ranks are right in a model of which half was never loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import load_peft_weights
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from lora_backend.errors import FlightdeckError, ModelError, first_line
from lora_backend.i18n import N_
from lora_backend.modeling.lora_layers import plain_config, read_bin
from lora_backend.verification.adapter_folder import PEFT_PREFIX, is_pickled
from lora_backend.verification.beside import is_second_copy, overwritten
from lora_backend.verification.differences import Difference
from lora_backend.verification.dtypes import dtype_differences
from lora_backend.verification.rank_report import LORA_TYPES
from lora_backend.verification.shapes import layer_of_tensor, without_wrappers

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class LoadedAdapter:
    """A model with the adapter of a folder, and what of the folder did not arrive in it."""

    model: PeftModel
    differences: tuple[Difference, ...] | None
    """None where it is no LoRA."""
    is_refused: bool = False
    """Whether PEFT raises where it loads these tensors; then the model holds some of them at most."""


def load_adapter(base: nn.Module, folder: Path, name: str = "default") -> LoadedAdapter:
    """Put the adapter of `folder` on `base` as `PeftModel.from_pretrained` does, and say what of it did not arrive.

    On a `PeftModel` it stands beside those that are there, called `name`. Raises `ModelError` where PEFT cannot even build the adapter, or what it refuses cannot be named.
    """
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(N_("There is no adapter in this folder: it has no adapter_config.json."))
    try:
        config = PeftConfig.from_pretrained(str(folder), local_files_only=True)
        tensors = read_tensors(folder, base)
        config.inference_mode = True
        model = _with_adapter(base, config, name)
    except FlightdeckError:
        raise
    except Exception as error:  # whatever somebody else's files make PEFT raise
        raise _refused(error) from error
    try:
        result = set_peft_model_state_dict(model, dict(tensors), name)
    except Exception as error:
        reasons = [item for item in tensor_differences(model, tensors, name) or [] if item.code != "other_values"]
        if not reasons:
            raise _refused(error) from error
        return LoadedAdapter(model, tuple(reasons), is_refused=True)
    found = tensor_differences(model, tensors, name)
    if found is None:
        return LoadedAdapter(model, None)
    named = {item.name for item in found}
    unexpected = map(_plain, result.unexpected_keys)
    own = {_saved_name(live, name) for live in _live_names(model, name)}
    missing = [_saved_name(key, name) for key in result.missing_keys]
    in_file = set(map(_plain, tensors))
    named_twice = {key for key in in_file if is_second_copy(key, in_file)}
    found += [_difference("not_in_model", key) for key in unexpected if key not in named | named_twice]
    found += [_difference("not_from_file", key) for key in missing if key in own and key not in named]
    return LoadedAdapter(model, tuple(found))


def _with_adapter(base: nn.Module, config: PeftConfig, name: str) -> PeftModel:
    if not isinstance(base, PeftModel):
        return get_peft_model(base, config, adapter_name=name)
    base.add_adapter(name, config)
    return base


def _refused(error: Exception) -> ModelError:
    return ModelError(N_("PEFT cannot load the adapter into this model: {reason}"), reason=first_line(error))


def read_tensors(folder: Path, base: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of an adapter's folder, by the names that PEFT reads them under. Raises `ModelError`."""
    if is_pickled(folder):
        read_bin(folder / "adapter_model.bin")  # refuses in our words what PEFT would refuse in torch's
    elif not (folder / "adapter_model.safetensors").is_file():  # PEFT would ask the hub for it
        raise ModelError(
            N_(
                "{path} contains no adapter_model.safetensors, and PEFT loads no other file. Save the adapter in one file again."
            ),
            path=str(folder),
        )
    mapping = getattr(base, "_checkpoint_conversion_mapping", None) or {}
    tensors = dict(load_peft_weights(str(folder), device="cpu", key_mapping=mapping))
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                N_("`{name}` in {path} is not a tensor. Save the adapter again with `save_pretrained`."),
                name=str(name),
                path=str(folder),
            )
    return tensors


def differences_from_file(model: nn.Module, folder: Path, adapter_name: str | None = None) -> list[Difference] | None:
    """What of the adapter in `model` is not as in `folder`; None where it is no LoRA, or no adapter is left.

    Raises `ModelError` for a file that cannot be read.
    """
    carrier = _carrier(model)
    if carrier is None:
        return None
    base = carrier.get_base_model() if isinstance(carrier, PeftModel) else carrier
    try:
        tensors = read_tensors(folder, base)
    except FlightdeckError:
        raise
    except Exception as error:
        raise ModelError(
            N_("The adapter in {path} cannot be read: {reason}"), path=str(folder), reason=first_line(error)
        ) from error
    return tensor_differences(model, tensors, adapter_name)


def tensor_differences(
    model: nn.Module, tensors: Tensors, adapter_name: str | None = None, *, values: bool = True
) -> list[Difference] | None:
    """Hold the tensors of a file against the adapter in `model`, each by name, shape, dtype and value.

    Values are compared bit by bit after the file's are cast to the model's dtype. None where the model carries no LoRA.
    """
    carrier = _carrier(model)
    adapter = _adapter_of(carrier, adapter_name)
    if adapter is None or _peft_type(carrier, adapter) not in LORA_TYPES:
        return None
    found = dtype_differences({name: str(tensor.dtype) for name, tensor in tensors.items()})
    live = dict(carrier.state_dict())
    expected = _live_names(carrier, adapter)
    places = {_saved_name(name, adapter): name for name in expected}
    arrived = set()
    for name, stored in _placed_or_named(carrier, adapter, tensors, places).items():
        own_name = name if name in live else places.get(_plain(name)) if name.startswith(PEFT_PREFIX) else None
        if own_name is None:
            if not is_second_copy(name, tensors):
                found.append(_difference("not_in_model", _plain(name), stored))
            continue
        arrived.add(own_name)
        code = _compared(live[own_name], stored, values)
        if code is not None:
            found.append(_difference(code, _saved_name(own_name, adapter), stored, live[own_name]))
    absent = [name for name in expected if name not in arrived]
    found += [_difference("not_from_file", _saved_name(name, adapter), None, live[name]) for name in absent]
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return found + overwritten(shapes, plain_config(carrier.peft_config[adapter]), found)


def _placed_or_named(
    carrier: Any, adapter: str, tensors: Tensors, places: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """The file's tensors by their names in the model; where PEFT gives up on converting them, as they are called."""
    whole, lacking = _with_saved_modules(carrier, adapter, tensors)
    try:
        found = placed(carrier, adapter, whole)
    except Exception:  # whatever a damaged file makes of a conversion
        found = {places.get(_plain(name), name): tensor for name, tensor in whole.items()}
    return {name: tensor for name, tensor in found.items() if _saved_name(name, adapter) not in lacking}


def _compared(own: torch.Tensor, stored: torch.Tensor, values: bool) -> Any:
    if own.shape != stored.shape:
        return "other_shape"
    if not values or own.is_meta or _is_same(own.detach().cpu(), stored.to(own.dtype).cpu()):
        return None
    return "other_values"


def _is_same(own: torch.Tensor, stored: torch.Tensor) -> bool:
    return torch.equal(own, stored) or bool(torch.isclose(own, stored, rtol=0, atol=0, equal_nan=True).all())


def _difference(
    code: Any, name: str, file: torch.Tensor | None = None, model: torch.Tensor | None = None
) -> Difference:
    return Difference(
        code,
        name,
        layer_of_tensor(name),
        None if file is None else tuple(file.shape),
        None if model is None else tuple(model.shape),
    )


def _carrier(model: nn.Module) -> Any:
    """The module that PEFT loads an adapter into, through DDP and `torch.compile`."""
    found = [module for module in model.modules() if isinstance(module, PeftModel)]
    others = (module for module in model.modules() if isinstance(getattr(module, "peft_config", None), Mapping))
    return found[0] if found else next(others, None)


def _adapter_of(carrier: Any, asked: str | None) -> str | None:
    names = list(getattr(carrier, "peft_config", {}) or {})
    active = getattr(carrier, "active_adapter", None)
    chosen = asked or (active if isinstance(active, str) else None)
    return chosen if chosen in names else names[0] if names and asked is None else None


def _peft_type(carrier: Any, adapter: str) -> str:
    found = carrier.peft_config[adapter].peft_type
    return str(getattr(found, "value", found))


@contextmanager
def _catching(carrier: Any, adapter: str, caught: dict[str, torch.Tensor]) -> Iterator[None]:
    """Let PEFT load into nothing: what it would hand to the model is caught, and the model stays as it is."""
    config = carrier.peft_config[adapter]
    pattern = config.rank_pattern
    is_adalora = _peft_type(carrier, adapter) == "ADALORA"

    def catch(state: Tensors, strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        caught.update(state)
        return _IncompatibleKeys([], [])

    vars(carrier)["load_state_dict"] = catch
    if is_adalora:  # it would cut the layers to their budget, and they are cut already
        config.rank_pattern = None
    try:
        yield
    finally:
        del vars(carrier)["load_state_dict"]
        if is_adalora:
            config.rank_pattern = pattern


def placed(carrier: Any, adapter: str, tensors: Tensors) -> dict[str, torch.Tensor]:
    """The file's tensors under the names that the model has for them, as PEFT converts and renames them."""
    caught: dict[str, torch.Tensor] = {}
    with _catching(carrier, adapter, caught):
        set_peft_model_state_dict(carrier, dict(tensors), adapter)
    return caught


def _live_names(carrier: Any, adapter: str) -> list[str]:
    """Every parameter that PEFT would save for the adapter, by its name in the model."""
    caught: dict[str, torch.Tensor] = {}
    with _catching(carrier, adapter, caught):
        own = get_peft_model_state_dict(carrier, adapter_name=adapter, save_embedding_layers=False)
        set_peft_model_state_dict(carrier, own, adapter)
    live = carrier.state_dict()
    return [name for name in caught if name in live]


def _with_saved_modules(carrier: Any, adapter: str, tensors: Tensors) -> tuple[dict[str, torch.Tensor], set[str]]:
    """The tensors, with something in the place of each that a module trained whole lacks, for PEFT raises there; and
    the names of those."""
    lacking = {
        f"{name}.{key}": torch.empty(0)
        for name, module in carrier.named_modules()
        if isinstance(module, AuxiliaryTrainingWrapper)
        for key in module.adapter_state_dict_load_map(adapter)
        if f"{name}.{key}" not in tensors
    }
    return {**tensors, **lacking}, {_plain(name) for name in lacking}


def _saved_name(name: str, adapter: str) -> str:
    """A parameter of the model as its file calls it, without PEFT's prefix."""
    plain = without_wrappers(name).replace(f"modules_to_save.{adapter}.", "")
    head, found, tail = plain.rpartition(f".{adapter}")
    return _plain(f"{head}{tail}" if found and (not tail or tail.startswith(".")) else plain)


def _plain(name: str) -> str:
    """Without PEFT's prefix, and a magnitude as PEFT writes it to a file."""
    plain = name.removeprefix(PEFT_PREFIX)
    return plain.removesuffix(".weight") if plain.endswith("lora_magnitude_vector.weight") else plain
