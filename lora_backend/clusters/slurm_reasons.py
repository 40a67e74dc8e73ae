"""Why Slurm lets a job wait, in words. The names are those of its manual page `squeue`, JOB REASON CODES."""

from __future__ import annotations

from lora_backend.i18n import N_, Message

WAITS = {
    "Resources": N_("it waits until what it asks for is free"),
    "Priority": N_("jobs with a higher priority come first"),
    "Dependency": N_("it waits for another job"),
    "BeginTime": N_("its start time has not come"),
    "Licenses": N_("it waits for a license"),
    "Reservation": N_("it waits for its reservation"),
    "ReqNodeNotAvail": N_("a machine that it asks for is down, drained or reserved"),
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions": N_(
        "the machines that it asks for are down, drained or reserved"
    ),
    "QOSMaxJobsPerUserLimit": N_("you have as many running jobs as the QOS allows"),
    "QOSMaxGRESPerUser": N_("you have as many GPUs as the QOS allows"),
    "AssocMaxJobsLimit": N_("your account has as many running jobs as it is allowed"),
    "AssocGrpGRES": N_("your account has as many GPUs as it is allowed"),
    "Cleaning": N_("its last start is still being cleaned up"),
    "None": N_("Slurm has not looked at it yet"),
}
"""Reasons that go by themselves."""
STAYS = {
    "PartitionTimeLimit": N_("its time is longer than the partition allows: lower `timeout_min`"),
    "PartitionNodeLimit": N_("the partition does not allow that many machines: name another `partition`"),
    "PartitionDown": N_("the partition is down: name another `partition`"),
    "PartitionInactive": N_("the partition is inactive: name another `partition`"),
    "BadConstraints": N_("no machine can ever give what it asks for: change the job's settings"),
    "InvalidAccount": N_("its account is not valid: change `account`"),
    "InvalidQOS": N_("its QOS is not valid: change `qos`"),
    "JobHeldUser": N_("it is held by its user: release it with `scontrol release`"),
    "JobHeldAdmin": N_("it is held by an administrator: ask who runs the cluster"),
    "DependencyNeverSatisfied": N_("the job that it waits for did not end as it had to: change `dependency`"),
    "AccountNotAllowed": N_("its account may not use this partition: change `account` or `partition`"),
    "QOSNotAllowed": N_("this QOS may not be used here: change `qos` or `partition`"),
    "ReservationDeleted": N_("its reservation was deleted: change `reservation`"),
    "launch failed requeued held": N_("it could not be started and is held: ask who runs the cluster"),
}
"""Reasons with which it would wait for ever."""


def meaning_of(reason: str | None) -> Message | None:
    """What a reason means; None for one that is not known here."""
    short = (reason or "").strip("()")
    said = (
        WAITS.get(short) or STAYS.get(short) or WAITS.get(short.partition(",")[0]) or STAYS.get(short.partition(",")[0])
    )
    return Message(said) if said else None
