"""The line that a job runs: it looks for the run's folder first, and then becomes the trainer, with the run's own log."""

from __future__ import annotations

import shlex

from lora_backend.clusters.cluster import Task

NOT_SEEN = 97
"""Exit code of a job whose machine does not see the run's folder."""
NOT_WANTED = 96
"""Exit code of a job that began after its run was told to stop, has ended, or was started again."""


def job_line(task: Task) -> str:
    """For `/bin/sh`. Nothing is left of the shell: signals reach the trainer itself."""
    folder = task.folder
    over = ("stop.request", "exit.json", f"attempts/{task.number}.exit.json", f"attempts/{task.number + 1}.json")
    is_over = " || ".join(f"test -e {shlex.quote(str(folder / name))}" for name in over)
    variables = [f"{name}={value}" for name, value in sorted(task.environment.items())]
    return (
        f"test -f {shlex.quote(str(folder / 'run.json'))} || exit {NOT_SEEN}; "
        f"if {is_over}; then exit {NOT_WANTED}; fi; "
        f"exec {shlex.join(['env', *variables, *task.argv])} "
        f">> {shlex.quote(str(folder / 'train.log'))} 2>&1 < /dev/null"
    )
