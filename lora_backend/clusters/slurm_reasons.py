"""Why Slurm lets a job wait, in words. The names are those of its manual page `squeue`, JOB REASON CODES."""

from __future__ import annotations

from lora_backend.i18n import N_, Message

WAITS = {
    "Resources": N_("it is waiting for the resources it asked for"),
    "Priority": N_("jobs with a higher priority come first"),
    "Dependency": N_("it is waiting for another job"),
    "BeginTime": N_("its start time has not come yet"),
    "Licenses": N_("it is waiting for a license"),
    "Reservation": N_("it is waiting for its reservation"),
    "ReqNodeNotAvail": N_("a machine it needs is down, drained or reserved"),
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions": N_(
        "the machines it needs are down, drained or reserved"
    ),
    "QOSMaxJobsPerUserLimit": N_("you have reached the QOS limit on running jobs"),
    "QOSMaxGRESPerUser": N_("you have reached the QOS limit on GPUs"),
    "AssocMaxJobsLimit": N_("your account has reached its limit on running jobs"),
    "AssocGrpGRES": N_("your account has reached its limit on GPUs"),
    "Cleaning": N_("its previous start is still being cleaned up"),
    "None": N_("Slurm has not looked at it yet"),
}
"""Reasons that go by themselves."""
STAYS = {
    "PartitionTimeLimit": N_("it asks for more time than the partition allows: lower `timeout_min`"),
    "PartitionNodeLimit": N_("the partition does not allow that many machines: choose another `partition`"),
    "PartitionDown": N_("the partition is down: choose another `partition`"),
    "PartitionInactive": N_("the partition is inactive: choose another `partition`"),
    "BadConstraints": N_("no machine has what it asks for: change the job settings"),
    "InvalidAccount": N_("its account is not valid: change `account`"),
    "InvalidQOS": N_("its QOS is not valid: change `qos`"),
    "JobHeldUser": N_("it is held by its user: release it with `scontrol release`"),
    "JobHeldAdmin": N_("it is held by an administrator: ask the cluster administrator"),
    "DependencyNeverSatisfied": N_("the job it depends on did not end as required: change `dependency`"),
    "AccountNotAllowed": N_("its account may not use this partition: change `account` or `partition`"),
    "QOSNotAllowed": N_("this QOS is not allowed here: change `qos` or `partition`"),
    "ReservationDeleted": N_("its reservation was deleted: change `reservation`"),
    "launch failed requeued held": N_("it could not start and is held: ask the cluster administrator"),
}
"""Reasons with which it would wait for ever."""


def meaning_of(reason: str | None) -> Message | None:
    """What a reason means; None for one that is not known here."""
    short = (reason or "").strip("()")
    said = (
        WAITS.get(short) or STAYS.get(short) or WAITS.get(short.partition(",")[0]) or STAYS.get(short.partition(",")[0])
    )
    return Message(said) if said else None
