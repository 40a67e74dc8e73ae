"""What one start will hold, as its attempt keeps it; refused where it is more than there is."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.installation import Installation
from lora_backend.planning.estimate import estimate
from lora_backend.planning.plan import Plan
from lora_backend.planning.report import verdict
from lora_backend.planning.verdict import ORDER, Verdict
from lora_backend.preflight.conditions import conditions_for
from lora_backend.preflight.placement import DoesNotFitError, StartPlan, TightError, advice_for, plan_start
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.strategy import emptied
from lora_backend.runs.processes.leases import holders, lease_keys
from lora_backend.runs.record.attempts import Attempt, PlannedTime
from lora_backend.runs.record.peer_documents import MachineMeeting


def plan_attempt(
    resolved: ResolvedConfig,
    trace: Trace,
    *,
    accepts: Verdict = "fits",
    shares: bool = False,
    only: Sequence[str] | None = None,
    meeting: MachineMeeting | None = None,
) -> Attempt:
    """What an attempt's file says of its plan, on the GPUs with the UUIDs `only` where that is given, with what was
    accepted of it. `meeting`: where this machine meets the others that train with it.

    Raises `TightError` or `DoesNotFitError`, with the remedies, where its verdict is worse than what the person who
    starts it `accepts`.
    """
    planned = plan_start(resolved, trace, only=only)
    attempt = planned.attempt
    will_wait = holders(resolved.installation.leases, lease_keys(attempt))
    if will_wait and (takes := planned_time(planned, resolved)):
        attempt.planned_time = takes
    if accepts == "over":
        attempt.anyway = True
    if shares:
        attempt.shares = True
    if meeting is not None and attempt.num_nodes > 1:
        attempt.meeting = meeting
    doubted = in_doubt(planned, resolved.installation)
    if doubted is None:
        return attempt
    if ORDER.index(doubted.verdict) > ORDER.index(accepts):
        refusal = DoesNotFitError if doubted.verdict == "over" else TightError
        raise refusal(verdict(doubted), lambda: advice_for(planned, resolved.config))
    attempt.accepted = doubted.verdict
    return attempt


def planned_time(planned: StartPlan, resolved: ResolvedConfig) -> PlannedTime | None:
    """How long its steps take, for whoever waits; None where the lengths of its rows are not known, or a card's rates."""
    plan = planned.plan
    if plan is None:
        return None
    targets = [device.target for device in plan.used]
    conditions = conditions_for(resolved, targets, planned.planner.link_speed if planned.planner else None)
    found = estimate(plan, resolved.config, conditions) if conditions.lengths is not None else None
    if found is None or found.total_s is None or found.num_steps is None:
        return None
    return PlannedTime(fast_s=found.total_s[0], slow_s=found.total_s[1], num_steps=found.num_steps)


def in_doubt(planned: StartPlan, installation: Installation) -> Plan | None:
    """The plan of a start that is tight or over; None where it fits beyond doubt, or there is no plan.

    It is held against what is free now; where it waits for runs of ours that hold its devices, against all that these have.
    """
    plan = planned.plan
    if plan is None or plan.verdict == "fits":
        return None
    if holders(installation.leases, lease_keys(planned.attempt)):
        plan = emptied(plan)
    return None if plan.verdict == "fits" else plan
