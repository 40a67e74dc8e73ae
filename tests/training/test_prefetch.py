"""Batches are made ahead of the step by one thread: the same ones in the same order, and nothing outlives the epoch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_backend.errors import DataError
from lora_backend.runs.record.transitions import request_stop
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import batches
from lora_backend.training.prefetch import THREAD, made_ahead, on_device
from lora_backend.training_state.randomness import RandomState
from tests.run_files import points_of
from tests.training.helpers import at_line, failed_run, made, run

Make = Callable[..., dict[str, Any]]


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def test_the_same_items_come_in_the_same_order_and_the_thread_ends_with_them() -> None:
    assert list(made_ahead(iter(range(100)), 3)) == list(range(100))
    assert running() == []


def test_no_more_is_made_ahead_than_was_said() -> None:
    """Two wait, and one more is made: then the thread waits for room."""
    asked: list[int] = []
    is_full = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            if number == 3:  # 0 is taken below, 1 and 2 wait, 3 is in the making
                is_full.set()
            yield number

    with closing(made_ahead(items(), 2)) as ahead:
        assert next(ahead) == 0
        assert is_full.wait(30)
    assert asked == [0, 1, 2, 3], "closed: nothing more is made"
    assert running() == []


def test_nothing_is_made_before_the_first_is_asked_for() -> None:
    ahead = made_ahead(iter(range(3)), 2)
    assert running() == []
    ahead.close()
    assert running() == []


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 0
        yield 1
        raise DataError("row 3 is broken")

    ahead = made_ahead(items(), 4)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(DataError, match="row 3 is broken"):
        next(ahead)
    assert running() == []


def test_an_error_of_whoever_takes_them_ends_the_thread() -> None:
    def take() -> None:
        with closing(made_ahead(iter(range(100)), 2)) as ahead:
            raise ValueError(f"not {next(ahead)}")

    with pytest.raises(ValueError, match="not 0"):
        take()
    assert running() == []


def test_making_batches_draws_no_random_numbers_of_the_training(config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    real, drawn = batches.rows_at, []

    def watched(*args: Any) -> Any:
        before = RandomState.now()
        found = real(*args)
        drawn.append(not torch.equal(before.torch, RandomState.now().torch))
        return found

    monkeypatch.setattr(batches, "rows_at", watched)
    run(workspace, config(max_steps=3, batch_size=8))  # no dropout: the steps draw none either
    assert drawn
    assert not any(drawn)


def test_batches_are_made_in_the_thread_and_none_is_left_after_a_run_or_a_stop(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, names = batches.rows_at, []

    def watched(*args: Any) -> Any:
        names.append(threading.current_thread().name)
        return real(*args)

    monkeypatch.setattr(batches, "rows_at", watched)
    values = config(val_size=0.25, eval_strategy="epoch", num_epochs=2)
    run(workspace, values)
    assert names.count(THREAD) == 2 * (3 + 1), "three batches to train on and one held out, in each epoch"
    assert running() == []
    folder = made(workspace, values)
    with at_line("step 1 of", lambda: request_stop(folder)):
        train_in_folder(folder)
    assert folder.state().state == "stopped"
    assert running() == []


def test_a_row_that_breaks_fails_the_run_at_its_own_step(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps before it are trained, though its batch is asked for ahead of them."""
    real, count = batches.rows_at, iter(range(1, 10**9))

    def broken(*args: Any) -> Any:
        if next(count) == 4:  # the longest batch is made first, then those of steps 1, 2 and 3
            raise DataError("row 9 is broken")
        return real(*args)

    monkeypatch.setattr(batches, "rows_at", broken)
    folder, sentence = failed_run(workspace, config(), DataError)
    assert "row 9 is broken" in sentence
    assert [row["step"] for row in points_of(folder)] == [1, 2]
    assert running() == []


def test_batches_on_the_processor_are_handed_on_as_they_are() -> None:
    window: list[dict[str, Any]] = [{"input_ids": torch.ones(1, 2), "lengths": (2,)}, {"input_ids": torch.ones(1, 3)}]
    found = list(on_device(window, torch.device("cpu")))
    assert all(one is other for one, other in zip(found, window, strict=True))


def test_batches_come_to_another_device_in_their_order_one_ahead() -> None:
    """torch's device without memory stands for a GPU: the next one's copy is begun before a batch is handed out."""
    copied: list[int] = []

    class Watched(dict[str, Any]):
        def items(self) -> Any:
            copied.append(self["lengths"][0])
            return super().items()

    window = [Watched(input_ids=torch.ones(1, size), lengths=(size,)) for size in (1, 2, 3)]
    seen = [(batch["lengths"], batch["input_ids"].device.type, list(copied)) for batch in on_device(window, torch.device("meta"))]  # fmt: skip
    assert seen == [((1,), "meta", [1, 2]), ((2,), "meta", [1, 2, 3]), ((3,), "meta", [1, 2, 3])]
