"""The light process beside each trainer: starts it, reaps it, writes how it ended.

`python -m lora_backend.runs.supervisor RUN_DIR`. It holds no torch. It and its trainer have sessions of their own,
so that nothing which happens to the dashboard reaches them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from lora_backend.i18n import N_, Message
from lora_backend.runs.folder import RunFolder
from lora_backend.runs.process import identify
from lora_backend.settings import child_environment

SHARED_CORES = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
"""A trainer shares its cores with the dashboard, a browser and more. Beside a second training on two cores, threads that
spin while they wait left it 15 tokens/s, sleeping ones 85. On an idle machine sleeping costs 2 % of large products and
a quarter of the speed of answering; who has the machine alone sets OMP_WAIT_POLICY=ACTIVE."""
SUPERVISED = "FLIGHTDECK_SUPERVISED"
"""Set for a trainer whose end a supervisor writes down."""


def start_supervisor(folder: RunFolder) -> int:
    """Start a run's supervisor, detached. Returns its pid."""
    with (folder.path / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "lora_backend.runs.supervisor", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=child_environment(),
        )
    identity = identify(process.pid)
    folder.write_status(supervisor=identity.to_json() if identity else None)
    return process.pid


def supervise(folder: RunFolder) -> None:
    """Start the trainer named in `run.json`, wait for its end, write `exit.json`."""
    argv = folder.read_run()["argv"]
    try:
        with folder.train_log.open("ab") as log:
            trainer = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=child_environment(
                    **{SUPERVISED: "1", "PYTHONUNBUFFERED": "1"},
                    **SHARED_CORES,
                    **folder.attempt().get("environment", {}),
                ),
            )
    except OSError as error:
        message = Message(N_("The trainer could not be started: {reason}."), {"reason": str(error)})
        folder.write_exit("failed", cause="start", message=message)
        return
    write_end(folder, trainer.wait())


def write_end(folder: RunFolder, returncode: int) -> None:
    """`exit.json` from what the trainer left in `status.json` and from its return code (negative: a signal)."""
    status = folder.status()
    if status.get("outcome"):
        folder.write_exit(status["outcome"], returncode=returncode)
    elif status.get("failure"):
        failure = status["failure"]
        folder.write_exit(
            "failed", cause=failure["cause"], message=Message.from_json(failure["message"]), returncode=returncode
        )
    elif returncode < 0:
        name = _signal_name(-returncode)
        message = Message(
            N_("The trainer was ended from outside by {signal}. The log's last lines may say why."), {"signal": name}
        )
        folder.write_exit("failed", cause="killed", message=message, returncode=returncode)
    else:
        message = Message(
            N_("The trainer ended with code {code} without saying why. See the log."), {"code": returncode}
        )
        folder.write_exit("failed", cause="crashed", message=message, returncode=returncode)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def main() -> None:
    """Entry of the process."""
    supervise(RunFolder(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
