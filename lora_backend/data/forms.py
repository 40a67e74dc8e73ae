"""The forms in which rows of a data set may be written: detected automatically, or said by the config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from lora_backend.data.chat_rows import MARKS, Said
from lora_backend.data.examples import Example
from lora_backend.data.form_readers import READERS
from lora_backend.data.raw_rows import BadRowError, RawRow
from lora_backend.errors import DataError
from lora_backend.i18n import N_, Message, in_code

FormName = Literal["messages", "sharegpt", "prompt_completion", "alpaca", "question_answer", "text"]
FORM_NAMES: tuple[FormName, ...] = get_args(FormName)
DataFormat = Literal["auto", "messages", "sharegpt", "prompt_completion", "alpaca", "question_answer", "text"]
"""What the config may say; `auto`: it is detected automatically."""
LOOKED_AT = 20
"""Rows by which a form is found."""
MOST_SHOWN = 12


@dataclass(frozen=True)
class Form:
    """One way to write rows."""

    name: FormName
    needed: Mapping[str, tuple[str, ...]]
    """Part that a row must have → the columns in which it is looked for."""
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The same of the other parts."""
    turn_keys: tuple[str, str] | None = None
    """What turns call who speaks and what is said, where a row holds turns."""

    @property
    def parts(self) -> tuple[str, ...]:
        """All that `data_columns` may map."""
        return (*self.needed, *self.optional, *(("role", "content") if self.turn_keys else ()))


_TOOLS_AND_SYSTEM = {"tools": ("tools",), "system": ("system",)}
FORMS: dict[FormName, Form] = {
    form.name: form
    for form in (
        Form("messages", {"messages": ("messages",)}, _TOOLS_AND_SYSTEM, ("role", "content")),
        Form("sharegpt", {"conversations": ("conversations", "conversation")}, _TOOLS_AND_SYSTEM, ("from", "value")),
        Form(
            "prompt_completion",
            {"prompt": ("prompt",), "completion": ("completion", "response")},
            _TOOLS_AND_SYSTEM,
        ),
        Form(
            "alpaca",
            {"instruction": ("instruction",), "output": ("output", "response")},
            {"input": ("input", "context"), "system": ("system",), "history": ("history",)},
        ),
        Form(
            "question_answer",
            {
                "question": ("question", "query", "prompt", "instruction", "input"),
                "answer": ("answer", "response", "completion", "output"),
            },
            _TOOLS_AND_SYSTEM,
        ),
        Form("text", {"text": ("text",)}),
    )
}
"""In the order in which they are looked for."""
RIVALS: dict[FormName, tuple[str, ...]] = {
    "messages": ("prompt", "completion", "conversations"),
    "sharegpt": ("prompt", "completion", "messages"),
    "prompt_completion": ("messages", "conversations"),
}
"""Columns beside which it is not clear what a row means."""


@dataclass(frozen=True)
class ReadRow:
    """A good row: what becomes of it, and what is to be said of it."""

    example: Example
    unused: frozenset[str]
    """Keys that nothing is made of."""
    has_empty_answer: bool


@dataclass(frozen=True)
class FoundForm:
    """The form of a data set's rows."""

    form: FormName
    columns: Mapping[str, str]
    """Each part of the form → the column that it is read from."""
    is_said: bool = False
    """Whether the config says so, by either key; then no column of another form stands in the way."""

    @property
    def renamed(self) -> dict[str, str]:
        """Of `columns` those that have another name than their part has by itself."""
        return {part: column for part, column in self.columns.items() if column != self._own(part)}

    def _own(self, part: str) -> str:
        form = FORMS[self.form]
        if form.turn_keys and part in ("role", "content"):
            return form.turn_keys[part == "content"]
        return {**form.needed, **form.optional}[part][0]

    def example(self, row: Mapping[str, Any]) -> Example:
        """What becomes of a row. Raises `BadRowError`, and `RowLeftOutError` for one that asks not to be learned."""
        return self.read(row).example

    def read(self, row: Mapping[str, Any]) -> ReadRow:
        """The same with what is to be said of it."""
        values = {part: row[column] for part, column in self.columns.items() if row.get(column) is not None}
        missing = [part for part in FORMS[self.form].needed if part not in values]
        if missing:
            raise self._lacking(row, missing[0])
        used = {*self.columns.values(), *MARKS}
        rest = {str(key) for key, value in row.items() if value is not None and key not in used}
        rivals = [] if self.is_said else [key for key in RIVALS.get(self.form, ()) if key in rest]
        if rivals:
            raise BadRowError(
                N_(
                    "`{rival}` and `{own}` are both there; remove one of them, or say which counts with `data_format: {form}`"
                ),
                rival=rivals[0],
                own=self.columns[next(iter(FORMS[self.form].needed))],
                form=self.form,
            )
        said = Said(unused=rest)
        example = READERS[self.form](values, self.columns, row, said)
        return ReadRow(example, frozenset(said.unused), said.has_empty_answer)

    def _lacking(self, row: Mapping[str, Any], part: str) -> BadRowError:
        other = _matching(row)
        if other is not None and other != self.form and self.columns[part] not in row:
            return BadRowError(
                N_("it is written as {other}, but the rows before it as {form}; put them in separate files"),
                other=other,
                form=self.form,
            )
        if self.form in ("prompt_completion", "question_answer", "alpaca") and part in (
            "completion",
            "answer",
            "output",
        ):
            return BadRowError(
                N_("`{key}` is empty, so there is no answer to learn"), key=self.columns[part], kind="empty_answer"
            )
        return BadRowError(N_("`{key}` is missing or null"), key=self.columns[part])


def find_form(
    rows: Iterable[RawRow | Mapping[str, Any]],
    data_format: DataFormat | None = None,
    data_columns: Mapping[str, str] | None = None,
    file: str = "",
) -> FoundForm:
    """The form of a data set, from its first rows and from what the config says of it.

    Raises `DataError` where the rows are of no known form, or have none of the columns that the config names.
    """
    values = [row.values if isinstance(row, RawRow) else row for row in rows]
    looked_at = [row for row in values if row is not None]
    said = None if data_format == "auto" else data_format
    is_said = bool(said or data_columns)
    _refuse_lacking_columns(looked_at, data_columns or {}, file)
    for row in looked_at:
        name = said or _matching(row, data_columns or {})
        if name is not None:
            return FoundForm(name, _columns(FORMS[name], row, data_columns or {}), is_said)
    if said is not None:  # no row to look at; its own names then
        return FoundForm(said, _columns(FORMS[said], {}, data_columns or {}), is_said)
    raise _unknown_form(looked_at, file)


def why_no_columns(data_format: DataFormat, data_columns: Mapping[str, str]) -> Message | None:
    """Why `data_columns` cannot be meant; None where it can."""
    forms = FORMS.values() if data_format == "auto" else [FORMS[data_format]]
    if any(set(data_columns) <= set(form.parts) for form in forms):
        return None
    if data_format != "auto":
        return Message(
            N_("With `data_format: {form}`, `data_columns` can name {parts}."),
            {"parts": in_code(FORMS[data_format].parts), "form": data_format},
        )
    return Message(
        N_(
            "`data_columns` names the parts {parts}, which no form has together. Set `data_format` to see which it takes."
        ),
        {"parts": in_code(data_columns)},
    )


def _matching(row: Mapping[str, Any], data_columns: Mapping[str, str] | None = None) -> FormName | None:
    """The first form of which a row has all that is needed, and that has every part that is mapped."""
    mapped = data_columns or {}
    for name, form in FORMS.items():
        if set(mapped) <= set(form.parts) and all(
            _column(part, names, row, mapped) is not None for part, names in form.needed.items()
        ):
            return name
    for name in ("messages", "sharegpt", "prompt_completion"):  # of which a part alone tells
        form = FORMS[name]
        if set(mapped) <= set(form.parts) and any(
            part in row for part in (mapped.get(need, need) for need in form.needed)
        ):
            return name
    return None


def _column(part: str, names: tuple[str, ...], row: Mapping[str, Any], mapped: Mapping[str, str]) -> str | None:
    wanted = (mapped[part],) if part in mapped else names
    return next((name for name in wanted if row.get(name) is not None), None)


def _columns(form: Form, row: Mapping[str, Any], mapped: Mapping[str, str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    taken = set(mapped.values())
    for part, names in {**form.needed, **form.optional}.items():
        free = tuple(name for name in names if name not in taken or part in mapped)
        found = _column(part, free, row, mapped) or mapped.get(part) or (free or names)[0]
        columns[part] = found
        taken.add(found)
    if form.turn_keys:
        columns |= dict(zip(("role", "content"), _turn_keys(form, row, columns, mapped), strict=True))
    return columns


def _turn_keys(form: Form, row: Mapping[str, Any], columns: Mapping[str, str], mapped: Mapping[str, str]) -> list[str]:
    """What the first turn of a row calls its parts: both forms come with either's words."""
    turns = row.get(columns[next(iter(form.needed))])
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], dict) else {}
    assert form.turn_keys
    pairs = [form.turn_keys, ("role", "content"), ("from", "value")]
    role, content = next((pair for pair in pairs if pair[0] in first), form.turn_keys)
    return [mapped.get("role", role), mapped.get("content", content)]


def _refuse_lacking_columns(rows: list[Mapping[str, Any]], data_columns: Mapping[str, str], file: str) -> None:
    """Raise where no row has a column that the config names; keys of turns are another matter."""
    named = [column for part, column in data_columns.items() if part not in ("role", "content")]
    lacking = [column for column in named if not any(column in row for row in rows)]
    if rows and lacking:
        raise DataError(
            N_("{file} has no column {lacking}, which `data_columns` names. Its columns are {columns}."),
            file=file,
            lacking=in_code(lacking),
            columns=_columns_seen(rows),
        )


def _columns_seen(rows: list[Mapping[str, Any]]) -> Message:
    return in_code(list(dict.fromkeys(str(key) for row in rows for key in row))[:MOST_SHOWN] or ["–"])


def _unknown_form(rows: list[Mapping[str, Any]], file: str) -> DataError:
    if not rows:
        return DataError(N_("The data set {file} has no row that can be read."), file=file)
    return DataError(
        N_(
            "The rows of {file} have the columns {columns}, which match no known form. Say what they are with `data_columns`, for example `data_columns: {example}`."
        ),
        file=file,
        columns=_columns_seen(rows),
        example="{prompt: …, completion: …}",
    )
