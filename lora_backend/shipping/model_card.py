"""The card of an adapter or a merged model: a README.md with the hub's header, from what was recorded of the training."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lora_backend.atomic import write_atomic
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.short_values import in_short
from lora_backend.escaping import markdown_cell
from lora_backend.formats import gib, number
from lora_backend.preflight.export_place import CARD_MARK
from lora_backend.runs.record.curves import points
from lora_backend.runs.record.evaluation_documents import ColumnFigures, Estimate, EvaluateResult
from lora_backend.runs.record.job_documents import EvaluateRequest, request_of
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.shipping.card_facts import CardFacts
from lora_backend.views.loss_curve import loss_svg

README, CURVE = "README.md", "loss.svg"
Shipped = Literal["adapter", "merged"]
MOST_EVALUATIONS = 5
UNKNOWN = "not recorded"
NONE = "–"
"""A figure that there is none of, as `number` says it."""


def write_card(folder: Path, facts: CardFacts, what: Shipped, evaluations: Sequence[EvaluateResult] = ()) -> list[str]:
    """Write `README.md` and, where there is a curve, `loss.svg` beside it; the names of both."""
    svg = loss_svg(dict(facts.columns))
    write_atomic(folder / README, card_text(facts, what, CURVE if svg else None, evaluations))
    if svg is None:
        return [README]
    write_atomic(folder / CURVE, svg)
    return [README, CURVE]


def write_card_alone(path: Path, facts: CardFacts, evaluations: Sequence[EvaluateResult] = ()) -> None:
    """The same as one file, the curve inside of it."""
    svg = loss_svg(dict(facts.columns))
    picture = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" if svg else None
    write_atomic(path, card_text(facts, "adapter", picture, evaluations))


def card_text(facts: CardFacts, what: Shipped, picture: str | None, evaluations: Sequence[EvaluateResult] = ()) -> str:
    """The whole text. Names, values and paths from outside are escaped; `picture`: the address of the curve."""
    body = [
        f"---\n{dump_yaml(_header(facts, what))}---\n",
        CARD_MARK,
        f"# {markdown_cell(facts.name)}",
        _introduction(facts, what),
        *_section("How to load it", [_how_to_load(facts, what)]),
        *_section("Training", [*_training(facts), *([f"![Loss by step]({picture})"] if picture else [])]),
        *_section("Evaluation", list(_evaluation(facts, evaluations))),
        *_section("Settings", [_settings(facts)]),
        *_section("Memory, planned beside measured", [_memory(facts)]),
        *_section("Base model", [_base(facts)]),
        *_section("Versions", [_versions(facts)]),
    ]
    return "\n\n".join(part for part in body if part) + "\n"


def evaluations_of(facts: CardFacts, adapter: Path, runs: Path) -> list[EvaluateResult]:
    """Results of the evaluations of this run or adapter that have finished, the newest first."""
    found: list[EvaluateResult] = []
    for job in list_runs(runs):
        record = job.glance_at_record()
        if record is None or record.kind != "evaluate" or len(found) == MOST_EVALUATIONS:
            continue
        try:
            request = request_of(record.kind, record.config)
        except ValueError:
            continue
        assert isinstance(request, EvaluateRequest)
        is_of_run = facts.run is not None and request.of_run == facts.run.id
        if is_of_run or any(column.adapter == str(adapter) for column in request.columns):
            result = RunStore(job.path).read_result(EvaluateResult)
            found += [result] if result is not None else []
    return found


def _header(facts: CardFacts, what: Shipped) -> dict[str, Any]:
    """The hub's metadata: https://huggingface.co/docs/hub/model-cards. Only what is known."""
    header: dict[str, Any] = {}
    if facts.license:
        header["license"] = facts.license
    if facts.base_id:
        header["base_model"] = facts.base_id
        header["base_model_relation"] = "adapter" if what == "adapter" else "finetune"
    header["library_name"] = "peft" if what == "adapter" else "transformers"
    header["pipeline_tag"] = "text-generation"
    if facts.data_ids:
        header["datasets"] = list(facts.data_ids)
    header["tags"] = ["lora", "lora-flightdeck"]
    return header


def _introduction(facts: CardFacts, what: Shipped) -> str:
    base = _link(facts) if facts.base else "a base model that is not named"
    if what == "merged":
        return f"{base}, with a LoRA adapter merged into its weights. Trained with LoRA Flightdeck."
    ranks = ", ".join(f"rank {rank}: {count} layers" for rank, count in facts.ranks.items())
    return f"A LoRA adapter for {base}{f' ({ranks})' if ranks else ''}. Trained with LoRA Flightdeck."


def _link(facts: CardFacts) -> str:
    if facts.base_id:
        return f"[{markdown_cell(facts.base_id)}](https://huggingface.co/{facts.base_id})"
    return markdown_cell(Path(facts.base or "").name)


def how_to_load(facts: CardFacts, what: Shipped) -> str:
    """Python that loads it where the card lies, with transformers and peft alone, and asks it something."""
    base = json.dumps(facts.base_id or facts.base or "the base model")  # a string of Python too, in ASCII, on one line
    if what == "merged":
        head = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
        load = ['model = AutoModelForCausalLM.from_pretrained(".", dtype="auto")  # this folder, or its name on the hub', 'tokenizer = AutoTokenizer.from_pretrained(".")']  # fmt: skip
    else:
        head = ["from peft import PeftModel", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
        load = [
            f'base = AutoModelForCausalLM.from_pretrained({base}, dtype="auto")',
            'model = PeftModel.from_pretrained(base, ".")  # this folder, or its name on the hub',
            f"tokenizer = AutoTokenizer.from_pretrained({base})",
        ]
    ask = [
        "",
        'question = "Hello"',
        "if tokenizer.chat_template:",
        '    question = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)',
        'inputs = tokenizer(question, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)',
        'answer = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=32, do_sample=False)',
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))',
    ]
    return "\n".join([*head, *load, *ask])


def _how_to_load(facts: CardFacts, what: Shipped) -> str:
    return f"```python\n{how_to_load(facts, what)}\n```"


def _training(facts: CardFacts) -> Iterator[str]:
    data = ", ".join(map(markdown_cell, facts.data)) or UNKNOWN
    rows = [("Data", data), ("Data, sha256", _hash(facts.data_sha256))]
    steps, losses = points(dict(facts.columns), "loss")
    if len(losses):
        rows.append(("Steps", f"{steps[-1]:.0f}"))
        rows.append(("Loss, first → last", f"{number(float(losses[0]))} → {number(float(losses[-1]))}"))
    _, held_out = points(dict(facts.columns), "eval_loss")
    if len(held_out):
        rows.append(("Evaluation loss, last", number(float(held_out[-1]))))
    yield _table(("", ""), rows)


def _evaluation(facts: CardFacts, evaluations: Sequence[EvaluateResult]) -> Iterator[str]:
    for result in evaluations:
        rows = [(markdown_cell(column.label), *_figures(column)) for column in result.columns]
        heads = ("", "loss", "perplexity", "token accuracy", "right answers")
        known = [place for place in range(len(heads)) if place == 0 or any(row[place] != NONE for row in rows)]
        what = f"{result.rows.num_rows:,} rows of {markdown_cell(Path(result.rows.path).name)} ({_hash(result.rows.sha256)})" if result.rows else ""  # fmt: skip
        asked = f"{result.num_questions:,} questions" if result.num_questions else ""
        yield ", ".join(filter(None, (what, asked))) + ":"
        yield _table([heads[place] for place in known], [[row[place] for place in known] for row in rows])
    answers = facts.run.read_answers() if facts.run else []
    expected = [answer for answer in answers if answer.base_correct is not None]
    if expected:
        base, adapter = (sum(bool(getattr(one, name)) for one in expected) for name in ("base_correct", "adapter_correct"))  # fmt: skip
        yield f"Of the {len(expected)} questions that were asked at the end of the training, the base model answered {base} right and the adapter {adapter}."


def _figures(column: ColumnFigures) -> tuple[str, ...]:
    answers = column.answers
    right = f"{answers.contained} / {answers.num_questions}" if answers and answers.num_questions else NONE
    return _interval(column.loss), number(column.perplexity), _interval(column.token_accuracy), right


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return NONE
    if estimate.low is None or estimate.high is None:
        return number(estimate.value)
    return f"{number(estimate.value)} ({number(estimate.low)} to {number(estimate.high)})"


def _settings(facts: CardFacts) -> str:
    if not facts.config:
        said = {key: facts.peft[key] for key in ("r", "lora_alpha", "target_modules") if key in facts.peft}
        return _table(
            ("PEFT setting", "value"), [(markdown_cell(key), _value(key, value)) for key, value in said.items()]
        )
    rows = [(markdown_cell(key), _value(key, value), _value(key, default)) for key, default, value in facts.differences]  # fmt: skip
    return _table(("Setting that is not the default", "value", "default"), rows) if rows else "All settings are the defaults."  # fmt: skip


def _memory(facts: CardFacts) -> str:
    rows = [
        (
            str(one.device) if one.rank is None else f"{one.device}, process {one.rank}",
            *map(gib, (one.planned_at_most, one.expected_bytes, one.measured_bytes)),
        )
        for one in facts.planned
    ]
    return _table(("Device", "planned at most", "planned for the measured step", "measured"), rows) if rows else ""


def _base(facts: CardFacts) -> str:
    rows = [("Model", _link(facts) if facts.base else UNKNOWN)]
    names = {"revision": "Revision", "config_sha256": "config.json, sha256", "weights_sha256": "Weights, sampled sha256", "tokenizer_sha256": "Tokenizer, sha256"}  # fmt: skip
    rows += [(said, _hash(facts.base_hashes[key])) for key, said in names.items() if facts.base_hashes.get(key)]
    if facts.license:
        rows.append(("License of the base model", markdown_cell(facts.license)))
    return _table(("", ""), rows)


def _versions(facts: CardFacts) -> str:
    rows = [(markdown_cell(name), markdown_cell(version)) for name, version in sorted(facts.versions.items())]
    return _table(("Package", "version"), rows) if rows else ""


def _value(key: str, value: Any) -> str:
    """A config's value for a cell; of a path on this machine its last part alone."""
    if value is None:
        return "–"
    if isinstance(value, str) and value.startswith(("/", "~")):
        return markdown_cell(Path(value).name)
    plain = _without_folders(value) if isinstance(value, list) else value
    return markdown_cell(in_short(key, plain, language="en"))


def _without_folders(values: list[Any]) -> list[Any]:
    def short(entry: Any) -> Any:
        if isinstance(entry, Mapping) and isinstance(entry.get("path"), str):
            return {**entry, "path": Path(entry["path"]).name}
        return entry

    return [short(entry) for entry in values]


def _hash(value: str | None) -> str:
    return markdown_cell(value) if value else UNKNOWN


def _section(title: str, parts: list[str]) -> list[str]:
    """With its heading, where there is something to say."""
    said = [part for part in parts if part]
    return [f"## {title}", *said] if said else []


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
