"""A run is a folder: what is in it, and where. `docs/design.md` says who writes which file."""

from __future__ import annotations

from pathlib import Path


class RunFolder:
    """The paths of one run's folder, whether anything is there or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_json = path / "run.json"
        self.status_json = path / "status.json"
        self.exit_json = path / "exit.json"
        self.metrics_jsonl = path / "metrics.jsonl"
        self.answers_jsonl = path / "answers.jsonl"
        self.rank_report_json = path / "rank_report.json"
        self.labels_json = path / "labels.json"
        self.config_yaml = path / "config.yaml"
        self.train_log = path / "train.log"
        self.supervisor_log = path / "supervisor.log"
        self.stop_request = path / "stop.request"
        self.save_request = path / "save.request"
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.attempts = path / "attempts"
        self.status_lock = path / "status.lock"
        """Held by whoever changes a file that others change too."""
        self.supervisor_lock = path / "supervisor.lock"
        """Held by the one supervisor."""

    @property
    def id(self) -> str:
        return self.path.name

    def attempt_json(self, number: int) -> Path:
        """What is known of a start."""
        return self.attempts / f"{number}.json"

    def attempt_exit_json(self, number: int) -> Path:
        """How a start ended that another came after."""
        return self.attempts / f"{number}.exit.json"

    def attempt_metrics_jsonl(self, number: int) -> Path:
        """The points that a start took back: those beyond the checkpoint that it went on from."""
        return self.attempts / f"{number}.metrics.jsonl"

    def attempt_adapter(self, number: int) -> Path:
        """The adapter that had been finished when a start went on."""
        return self.attempts / f"{number}.adapter"

    def attempt_numbers(self) -> list[int]:
        """Of the starts that have a file, in order, counted from 1."""
        return sorted(int(path.stem) for path in self.attempts.glob("*.json") if path.stem.isdecimal())

    def num_ends(self) -> int:
        """How often the run has ended and was started anew."""
        return len(list(self.attempts.glob("*.exit.json")))
