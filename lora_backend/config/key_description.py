"""A key as the rest of the product sees it: its traits, with type, default and help as pydantic has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lora_backend.config.key_traits import KeyTraits


@dataclass(frozen=True, kw_only=True)
class Key(KeyTraits):
    """All that is to be known of one key."""

    name: str
    default: Any
    """`REQUIRED` where there is none."""
    help: str
    """English template; translate it for people."""
    annotation: Any
    info: FieldInfo


REQUIRED = PydanticUndefined


def described(config: type[BaseModel]) -> dict[str, Key]:
    """Every key of a config's class by name, in its order."""
    return {name: _describe(name, info) for name, info in config.model_fields.items()}


def _describe(name: str, info: FieldInfo) -> Key:
    traits = info.json_schema_extra
    assert isinstance(traits, KeyTraits), f"{name} is not made by `key`"
    default = REQUIRED if info.is_required() else info.default
    about: dict[str, Any] = {"name": name, "default": default, "help": info.description or "", "info": info}
    return Key(**about, **vars(traits), annotation=info.annotation)
