"""Stand-ins for Slurm's commands: they keep jobs in a folder and really run them on this machine, in the background.

What is asked of them in files beside the jobs: `hold` (reason: jobs wait), `refuse` (sbatch's words), `blind` (the machine
does not see the folder), `deaf` (so many cancels change nothing), `down` (the controller does not answer), `forget` (ended
jobs are known to `sacct` alone).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

COMMON = """#!{python} -SE
import json, os, signal, subprocess, sys, time
from pathlib import Path
HOME = Path({home!r})
def told(name):
    try: return (HOME / name).read_text()
    except OSError: return None
def path(n): return HOME / "jobs" / f"{{n}}.json"
def read(n):
    try: return json.loads(path(n).read_text())
    except OSError: return None
def write(n, **more):
    found = (read(n) or {{}}) | more
    new = path(n).with_suffix(f".{{os.getpid()}}")
    new.write_text(json.dumps(found)); new.replace(path(n))
def option(name):
    return next((word.partition("=")[2] for word in sys.argv if word.startswith(f"--{{name}}=")), None)
def jobs(): return sorted((int(one.stem) for one in (HOME / "jobs").glob("*.json")))
def answers():
    if told("down") is not None:
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
"""
SBATCH = """
answers()
if (words := told("refuse")) is not None:
    sys.exit(f"sbatch: error: Batch job submission failed: {words}")
n = max(jobs(), default=100) + 1
script = Path(sys.argv[-1]).read_text()
asked = dict(line[len("#SBATCH --"):].partition("=")[::2] for line in script.splitlines() if line.startswith("#SBATCH"))
(HOME / f"{n}.sh").write_text(script)
write(n, state="PENDING", reason=told("hold") or "None", name=asked["job-name"], asked=asked, cancels=[])
print(f"Submitted batch job {n}")
if told("hold") is None:
    subprocess.Popen([str(HOME / "bin" / "run_job"), str(n)], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
RUN_JOB = """
n = int(sys.argv[1])
if told("blind") is not None:
    write(n, state="FAILED", code="0:53", reason="RaisedSignal:53(Real-time_signal_19)", host="node7")
    sys.exit()
job = read(n)
if job["state"] != "PENDING": sys.exit()
with (HOME / f"{n}.out").open("ab") as out:
    child = subprocess.Popen(["bash", str(HOME / f"{n}.sh")], start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, "SLURM_JOB_ID": str(n), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "node7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    write(n, state="RUNNING", reason="None", host="node7", group=child.pid)
    code = child.wait()
ended = read(n)
state = ended.get("becomes") or ("CANCELLED" if ended["cancels"] and code else "COMPLETED" if code == 0 else "FAILED")
number = -code if code < 0 else code - 128 if code > 128 else 0
write(n, state=state, code=f"0:{number}" if number else f"{code}:0", reason="None" if not code else "NonZeroExitCode")
"""
SRUN = """
words = sys.argv[1:]
output = words[words.index("--output") + 1].replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
while words[0].startswith("--"):
    words = words[2 if words[0] == "--output" else 1:]
with open(output, "ab") as out:
    os.dup2(out.fileno(), 1); os.dup2(out.fileno(), 2)
os.execvp(words[0], words)
"""
SQUEUE = """
answers()
wanted = [int(option("jobs"))] if option("jobs") else [n for n in jobs() if read(n)["name"] == option("name")]
for n in wanted:
    job = read(n)
    if job is None or ("code" in job and told("forget") is not None):
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    values = {"%T": job["state"], "%N": job.get("host", ""), "%r": job["reason"], "%i": str(n)}
    line = option("format")
    for name, value in values.items(): line = line.replace(name, value)
    print(line)
"""
SACCT = """
answers()
job = read(int(option("jobs")))
if job and "code" in job: print(f"{job['state']}{' by 1000' if job['state'] == 'CANCELLED' else ''}|{job['code']}|{job.get('host', 'None assigned')}")
elif job: print(f"{job['state']}|0:0|{job.get('host', 'None assigned')}")
"""
SCANCEL = """
answers()
n = int(sys.argv[-1]); job = read(n)
name = option("signal") or "TERM"
write(n, cancels=[*job["cancels"], name])
deaf = int(told("deaf") or 0)
if len(job["cancels"]) < deaf or "code" in job: sys.exit()
if job["state"] == "PENDING":
    write(n, state="CANCELLED", code="0:0", reason="None")
elif "group" in job:
    try: os.killpg(job["group"], getattr(signal, f"SIG{name}"))
    except ProcessLookupError: pass
"""
SCRIPTS = {
    "sbatch": SBATCH, "run_job": RUN_JOB, "srun": SRUN, "squeue": SQUEUE, "sacct": SACCT, "scancel": SCANCEL,
}  # fmt: skip


class StubSlurm:
    """The cluster as its administrator has it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.bin = home / "bin"
        self.bin.mkdir(parents=True)
        (home / "jobs").mkdir()
        for name, text in SCRIPTS.items():
            path = self.bin / name
            path.write_text(COMMON.format(python=sys.executable, home=str(home)) + text)
            path.chmod(0o755)

    def be(self, name: str, words: str | None = "") -> None:
        """Be as it says from now on; None: be so no more."""
        if words is None:
            (self.home / name).unlink(missing_ok=True)
        else:
            (self.home / name).write_text(words)

    @property
    def ids(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.home / "jobs").glob("*.json"))

    def job(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "jobs" / f"{number}.json").read_text())
        return found

    def start(self, number: int) -> None:
        """Let a job begin that waits."""
        subprocess.Popen([str(self.bin / "run_job"), str(number)], start_new_session=True)

    def end(self, number: int, state: str) -> None:
        """End it, as for want of memory, or of time."""
        path = self.home / "jobs" / f"{number}.json"
        path.write_text(json.dumps(self.job(number) | {"becomes": state}))
        with suppress(ProcessLookupError):
            os.killpg(self.job(number)["group"], signal.SIGKILL)

    def close(self) -> None:
        """End all that still runs."""
        for number in self.ids:
            job = self.job(number)
            if "group" in job and "code" not in job:
                with suppress(ProcessLookupError):
                    os.killpg(job["group"], signal.SIGKILL)
