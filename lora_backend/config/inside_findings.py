"""What is wrong with one part of a value that has parts of its own, as the sets in `datasets` have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.config.expected import expected_of
from lora_backend.config.findings import Finding, shorten
from lora_backend.config.key_values import DatasetShare
from lora_backend.config.rules import ConfigView
from lora_backend.config.rules.file_rules import MISSING_PART, OUT_OF_RANGE, UNKNOWN_PART, WRONG_TYPE
from lora_backend.config.schema import KEYS
from lora_backend.i18n import in_code

PARTS_OF = {"datasets": DatasetShare}
"""Key → the type of each of its entries."""


@dataclass(frozen=True)
class Inside:
    """One part that is not as its type says."""

    value: Any
    """Of the key."""
    place: Sequence[int | str]
    """Of the part: the entry's number from 0, and the part's name."""
    kind: str
    """By pydantic's word for the error."""

    def found(self, config: ConfigView, key: str) -> Finding:
        """In one sentence, with the place as in `datasets[2].share`, counted from 1."""
        number, name = int(self.place[0]), str(self.place[1])
        fields = PARTS_OF[key].model_fields
        entry: Mapping[str, Any] = self.value[number]
        said: dict[str, Any] = {"key": f"{key}[{number + 1}].{name}", "entry": f"{key}[{number + 1}]"}
        if self.kind == "missing":
            return MISSING_PART.found(config, key, said)
        if self.kind == "extra_forbidden":
            left = [*self.value]
            left[number] = {part: inside for part, inside in entry.items() if part != name}
            return UNKNOWN_PART.found(config, key, said | {"keys": in_code(fields)}, config.change({key: left}))
        rule = OUT_OF_RANGE if self.kind.startswith(("greater_than", "less_than", "finite")) else WRONG_TYPE
        field = fields[name]
        said |= {"value": shorten(entry[name]), "expected": expected_of(field.annotation, field.metadata)}
        return rule.found(config, key, said)


def is_of_a_part(place: Sequence[int | str]) -> bool:
    """Whether an error is about a part of an entry, by pydantic's way to it."""
    return len(place) > 2 and str(place[0]) in PARTS_OF and str(place[0]) in KEYS and isinstance(place[1], int)
