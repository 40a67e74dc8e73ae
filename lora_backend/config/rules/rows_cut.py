"""Rules over rows that are longer than `max_length`.

They say nothing where nobody has counted, or where the config has another `max_length` by now.
"""

from __future__ import annotations

from collections.abc import Iterator

from lora_backend.config.findings import Finding
from lora_backend.config.rules.row_words import counted, values_of
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.data.data_report import NoteCode
from lora_backend.i18n import N_, Plural

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
ROWS_TOO_LONG = Rule(
    "rows_too_long",
    "warning",
    Plural(
        "{count} row is longer than `max_length` {limit} and is left out ({where}).",
        "{count} rows are longer than `max_length` {limit} and are left out ({where}).",
    ),
    N_("Raise `max_length` to train on them. The longest row has {longest} tokens."),
    broken="max_length: 64\ntruncation: drop",
    fixed="max_length: 100\ntruncation: drop",
    facts=counted("cut", max_length=64, cut=2, truncation="drop"),
)
_NO_ANSWER = N_("No token of any row is trained on: the text that the chat template writes has none of the answers.")
_ADD_ANSWERS = N_("Look at a row with `data FILE --show 1`, and fix the rows or the template.")
_CUTS_BY_DROPPING: tuple[tuple[Rule, NoteCode], ...] = ((ROWS_TOO_LONG, "cut"),)
_CUTS: tuple[tuple[Rule, NoteCode], ...] = (
    (ROWS_BEHIND_CUT, "behind_cut"),
    (ROWS_WITHOUT_END, "without_end"),
    (ROWS_CUT, "cut"),
)


def _cut(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if not config.has_good("max_length", "truncation"):
        return
    for name, report in facts.data_reports.items():
        counts = report.counts
        if counts is None or counts.max_length != config.get("max_length"):
            continue  # of another cut than the config asks for
        values = {"limit": counts.max_length, "longest": counts.longest}
        whole = config.change({"max_length": counts.longest}) if _holds(facts, counts.longest) else None
        if counts.rows and not counts.trained_tokens and not report.notes_of("refused"):
            if counts.cut:
                yield NOTHING_TO_TRAIN_ON.found(config, "max_length", values, whole)
            else:
                yield NOTHING_TO_TRAIN_ON.found(config, "dataset", sentence=_NO_ANSWER, remedy=_ADD_ANSWERS)
            continue
        said_already = counts.behind_cut + counts.without_end
        for rule, code in _CUTS_BY_DROPPING if counts.truncation == "drop" else _CUTS:
            for note in report.notes_of(code):
                if rule is ROWS_CUT and counts.cut <= said_already:
                    continue
                said = values | values_of(note, counts, name if len(facts.data_reports) > 1 else None)
                yield rule.found(config, "max_length", said, whole)


def _holds(facts: Facts, tokens: int) -> bool:
    return facts.max_positions is None or tokens <= facts.max_positions


RULES = (
    NOTHING_TO_TRAIN_ON,
    ROWS_BEHIND_CUT,
    ROWS_WITHOUT_END,
    ROWS_CUT,
    ROWS_TOO_LONG,
)
CHECKS: tuple[FactCheck, ...] = (_cut,)
