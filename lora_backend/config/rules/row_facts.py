"""Rules over what was counted of a data set: rows that are bad, refused, empty or there twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_backend.config.findings import Finding
from lora_backend.config.named_data import data_key
from lora_backend.config.rules.row_words import counted, values_of, where
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.data.data_report import DataReport, NoteCode
from lora_backend.i18n import N_, Message, Plural

TOO_MANY_BAD_ROWS = Rule(
    "too_many_bad_rows",
    "warning",
    Plural(
        "{count} row is bad ({where}), and `max_bad_rows` is {limit}.",
        "{count} rows are bad ({where}), and `max_bad_rows` is {limit}.",
    ),
    N_("Fix or remove them, or raise `max_bad_rows` to leave them out."),
    broken="max_bad_rows: 1",
    fixed="max_bad_rows: 1",
    facts=counted(num_bad_rows=2),
    fixed_facts=counted(),
)
NO_ROWS_LEFT = Rule(
    "no_rows_left",
    "warning",
    N_("No row of {file} is left to train on: all are bad, or marked as not to be learned."),
    N_("Fix the rows, or name another data set."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted(rows_left=0),
    fixed_facts=counted(),
)
BAD_ROWS_LEFT_OUT = Rule(
    "bad_rows_left_out",
    "warning",
    Plural("{count} bad row is left out ({where}).", "{count} bad rows are left out ({where})."),
    N_("Fix them to train on them."),
    broken="max_bad_rows: 2",
    fixed="max_bad_rows: 2",
    facts=counted(num_bad_rows=2),
    fixed_facts=counted(),
)
TEMPLATE_REFUSES_ROWS = Rule(
    "template_refuses_rows",
    "warning",
    Plural(
        "{count} row cannot be written with the model's chat template ({where}): {reason}",
        "{count} rows cannot be written with the model's chat template ({where}): {reason}",
    ),
    N_("Fix or remove these rows, or raise `max_bad_rows` to leave them out."),
    broken="max_bad_rows: 1",
    fixed="max_bad_rows: 1",
    facts=counted("refused"),
    fixed_facts=counted(),
)
REFUSED_ROWS_LEFT_OUT = Rule(
    "refused_rows_left_out",
    "warning",
    Plural(
        "{count} row is left out, because the model's chat template refuses it ({where}): {reason}",
        "{count} rows are left out, because the model's chat template refuses them ({where}): {reason}",
    ),
    N_("Fix them to train on them."),
    broken="max_bad_rows: 2",
    fixed="max_bad_rows: 2",
    facts=counted("refused"),
    fixed_facts=counted(),
)
ANSWERS_REWRITTEN = Rule(
    "answers_rewritten",
    "hint",
    Plural(
        "{count} row has an answer that the chat template rewrites or leaves out ({where}); training uses what the template writes.",
        "{count} rows have an answer that the chat template rewrites or leaves out ({where}); training uses what the template writes.",
    ),
    N_("To train on such an answer as written, make it the last one of its row."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("lost_answer"),
    fixed_facts=counted(),
)
NO_END_OF_TURN = Rule(
    "no_end_of_turn",
    "warning",
    None,
    N_("End each answer with the model's end-of-text token in its chat template."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("no_end_of_turn"),
    fixed_facts=counted(),
)
END_IS_NOT_EOS = Rule(
    "end_is_not_eos",
    "hint",
    None,
    N_("Answers stop at it here. Elsewhere pass the adapter's generation_config.json to `generate`."),
    broken="dataset: d.jsonl",
    fixed="dataset: d.jsonl",
    facts=counted("end_is_not_eos"),
    fixed_facts=counted(),
)
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
        "{count} held-out row is also among the training rows, so `eval_loss` looks better than it is ({where}).",
        "{count} held-out rows are also among the training rows, so `eval_loss` looks better than it is ({where}).",
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
    for code, rule in OF_NOTES.items():
        for name, report in facts.data_reports.items():
            for note in report.notes_of(code):
                said = values_of(note, report.counts, name if len(facts.data_reports) > 1 else None)
                yield rule.found(
                    config,
                    data_key(config.values),
                    said,
                    sentence=_own(rule, note.message),
                    remedy=_own(rule, note.remedy),
                )


def _own(rule: Rule, said: Message | None) -> Message | None:
    """The words of whoever found it, for a rule that has none."""
    return said if rule.sentence is None else None


def _sets(config: ConfigView, facts: Facts) -> Iterator[tuple[str, str, str | None, DataReport]]:
    """Of each data set its key, its name, the name where a sentence needs one, and what was counted."""
    for name, report in facts.data_reports.items():
        yield data_key(config.values), name, name if len(facts.data_reports) > 1 else None, report
    for name, report in facts.eval_reports.items():
        yield "eval_dataset", name, name, report


def _bad(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    told = {key for _, key, _ in facts.problems}  # who reads the rows has said it
    if not config.has_good("max_bad_rows"):
        return
    limit = config.get("max_bad_rows")
    for key, name, file, report in _sets(config, facts):
        if key in told:
            continue
        if not report.rows:
            yield NO_ROWS_LEFT.found(config, key, {"file": name})
        elif report.num_bad_rows:
            named = where([row.row for row in report.bad_rows], report.num_bad_rows, file=file)
            said = {"count": report.num_bad_rows, "where": named, "limit": limit}
            more = config.change({"max_bad_rows": report.num_bad_rows})
            if report.num_bad_rows > limit:
                yield TOO_MANY_BAD_ROWS.found(config, key, said, more)
            else:
                yield BAD_ROWS_LEFT_OUT.found(config, key, said)


def _refused(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if not config.has_good("max_bad_rows"):
        return
    limit = config.get("max_bad_rows")
    none_left = not any(one.counts is None or one.counts.trained_tokens for one in facts.data_reports.values())
    for key, _, file, report in _sets(config, facts):
        for note in report.notes_of("refused"):
            bad = report.num_bad_rows + note.count
            said = values_of(note, report.counts, file)
            if bad > limit or (none_left and key != "eval_dataset"):
                more = None if none_left else config.change({"max_bad_rows": bad})
                yield TEMPLATE_REFUSES_ROWS.found(config, key, said, more)
            else:
                yield REFUSED_ROWS_LEFT_OUT.found(config, key, said)


RULES = (
    TOO_MANY_BAD_ROWS,
    NO_ROWS_LEFT,
    BAD_ROWS_LEFT_OUT,
    TEMPLATE_REFUSES_ROWS,
    REFUSED_ROWS_LEFT_OUT,
    *OF_NOTES.values(),
)
CHECKS: tuple[FactCheck, ...] = (_bad, _refused, _notes)
