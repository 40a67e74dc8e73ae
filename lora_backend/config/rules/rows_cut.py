"""Rules over rows that are longer than `max_length`.

They say nothing where nobody has counted, or where the config has another `max_length` by now.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lora_backend.config.findings import Finding, Fix
from lora_backend.config.named_data import data_key
from lora_backend.config.patch import DELETE
from lora_backend.config.rules.row_words import counted, values_of
from lora_backend.config.rules.rule import Rule
from lora_backend.config.rules.rule_input import ConfigView, FactCheck, Facts
from lora_backend.data.data_report import NoteCode, TokenCounts
from lora_backend.i18n import N_, Message, Plural

NOTHING_TO_TRAIN_ON = Rule(
    "nothing_to_train_on",
    "warning",
    N_("No token of any row is trained on: `max_length` {limit} cuts every row before its answer begins."),
    N_("Raise `max_length`: the longest row has {longest} tokens."),
    broken="max_length: 8",
    fixed="max_length: 100",
    facts=counted("behind_cut", max_length=8, cut=16, behind_cut=16, trained_tokens=0, trained_rows=0),
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
NOTHING_TO_EVALUATE = Rule(
    "nothing_to_evaluate",
    "warning",
    N_("No row that `val_size: {share}` holds out has a trained token, so there is nothing to evaluate."),
    N_("Raise `max_length`, choose another `seed`, or remove `val_size`."),
    broken="val_size: 0.25\neval_strategy: epoch\nseed: 1",
    fixed="seed: 1",
    facts=counted(trained_rows=2),
)
ROWS_BEYOND_POSITIONS = Rule(
    "rows_beyond_positions",
    "warning",
    N_("The longest row has {longest} tokens, but the model has only {positions} positions."),
    N_("Set `max_length` to {positions}."),
    broken="batch_size: 1",
    fixed="max_length: 64",
    facts=replace(counted(longest_kept=100), max_positions=64, outer_modules=("wte", "wpe")),
)
_POSITIONS = re.compile(r"wpe|\w*position\w*")
_NO_EVAL = N_("No row of {file} has a trained token within `max_length` {limit}, so there is nothing to evaluate.")
_LOOK_AT_EVAL = N_("Raise `max_length`, or name another `eval_dataset`.")
_NO_ANSWER = N_(
    "No token of any row is trained on: the text that the chat template writes contains none of the answers."
)
_ADD_ANSWERS = N_("Look at a row with `data FILE --show 1`, and fix the rows or the template.")
_CUTS_BY_DROPPING: tuple[tuple[Rule, NoteCode], ...] = ((ROWS_TOO_LONG, "cut"),)
_CUTS: tuple[tuple[Rule, NoteCode], ...] = (
    (ROWS_BEHIND_CUT, "behind_cut"),
    (ROWS_WITHOUT_END, "without_end"),
    (ROWS_CUT, "cut"),
)


def _cut(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    if not config.has_good("max_length", "truncation", "val_size"):
        return
    known = {
        name: counts
        for name, report in facts.data_reports.items()
        if (counts := report.counts) is not None and counts.max_length == config.get("max_length")
    }  # others are of another cut than the config asks for
    found = _of_all(config, facts, known) if known.keys() == facts.data_reports.keys() else None
    if found is not None:
        yield found
        return
    for name, counts in known.items():
        values, whole = _limits(config, facts, counts)
        said_already = counts.behind_cut + counts.without_end
        for rule, code in _CUTS_BY_DROPPING if counts.truncation == "drop" else _CUTS:
            for note in facts.data_reports[name].notes_of(code):
                if rule is ROWS_CUT and counts.cut <= said_already:
                    continue
                said = values | values_of(note, counts, name if len(facts.data_reports) > 1 else None)
                yield rule.found(config, "max_length", said, whole)


def _of_all(config: ConfigView, facts: Facts, known: Mapping[str, TokenCounts]) -> Finding | None:
    """What no run can train on, looking at all data sets together."""
    if not known:
        return None
    longest = max(known.values(), key=lambda counts: counts.longest)
    values, whole = _limits(config, facts, longest)
    if not any(counts.trained_tokens for counts in known.values()):
        if any(counts.cut for counts in known.values()):
            return NOTHING_TO_TRAIN_ON.found(config, "max_length", values, whole)
        if any(facts.data_reports[name].notes_of("refused") for name in known):
            return None  # and that is said
        return NOTHING_TO_TRAIN_ON.found(config, data_key(config.values), sentence=_NO_ANSWER, remedy=_ADD_ANSWERS)
    if config.get("val_size") and not any(counts.held_back_rows for counts in known.values()):
        values["share"] = config.get("val_size")
        return NOTHING_TO_EVALUATE.found(config, "val_size", values, config.change({"val_size": DELETE, "eval_strategy": DELETE}))  # fmt: skip
    kept = max(counts.longest_kept for counts in known.values())
    if facts.max_positions and has_position_table(facts) and kept > facts.max_positions:
        values |= {"longest": kept, "positions": facts.max_positions}
        return ROWS_BEYOND_POSITIONS.found(config, "max_length", values, config.change({"max_length": facts.max_positions}))  # fmt: skip
    return None


def _evaluated(config: ConfigView, facts: Facts) -> Iterator[Finding]:
    """Of the rows of `eval_dataset`, what no run can evaluate."""
    for name, report in facts.eval_reports.items():
        counts = report.counts
        if counts is None or counts.max_length != config.get("max_length") or not report.rows:
            continue
        values, whole = _limits(config, facts, counts)
        if not counts.trained_tokens:
            said = Message(_NO_EVAL, {"file": name, **values})
            yield NOTHING_TO_EVALUATE.found(
                config, "eval_dataset", values, whole if counts.cut else None, sentence=said, remedy=_LOOK_AT_EVAL
            )
        elif facts.max_positions and has_position_table(facts) and counts.longest_kept > facts.max_positions:
            values |= {"longest": counts.longest_kept, "positions": facts.max_positions}
            yield ROWS_BEYOND_POSITIONS.found(
                config, "max_length", values, config.change({"max_length": facts.max_positions})
            )


def has_position_table(facts: Facts) -> bool:
    """Whether the model has learned its positions, by the names of its weights: it breaks behind the last of them."""
    return any(_POSITIONS.fullmatch(name) for name in facts.outer_modules)


def _limits(config: ConfigView, facts: Facts, counts: TokenCounts) -> tuple[dict[str, Any], Fix | None]:
    """Values for a sentence, and the fix that keeps every row whole where the model takes such rows."""
    holds = facts.max_positions is None or counts.longest <= facts.max_positions
    whole = config.change({"max_length": counts.longest}) if holds else None
    return {"limit": counts.max_length, "longest": counts.longest}, whole


RULES = (
    NOTHING_TO_TRAIN_ON,
    ROWS_BEHIND_CUT,
    ROWS_WITHOUT_END,
    ROWS_CUT,
    ROWS_TOO_LONG,
    NOTHING_TO_EVALUATE,
    ROWS_BEYOND_POSITIONS,
)
CHECKS: tuple[FactCheck, ...] = (_cut, _evaluated)
