"""Can it start here, now? One question with one answer, for page, command line, table, launch and resume.

The text is judged apart (`config.check`): a config may be good and meant for another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from lora_backend.config.check import CheckResult
from lora_backend.config.findings import Finding
from lora_backend.config.foreign.tools import is_foreign
from lora_backend.config.rules import ConfigView
from lora_backend.config.validation import refuse_errors
from lora_backend.errors import ConfigError, FlightdeckError, WorkerError
from lora_backend.planning.planner import NotTracedError
from lora_backend.planning.report import verdict
from lora_backend.preflight.attachable import held_against_tree
from lora_backend.preflight.blockers import (
    DOES_NOT_FIT,
    blocker_of,
    blocker_of_rows,
    blockers_by_rows,
    blockers_of,
    warning_of,
)
from lora_backend.preflight.data_asked import Count, by_name
from lora_backend.preflight.placement import DoesNotFitError, plan_start
from lora_backend.preflight.plan_question import Trace, known_only
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.start_plan import in_doubt
from lora_backend.preflight.trees import known_tree


class CannotStartError(ConfigError):
    """What stands in the way of a start, each with its remedy."""

    def __init__(self, blockers: tuple[Finding, ...]) -> None:
        said = [message for blocker in blockers for message in (blocker.message, blocker.remedy)]
        super().__init__("{reasons}", reasons=said)
        self.blockers = blockers


@dataclass(frozen=True)
class Judged:
    """A config with what the check says of its text, and what stands in the way of its start."""

    resolved: ResolvedConfig
    config: ConfigView
    """Its paths as they were bound."""
    blockers: tuple[Finding, ...]
    """All but the plan's, which asks the model's cost."""
    needs_data: bool = True
    """Whether its rows come from its data sets, not from a caller."""

    @property
    def result(self) -> CheckResult:
        return self.resolved.result

    @property
    def remarks(self) -> CheckResult:
        """The check without what stands among the blockers, for whoever shows both; errors of the text stay."""
        blocked = {(blocker.code, blocker.key) for blocker in self.blockers}
        kept = tuple(
            finding
            for finding in self.result.findings
            if finding.severity == "error" or (finding.code, finding.key) not in blocked
        )
        return replace(self.result, findings=kept)

    def refuse(self) -> None:
        """Raise `ConfigError` naming every error of the text, or `CannotStartError` naming every blocker."""
        refuse_errors(self.result)
        if self.blockers:
            raise CannotStartError(self.blockers)


@dataclass(frozen=True)
class Startable:
    """The answer: True where all that a launch refuses for was looked at, False where something stands in the way, None
    where that is not known: the text has errors, or nobody has computed yet what the model costs."""

    answer: bool | None
    blockers: tuple[Finding, ...] = field(default_factory=tuple)
    warnings: tuple[Finding, ...] = field(default_factory=tuple)
    """What a launch asks about: a plan that is tight."""
    is_counted: bool = True
    """Whether the rows of its data sets were looked at with the model's tokenizer; if not, the answer is not known."""

    def blocking(self, *, anyway: bool = False) -> tuple[Finding, ...]:
        """What stands in the way; `anyway` passes over a plan that does not fit."""
        return tuple(blocker for blocker in self.blockers if not (anyway and blocker.code == DOES_NOT_FIT))

    def to_dict(self, language: str | None = None) -> dict[str, Any]:
        """The keys of the document that `check --json` prints."""
        return {
            "startable": self.answer,
            "blockers": [blocker.to_dict(language) for blocker in self.blockers],
            "start_warnings": [warning.to_dict(language) for warning in self.warnings],
        }


def judge(resolved: ResolvedConfig, *, needs_data: bool = True) -> Judged:
    """What the check says of a config, and what stands in the way of its start. `needs_data`: its rows come from
    `dataset`, not from a caller."""
    document, result = resolved.document, resolved.result
    wrong = frozenset(finding.key for finding in result.errors if finding.key)
    config = ConfigView(resolved.values, document.lines, wrong)
    is_ours = document.is_readable and not is_foreign(document)
    facts, installation = resolved.facts, resolved.installation
    blockers = blockers_of(config, result, facts, installation, needs_data=needs_data) if is_ours else ()
    return Judged(resolved, config, blockers, needs_data)


def startable(
    judged: Judged,
    trace: Trace | None = None,
    count: Count | None = None,
) -> Startable:
    """The rows are asked, and last the plan. Without `count` rows are known only where they were counted before, as the
    data page and `data` do it; without `trace` the plan is made only where the model's cost is known already. A trace
    builds the model's modules as well, so the config is held against them then."""
    if judged.blockers:
        return Startable(False, judged.blockers)
    if not judged.result.is_valid:
        return Startable(None)
    try:
        refused, is_counted = of_rows(judged, count)
    except WorkerError:
        refused, is_counted = (), False
    if refused:
        return Startable(False, refused)
    planned = _by_plan(judged, trace)
    return planned if is_counted or planned.answer is False else replace(planned, answer=None, is_counted=False)


def _by_plan(judged: Judged, trace: Trace | None) -> Startable:
    try:
        planned = plan_start(judged.resolved, trace or known_only)
    except (NotTracedError, WorkerError):
        return Startable(None)
    except FlightdeckError as error:
        return Startable(False, _of_new_tree(judged) or (blocker_of(error, judged.config),))
    if found := _of_new_tree(judged):
        return Startable(False, found)
    doubted = in_doubt(planned, judged.resolved.installation)
    if doubted is None:
        return Startable(True)
    if doubted.verdict == "over":
        return Startable(False, (blocker_of(DoesNotFitError(verdict(doubted)), judged.config),))
    return Startable(True, warnings=(warning_of(doubted),))


def of_rows(judged: Judged, count: Count | None) -> tuple[tuple[Finding, ...], bool]:
    """What stands in the way by the rows as the model's tokenizer writes them, and whether every data set was counted.

    Raises `WorkerError` where the process that counts does not answer.
    """
    resolved = judged.resolved
    if not judged.needs_data:
        return (), True
    reports = {**resolved.known_reports, **resolved.known_eval_reports}
    asked = {**resolved.data_questions, **resolved.eval_questions}
    for rows, question in asked.items():
        if rows in reports or count is None:
            continue
        try:
            reports[rows] = count(question)
        except WorkerError:
            raise
        except FlightdeckError as error:
            return (blocker_of_rows(error, judged.config),), False
    trained, evaluated = (
        by_name({rows: reports[rows] for rows in questions if rows in reports})
        for questions in (resolved.data_questions, resolved.eval_questions)
    )
    facts = replace(resolved.facts, data_reports=trained, eval_reports=evaluated)
    found = blockers_by_rows(judged.config, facts)
    return found, asked.keys() <= reports.keys()


def refuse_rows(judged: Judged, count: Count | None) -> None:
    """Raise `CannotStartError` for rows that cannot be trained on. Raises `WorkerError` where nobody can count them."""
    refused, _ = of_rows(judged, count)
    if refused:
        raise CannotStartError(refused)


def refuse_by_new_tree(judged: Judged) -> None:
    """Raise `CannotStartError` for what the modules of a model say that a plan has built meanwhile."""
    found = _of_new_tree(judged)
    if found:
        raise CannotStartError(found)


def _of_new_tree(judged: Judged) -> tuple[Finding, ...]:
    """What stands in the way by the modules of a model that were not known before it was traced."""
    resolved = judged.resolved
    tree = None if resolved.facts.tree is not None else known_tree(resolved.config_json, resolved.installation)
    return () if tree is None else tuple(held_against_tree(judged.config, tree))
