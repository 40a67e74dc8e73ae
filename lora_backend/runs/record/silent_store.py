"""A run's files for a process that trains along and leaves the writing to the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lora_backend.runs.record.attempts import Attempt
from lora_backend.runs.record.documents import Answer, MetricPoint, Status
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.sample_document import Sample
from lora_backend.verification.rank_documents import RankReport


class SilentStore(RunStore):
    """Reads as any other. What a training writes of itself it drops: another process of it has written the same."""

    @contextmanager
    def changing_status(self) -> Iterator[Status]:
        yield self.read_status()

    def write_attempt_file(self, attempt: Attempt) -> None:
        pass

    def append_point(self, point: MetricPoint) -> None:
        pass

    def append_sample(self, sample: Sample) -> None:
        pass

    def append_answer(self, answer: Answer) -> None:
        pass

    def write_answers(self, answers: Sequence[Answer]) -> None:
        pass

    def write_rank_report(self, report: RankReport) -> None:
        pass

    def answer_save_request(self) -> None:
        pass
