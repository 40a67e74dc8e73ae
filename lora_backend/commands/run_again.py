"""How to make a run again, in words for a terminal, and what is not as it was."""

from __future__ import annotations

from lora_backend.commands.words import say
from lora_backend.i18n import N_
from lora_backend.runs.history.reproduce import Reproduction, ThenNow


def again_lines(again: Reproduction) -> list[str]:
    """How to make the run again, and what is not as it was."""
    if again.command is None:
        lines = [
            say(N_("No command reproduces it: it was trained on a caller's own batches, or its config file is gone."))
        ]
    else:
        lines = [say(N_("To reproduce it:")), f"  {again.command}"]
    data = again.data_sha256
    if data.then is None:
        lines.append(say(N_("The hash of its data was not recorded.")))
    elif data.now is None:
        lines.append(say(N_("Its data {path} is not there any more."), path=again.dataset))
    elif data.differs:
        lines.append(
            say(
                N_("Its data {path} was changed since: it had the hash {then}, and has {now}."),
                path=again.dataset,
                then=data.then[:12],
                now=data.now[:12],
            )
        )
    elif again.data_of_steps:
        lines.append(say(N_("Its data is what its last steps were trained on (sha256 {hash})."), hash=data.then[:12]))
    else:
        lines.append(say(N_("Its data is as it was (sha256 {hash})."), hash=data.then[:12]))
    if again.data_of_steps:
        steps = ", ".join(
            f"{one['first_step']}–{one['last_step'] or ''}: {(one['data_sha256'] or '–')[:12]}"
            for one in again.data_of_steps
        )
        lines.append(say(N_("Its data was changed while it was trained (sha256 by steps: {steps})."), steps=steps))
    lines += [message.text() for message in again.base_model]
    lines.append(_code_line(again))
    lines += [f"{name}: {sides.then or '–'} → {sides.now or '–'}" for name, sides in again.versions.items()]
    if not again.versions:
        lines.append(say(N_("All recorded versions are installed.")))
    lines += [
        say(N_("Start {number}: {difference}"), number=number, difference=message.text())
        for number, said in again.starts
        for message in said
    ]
    if again.later_changes:
        lines.append(
            say(
                N_("It was resumed with other settings, which the command gives from the first step on: {keys}."),
                keys=", ".join(again.later_changes),
            )
        )
    return lines


def _code_line(again: Reproduction) -> str:
    commit: ThenNow = again.commit
    if commit.then is None:
        return say(N_("The commit of the program was not recorded."))
    then = commit.then[:12] + (say(N_(" with uncommitted changes")) if again.was_modified else "")
    if commit.now is None:
        return say(N_("The program was at commit {then}; its current commit is unknown."), then=then)
    now = commit.now[:12] + (say(N_(" with uncommitted changes")) if again.is_modified else "")
    return say(N_("The program was at commit {then}, and is at {now}."), then=then, now=now)
