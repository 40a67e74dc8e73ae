"""JSON files as types. A file may come from anywhere: what is wrong in it is absent, what is unknown is kept, a newer format is refused.

Reading is lenient, here and nowhere else; writing is strict: a value of a wrong type raises where it is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema

from lora_backend.i18n import Message

Count = Annotated[int, Field(ge=0, lt=2**53)]
"""A whole number that every reader of JSON can hold."""
Number = Annotated[float, Field(gt=-(2**53), lt=2**53, allow_inf_nan=False)]
"""A number that can be shown."""


class Part(BaseModel):
    """An object in a file: as a whole right, or absent. `None` and "not written" may differ: `model_fields_set` says which."""

    model_config = ConfigDict(
        strict=True, extra="allow", validate_assignment=True, use_attribute_docstrings=True, defer_build=True
    )

    def to_json(self) -> dict[str, Any]:
        """As it is written: the fields that were set, and what is unknown of the file that it was read from."""
        return self.model_dump(exclude_unset=True)

    def but(self, **changes: Any) -> Self:
        """The same with other values, which are checked."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **changes})


class Document(Part):
    """A file, or a part of one whose fields stand for themselves: a wrong one costs no other."""

    FORMAT: ClassVar[int] = 1
    """The newest that this version reads, and the one that it writes."""

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """What a file says. Raises `ValueError` where what it cannot do without is absent or wrong."""
        values: dict[str, Any] = dict(data)
        values.pop("format", None)
        for name, kind in _documents_in(cls).items():
            if isinstance(values.get(name), Mapping):
                with suppress(ValueError):  # and then it is wrong as a whole
                    values[name] = kind.read(values[name])
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            wrong = {said["loc"][0] for said in error.errors(include_url=False, include_input=False) if said["loc"]}
        return cls.model_validate({key: value for key, value in values.items() if key not in wrong})

    @classmethod
    def is_newer(cls, data: Mapping[str, Any]) -> bool:
        """Whether a newer version than this wrote it."""
        found = data.get("format", cls.FORMAT)
        return not isinstance(found, int) or found > cls.FORMAT

    def to_json(self) -> dict[str, Any]:
        return {"format": self.FORMAT, **super().to_json()}


@cache
def _documents_in(kind: type[Document]) -> dict[str, type[Document]]:
    """Field → its type, for those that are read as leniently as the whole."""
    fields = kind.model_fields.items()
    kinds = ((name, of) for name, field in fields for of in (field.annotation, *get_args(field.annotation)))
    return {name: of for name, of in kinds if isinstance(of, type) and issubclass(of, Document)}


def _sentence(value: Any) -> Message:
    if isinstance(value, Message):
        return value
    try:
        message = Message.from_json(value)
        message.text("en")  # every value that the template names is there
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("no sentence") from error
    return message


Sentence = Annotated[
    Message,
    PlainValidator(_sentence),
    PlainSerializer(Message.to_json),
    WithJsonSchema(
        {
            "type": "object",
            "title": "Message",
            "description": "A sentence for people: an English template and its values, put into the reader's language where it is shown.",
            "properties": {"template": {"type": "string"}, "values": {"type": "object"}},
            "required": ["template", "values"],
        }
    ),
]
