"""A run is a folder: what is in it, and where. `docs/design.md` says who writes which file."""

from __future__ import annotations

from pathlib import Path


class Inside:
    """The path of something in the folder; made when it is asked for, for a list opens a thousand folders."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type) -> Path:
        return run.path / self.name


class RunFolder:
    """The paths of one run's folder, whether anything is there or not."""

    run_json = Inside("run.json")
    status_json = Inside("status.json")
    exit_json = Inside("exit.json")
    metrics_jsonl = Inside("metrics.jsonl")
    answers_jsonl = Inside("answers.jsonl")
    samples_jsonl = Inside("samples.jsonl")
    rank_report_json = Inside("rank_report.json")
    labels_json = Inside("labels.json")
    result_json = Inside("result.json")
    """What came of a job."""
    output = Inside("output")
    """What a job made, where no other place was named."""
    config_yaml = Inside("config.yaml")
    train_log = Inside("train.log")
    peer_logs = Inside("peers")
    """A log for each of several processes but the first, whose log is the run's."""
    supervisor_log = Inside("supervisor.log")
    stop_request = Inside("stop.request")
    save_request = Inside("save.request")
    checkpoints = Inside("checkpoints")
    adapter = Inside("adapter")
    attempts = Inside("attempts")
    status_lock = Inside("status.lock")
    """Held by whoever changes a file that others change too."""
    supervisor_lock = Inside("supervisor.lock")
    """Held by the one supervisor."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def workspace(self) -> Path:
        """That whose queue and leases are the run's: the one that it lies in, whatever a copied run's files say."""
        return self.path.parent.parent

    def peer_log(self, rank: int) -> Path:
        """What a process writes that trains together with others."""
        return self.peer_logs / f"{rank}.log" if rank else self.train_log

    def attempt_json(self, number: int) -> Path:
        """What is known of a start."""
        return self.attempts / f"{number}.json"

    def attempt_exit_json(self, number: int) -> Path:
        """How a start ended that another came after."""
        return self.attempts / f"{number}.exit.json"

    def attempt_metrics_jsonl(self, number: int) -> Path:
        """The points that a start took back: those beyond the checkpoint that it went on from."""
        return self.attempts / f"{number}.metrics.jsonl"

    def attempt_samples_jsonl(self, number: int) -> Path:
        """The samples that a start took back likewise."""
        return self.attempts / f"{number}.samples.jsonl"

    def attempt_adapter(self, number: int) -> Path:
        """The adapter that had been finished when a start went on."""
        return self.attempts / f"{number}.adapter"

    def attempt_numbers(self) -> list[int]:
        """Of the starts that have a file, in order, counted from 1."""
        return sorted(int(path.stem) for path in self.attempts.glob("*.json") if path.stem.isdecimal())

    def num_ends(self) -> int:
        """How often the run has ended and was started anew."""
        return len(list(self.attempts.glob("*.exit.json")))
