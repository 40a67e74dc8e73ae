"""Rules over what was counted of a data set: rows that are cut, refused, empty or there twice.

They say nothing where nobody has counted, or where the config has another `max_length` by now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_backend.config.findings import Finding
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.data.data_report import DataReport, NoteCode, RowNote, TokenCounts
from lora_backend.i18n import N_, Message, Plural

MOST_NAMED = 5
"""Rows whose numbers stand in a sentence."""


def counted(code: NoteCode | None = None, **counts: Any) -> Facts:
    """What is known of a set of sixteen rows in an example: `code` is said of two of them, or of all where `rows` is 0."""
    known: dict[str, Any] = {
        "rows": 16, "is_estimate": False, "tokens": 4000, "trained_tokens": 2000, "longest": 100, "cut": 0, "without_end": 0,
        "behind_cut": 0, "max_length": 1024, "truncation": "cut_answer", "lengths": [16], "edges": [100], "padded_share": 0.1,
    }  # fmt: skip
    note = RowNote(
        code=code or "cut", count=2, rows=[3, 8], detail="<|im_end|>", message=Message("Roles must alternate.")
    )
    report = DataReport(
        form="messages", rows=16, bad_rows=[], num_bad_rows=0, duplicates=0, sha256="0", notes=[note] if code else [],
        counts=TokenCounts(**(known | counts)),
    )  # fmt: skip
    return Facts(data_report=report)


NOTHING_TO_TRAIN_ON = Rule(
    "nothing_to_train_on",
    "warning",
    N_("No token of any row is trained on: `max_length` {limit} cuts every row before its answer begins."),
    N_("Raise `max_length`: the longest row has {longest} tokens."),
    broken="max_length: 8",
    fixed="max_length: 100",
    facts=counted("behind_cut", max_length=8, cut=16, behind_cut=16, trained_tokens=0),
)
ROWS_BEHIND_CUT = Rule(
    "rows_behind_cut",
    "warning",
    Plural(
        "{count} row is cut at `max_length` {limit} before its answer begins, so nothing of it is trained on ({where}).",
        "{count} rows are cut at `max_length` {limit} before their answers begin, so nothing of them is trained on ({where}).",
    ),
    N_("Raise `max_length`, or shorten these rows. The longest row has {longest} tokens."),
    broken="max_length: 64",
    fixed="max_length: 100",
    facts=counted("behind_cut", max_length=64, cut=2, behind_cut=2),
)
ROWS_WITHOUT_END = Rule(
    "rows_without_end",
    "warning",
    Plural(
        "{count} row loses the end of its last answer at `max_length` {limit}, so the model does not learn to stop there ({where}).",
        "{count} rows lose the end of their last answers at `max_length` {limit}, so the model does not learn to stop there ({where}).",
    ),
    N_("Raise `max_length`, or shorten these rows. The longest row has {longest} tokens."),
    broken="max_length: 64",
    fixed="max_length: 100",
    facts=counted("without_end", max_length=64, cut=2, without_end=2),
)
ROWS_CUT = Rule(
    "rows_cut",
    "hint",
    Plural(
        "{count} row is longer than `max_length` {limit} and is cut ({where}).",
        "{count} rows are longer than `max_length` {limit} and are cut ({where}).",
    ),
    N_("Raise `max_length` to keep them whole. The longest row has {longest} tokens."),
    broken="max_length: 64",
    fixed="max_length: 100",
    facts=counted("cut", max_length=64, cut=2),
)
_CUTS: tuple[tuple[Rule, NoteCode], ...] = (
    (ROWS_BEHIND_CUT, "behind_cut"),
    (ROWS_WITHOUT_END, "without_end"),
    (ROWS_CUT, "cut"),
)


def _cut(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    report, counts = facts.data_report, _counts(config, facts)
    if report is None or counts is None or not config.has_good("max_length"):
        return
    values = {"limit": counts.max_length, "longest": counts.longest}
    whole = config.change({"max_length": counts.longest}) if _holds(facts, counts.longest) else None
    if counts.rows and not counts.trained_tokens and counts.behind_cut:
        yield NOTHING_TO_TRAIN_ON.found(config, "max_length", values, whole)
        return
    for rule, code in _CUTS:
        for note in report.notes_of(code):
            yield rule.found(config, "max_length", values | _of(note, counts), whole)


def _holds(facts: Facts, tokens: int) -> bool:
    return facts.max_positions is None or tokens <= facts.max_positions


TEMPLATE_REFUSES_ROWS = Rule(
    "template_refuses_rows",
    "warning",
    Plural(
        "{count} row cannot be written with the model's chat template ({where}): {reason}",
        "{count} rows cannot be written with the model's chat template ({where}): {reason}",
    ),
    N_("Fix or remove these rows."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("refused"),
    fixed_facts=counted(),
)
ANSWERS_REWRITTEN = Rule(
    "answers_rewritten",
    "hint",
    Plural(
        "{count} row has an answer that the chat template rewrites or leaves out ({where}); what the template writes is trained on.",
        "{count} rows have an answer that the chat template rewrites or leaves out ({where}); what the template writes is trained on.",
    ),
    N_("To train such an answer as it stands, end a row with it."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("lost_answer"),
    fixed_facts=counted(),
)
NO_END_OF_TURN = Rule(
    "no_end_of_turn",
    "warning",
    N_("The chat template writes no token at the end of an answer, so the model does not learn to stop."),
    N_("Use a chat template that ends an answer with the model's end-of-text token."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("no_end_of_turn"),
    fixed_facts=counted(),
)
END_IS_NOT_EOS = Rule(
    "end_is_not_eos",
    "warning",
    N_("The chat template ends an answer with `{mark}`, which is not among the model's end-of-text tokens."),
    N_("Answers stop at `{mark}` here, and the adapter's generation config says so. Where you serve the adapter without that file, set `{mark}` as a stop token."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("end_is_not_eos"),
    fixed_facts=counted(),
)  # fmt: skip
DUPLICATE_ROWS = Rule(
    "duplicate_rows",
    "hint",
    Plural(
        "{count} row repeats an earlier one ({where}).",
        "{count} rows repeat an earlier one ({where}).",
    ),
    N_("Remove the repeats, unless these rows should weigh more."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("duplicate"),
    fixed_facts=counted(),
)
ROWS_IN_BOTH_SPLITS = Rule(
    "rows_in_both_splits",
    "warning",
    Plural(
        "{count} held-back row is also among the rows to train on, so `eval_loss` looks better than it is ({where}).",
        "{count} held-back rows are also among the rows to train on, so `eval_loss` looks better than it is ({where}).",
    ),
    N_("Remove the repeats from the data set."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("in_both_splits"),
    fixed_facts=counted(),
)
EMPTY_ANSWERS = Rule(
    "empty_answers",
    "warning",
    Plural("{count} row has an empty answer ({where}).", "{count} rows have an empty answer ({where})."),
    N_("Fill in these answers, or remove the rows."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("empty_answer"),
    fixed_facts=counted(),
)
ROWS_WITHOUT_ANSWER = Rule(
    "rows_without_answer",
    "warning",
    Plural(
        "{count} row has no answer to train on ({where}).",
        "{count} rows have no answer to train on ({where}).",
    ),
    N_("Add an answer to these rows, or remove them."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("all_prompt"),
    fixed_facts=counted(),
)
UNUSED_ROW_KEY = Rule(
    "unused_row_key",
    "hint",
    Plural(
        "{count} row has the key `{mark}`, which is not used ({where}).",
        "{count} rows have the key `{mark}`, which is not used ({where}).",
    ),
    N_("Remove it, or map it with `data_columns`."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("unused_key"),
    fixed_facts=counted(),
)
OF_NOTES: Mapping[NoteCode, Rule] = {
    "refused": TEMPLATE_REFUSES_ROWS,
    "all_prompt": ROWS_WITHOUT_ANSWER,
    "empty_answer": EMPTY_ANSWERS,
    "no_end_of_turn": NO_END_OF_TURN,
    "end_is_not_eos": END_IS_NOT_EOS,
    "in_both_splits": ROWS_IN_BOTH_SPLITS,
    "lost_answer": ANSWERS_REWRITTEN,
    "duplicate": DUPLICATE_ROWS,
    "unused_key": UNUSED_ROW_KEY,
}
"""The rule that speaks of each note of a report, in the order of their weight."""


def _notes(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    report = facts.data_report
    if report is None:
        return
    for code, rule in OF_NOTES.items():
        for note in report.notes_of(code):
            yield rule.found(config, "dataset", _of(note, report.counts))


def _counts(config: ConfigView, facts: Facts) -> TokenCounts | None:
    """Of the very cut that the config asks for."""
    counts = None if facts.data_report is None else facts.data_report.counts
    return counts if counts is not None and counts.max_length == config.get("max_length") else None


def _of(note: RowNote, counts: TokenCounts | None) -> dict[str, Any]:
    """Values for the sentence of a note."""
    is_sample = counts is not None and counts.is_estimate and note.code not in ("duplicate", "unused_key")
    reason = note.message or Message("–")
    return {"count": note.count, "where": where(note, counts.rows if counts and is_sample else None), "mark": note.detail or "–", "reason": reason}  # fmt: skip


def where(note: RowNote, looked_at: int | None = None) -> Message:
    """`row 3`, `rows 3, 17 and 20`, `rows 3, 17, 20, 24, 31 and 95 more`; of a sample it says that it is one."""
    named = note.rows[:MOST_NAMED]
    values: dict[str, Any] = {"count": note.count, "rows": ", ".join(map(str, named)), "more": note.count - len(named)}
    template = Plural("row {rows}", "rows {rows}")
    said = Message(template if note.count <= len(named) else N_("rows {rows} and {more} more"), values)
    if looked_at is None:
        return said
    return Message(N_("of the {looked_at} rows looked at; {where}"), {"looked_at": f"{looked_at:,}", "where": said})


RULES = (
    NOTHING_TO_TRAIN_ON,
    ROWS_BEHIND_CUT,
    ROWS_WITHOUT_END,
    ROWS_CUT,
    *OF_NOTES.values(),
)
CHECKS: tuple[FactCheck, ...] = (_cut, _notes)
