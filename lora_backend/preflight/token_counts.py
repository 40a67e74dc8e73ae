"""How many tokens the rows of a config's data set have, by the model's own tokenizer and chat template, without torch.

Both are read in a process of its own: they may come from anywhere, and a template is a small program.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_backend import outside
from lora_backend.atomic import write_json
from lora_backend.bounded import read_json
from lora_backend.config.named_data import rows_of_epoch
from lora_backend.data.data_report import DataReport
from lora_backend.data.example_file import ExampleFile, open_examples
from lora_backend.data.examples import Chat, Example, Pair, Text
from lora_backend.data.read_as import ReadAs
from lora_backend.data.source_files import find_source
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.i18n import N_
from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.preflight.named_files import NamedRows
from lora_backend.preflight.resolve import ResolvedConfig

if TYPE_CHECKING:
    from jinja2 import Template

SAMPLE = 400
"""Rows that are looked at, drawn from the whole file."""
DEADLINE_S = 15.0
RULES = 2
"""Raised when the same row would be counted otherwise; what was kept by older rules is not believed."""
TRY_AGAIN_AFTER_S = 300.0
TOKENIZER = "tokenizer.json"


def row_lengths(resolved: ResolvedConfig) -> RowLengths | None:
    """Of the rows of an epoch as its model's tokenizer cuts them; None where there is no data set or tokenizer
    on this machine, or they cannot be read so."""
    folder = None if resolved.model is None else resolved.model.path
    if folder is None or not resolved.training_sets:
        return None
    # To find a count, the rows are hashed: only where somebody has read them already.
    parts, known = [], resolved.known_reports if resolved.has_read_rows else {}
    for rows in resolved.training_sets:
        found = _counted_before(known.get(rows)) or (
            None if rows.path is None else _lengths_of(rows, folder, resolved.installation.cache / "row_lengths")
        )
        if found is None:
            return None
        parts.append((found, rows_of_epoch(found.num_rows, rows.named.share)))
    return mixed(parts)


def _counted_before(report: DataReport | None) -> RowLengths | None:
    """What a count of all rows, or of a hundred thousand, says: nobody counts a sample beside it."""
    if report is None or report.counts is None or not report.counts.quantiles:
        return None
    return RowLengths(tuple(report.counts.quantiles), report.rows)


def mixed(parts: Sequence[tuple[RowLengths, int]]) -> RowLengths | None:
    """Rows of several sets together, each with as many of an epoch as it has there."""
    total = sum(rows for _, rows in parts)
    if len(parts) == 1 or not total:
        return RowLengths(parts[0][0].tokens, total) if total else None
    tokens: list[int] = []
    for lengths, rows in parts:
        drawn = math.ceil(SAMPLE * rows / total)
        tokens += [lengths.tokens[number * len(lengths.tokens) // drawn] for number in range(drawn)]
    return RowLengths(tuple(tokens), total)


def _lengths_of(rows: NamedRows, folder: Path, kept_in: Path) -> RowLengths | None:
    try:
        if not (folder / TOKENIZER).is_file():
            return None
        kept = kept_in / f"{_key(rows, folder)}.json"
    except (OSError, ValueError):
        return None
    try:
        answer = read_json(kept)
    except (OSError, ValueError):
        answer = _count_now(rows, folder, kept)
    try:
        found = RowLengths(tuple(int(tokens) for tokens in answer["tokens"]), int(answer["num_rows"]))
    except (KeyError, TypeError, ValueError):
        return None
    return found if found.tokens and min(found.tokens) > 0 else None


_gave_up: dict[Path, float] = {}


def _count_now(rows: NamedRows, folder: Path, kept: Path) -> dict[str, Any]:
    """Counted in a process of its own, and kept; rows that cannot be counted are kept as none."""
    nothing = {"tokens": [], "num_rows": 0}
    if time.monotonic() - _gave_up.get(kept, -TRY_AGAIN_AFTER_S) < TRY_AGAIN_AFTER_S:
        return nothing
    try:
        answer: dict[str, Any] = outside.call(
            f"{__name__}:counted",
            str(rows.path),
            str(folder),
            str(rows.kept),
            asdict(rows.read_as),
            deadline_s=DEADLINE_S,
        )
    except (outside.OutsideError, OSError):  # a busy machine, or a template without an end
        _gave_up[kept] = time.monotonic()
        return nothing
    except FlightdeckError:
        answer = nothing
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, answer)
    return answer


def counted(dataset: str, folder: str, kept: str, read_as: dict[str, Any]) -> dict[str, Any]:
    """What the process does. Raises `DataError` or `ModelError`."""
    from tokenizers import Tokenizer

    how = ReadAs.from_json(read_as)
    examples = open_examples(
        Path(dataset), Path(kept), how.data_format, dict(how.data_columns), how.max_bad_rows, split=how.split
    )
    tokenizer = Tokenizer.from_file(str(Path(folder) / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(text: str, *, special: bool) -> int:
        return len(tokenizer.encode(text, add_special_tokens=special).ids)

    written = _writer(Path(folder))
    lengths = []
    for example in _sample(examples):
        match example:
            case Chat():
                lengths.append(count(written(example), special=False))
            case Pair():  # the end of the text is one more
                lengths.append(count(example.prompt, special=True) + count(example.completion, special=False) + 1)
            case Text():
                lengths.append(count(example.text, special=True) + 1)
    return {"tokens": lengths, "num_rows": len(examples)}


def _sample(examples: ExampleFile) -> Iterator[Example]:
    """Some rows, each as likely as any other and always the same ones."""
    places = range(len(examples))
    if len(places) > SAMPLE:
        places = sorted(random.Random(0).sample(places, SAMPLE))  # type: ignore[assignment]  # noqa: S311 - not a secret
    return (examples[place] for place in places)


def _writer(folder: Path) -> Callable[[Chat], str]:
    """Writes a chat as the model's template does. Raises `ModelError` where it has none, or it fails."""
    from jinja2.exceptions import TemplateError

    chosen = _tokenizer_settings(folder)
    source = _template_source(folder, chosen)
    tokens = {name: _token(chosen.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}

    def write(chat: Chat) -> str:
        try:
            return _template(source).render(
                messages=list(chat.messages),
                tools=chat.tools and list(chat.tools),
                add_generation_prompt=False,
                **tokens,
            )
        except (TemplateError, ArithmeticError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise ModelError(
                N_("The model's chat template cannot write the rows: {reason}."), reason=str(error)
            ) from error

    return write


def _tokenizer_settings(folder: Path) -> Mapping[str, Any]:
    try:
        found = read_json(folder / "tokenizer_config.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _template_source(folder: Path, chosen: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    given = chosen.get("chat_template")
    if isinstance(given, list):  # several with names; the one that chats
        given = next(
            (one.get("template") for one in given if isinstance(one, dict) and one.get("name") == "default"), None
        )
    if not isinstance(given, str):
        raise ModelError(N_("The model's tokenizer has no chat template."))
    return given


def _token(given: object) -> str:
    return str(given.get("content", "")) if isinstance(given, dict) else str(given or "")


def _template(source: str) -> Template:
    """As transformers makes it from the same text."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    return environment.from_string(source)


def _key(rows: NamedRows, folder: Path) -> str:
    """The same while the files are, and are read alike. Raises `DataError`, a `ValueError`."""
    said: list[Any] = [RULES, SAMPLE, asdict(rows.read_as)]
    files = [file.path for file in find_source(rows.bound, rows.named.split).files]
    for path in (*files, folder / TOKENIZER, folder / "chat_template.jinja", folder / "tokenizer_config.json"):
        found = path.stat() if path.exists() else None
        said += [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns] if found else [0]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
