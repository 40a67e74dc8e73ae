"""Make batches ahead of the step that needs them, and bring them to the device while the one before computes.

One thread beside the training, not processes: a DataLoader's workers are forked beside torch's own threads, each would
count the rows that it labels for itself, and what they make would be copied once more. Tokenizers and torch let go of
the interpreter while they compute, and the rest, lists into tensors, is short.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import torch

from lora_backend.training.flat_batch import Batch

Item = TypeVar("Item")
THREAD = "batches ahead"


class _End:
    """Behind the last item: with the error that came in its place, if one did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def made_ahead(items: Iterator[Item], most: int) -> Generator[Item, None, None]:
    """The same items in the same order, up to `most` of them made before they are asked for.

    What an item raises is raised where that item would have come. Close this iterator and the thread has ended; nothing
    is made before the first item is asked for. `items` must draw no random numbers that anybody else draws.
    """
    made: Queue[Item | _End] = Queue(most)
    is_closed = Event()
    gpu = torch.cuda.current_device() if torch.cuda.is_available() else None

    def make() -> None:
        try:
            if gpu is not None:  # pinning would open another GPU in a thread that was not told which
                torch.cuda.set_device(gpu)
            for item in items:
                made.put(item)
                if is_closed.is_set():
                    return
            end = _End()
        except BaseException as error:  # raised in the thread that asks
            end = _End(error)
        made.put(end)

    thread = Thread(target=make, name=THREAD, daemon=True)
    thread.start()
    try:
        while True:
            item = made.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return
    finally:
        is_closed.set()
        _empty(made)  # a thread that waits for room goes on, sees that it is over, and ends
        thread.join()


def _empty(queue: Queue[Any]) -> None:
    try:
        while True:
            queue.get_nowait()
    except Empty:
        return


def pinned(batch: Batch) -> dict[str, Any]:
    """In memory that a GPU copies from by itself, where there is one."""
    if not torch.cuda.is_available():
        return dict(batch)
    return {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def on_device(batches: Sequence[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the device: the copy of the next is begun before this one is handed out. On the CPU as they are."""
    if device.type == "cpu":
        yield from batches
        return
    ahead: Batch | None = None
    for batch in batches:
        copied = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
        if ahead is not None:
            yield ahead
        ahead = copied
    if ahead is not None:
        yield ahead
