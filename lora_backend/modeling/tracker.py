"""Record every tensor storage that a computation makes and drops, with the operations' FLOPs."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from lora_backend.errors import UntraceableError
from lora_backend.i18n import N_
from lora_backend.modeling import grouped


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> int:
    """Queries by keys, then scores by values; a causal mask is not taken off."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_backward(
    _: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *__: Any, **___: Any
) -> int:
    """The scores again, then the gradients of queries, keys, scores and values."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * (3 * query.shape[-1] + 2 * value.shape[-1])


FORMULAS = {
    **flop_registry,
    torch.ops.aten.addmm_: flop_registry[torch.ops.aten.addmm],  # torch counts it out of place alone
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    **grouped.FLOPS,
}


@dataclass
class Recording:
    """Events in the order in which they happened."""

    storages: list[int] = field(default_factory=list)
    """Per event, the storage's number: n ≥ 0 when storage n appears, -n - 1 when it goes."""
    sizes_bytes: list[int] = field(default_factory=list)
    """Per storage, its size."""
    makers: list[str] = field(default_factory=list)
    """Per storage, the operation that returned it."""
    flops: list[tuple[int, int, str]] = field(default_factory=list)
    """(event index, FLOPs, its name) of every operation that torch has a formula for."""
    marks: list[tuple[str, int]] = field(default_factory=list)
    """(label, event index): where a part of the step begins."""


class Deadline:
    """So many seconds of this thread's processor time from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.thread_time() + seconds

    @property
    def is_over(self) -> bool:
        return time.thread_time() > self._end

    def check(self) -> None:
        """Raises `UntraceableError` once the time is over."""
        if self.is_over:
            raise UntraceableError(
                N_(
                    "The model's training step takes more than {seconds} s to trace: it goes through each row token by token."
                ),
                seconds=self.seconds,
            )


class LongScanError(Exception):
    """A part of the step took more operations than were allowed."""


class TensorTracker(TorchDispatchMode):
    """While active, records what operations allocate and free. Storages of `known` tensors are not counted.

    Raises `LongScanError` where a part of the step takes more than `most_operations`, and `UntraceableError` behind
    the deadline.

    A storage is counted when an operation first returns a tensor on it, and is gone when Python's last reference is
    (a weak reference says so); views cost nothing. FLOPs are those of `torch.utils.flop_counter`, which leaves out
    fused attention on the CPU; it is counted here as it counts the same on GPUs.
    """

    def __init__(
        self,
        known: Iterable[torch.Tensor] = (),
        most_operations: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        super().__init__()
        self.recording = Recording()
        self._most_operations, self._deadline = most_operations, deadline
        self._operations = 0
        self._is_over = False
        self._alive: dict[int, weakref.ref[Any]] = {}
        self._numbers: dict[int, int] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._resizes = _resizes_seen_by(self)

    def __enter__(self) -> Self:
        self._resizes.__enter__()
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._resizes.__exit__(*raised)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, so no operation has to pass the gate that keeps the compiler out."""
        return False

    def mark(self, label: str) -> None:
        """A part of the step begins here."""
        self.recording.marks.append((label, len(self.recording.storages)))
        self._operations = 0

    def end(self) -> None:
        """Record nothing more: some modules keep tensors of a step until the next one (RecurrentGemma's states)."""
        self._is_over = True

    def peak_bytes(self) -> int:
        """The most that was alive at once."""
        current = peak = 0
        for number in self.recording.storages:
            current += self.recording.sizes_bytes[number] if number >= 0 else -self.recording.sizes_bytes[-number - 1]
            peak = max(peak, current)
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        summed_into = _storage_summed_into(args[0]) if func is torch.ops.aten.add.Tensor else None
        has_values = not any(isinstance(argument, FakeTensor) for argument in args)
        run = func if has_values else grouped.SHAPES.get(func._overloadpacket, func)
        result = run(*args, **kwargs)
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            count = int(formula(*args, **kwargs, out_val=result))
            self.recording.flops.append((len(self.recording.storages), count, func.name()))
        if summed_into is not None:
            self._take_over(summed_into, result)
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor, func)
        return result

    def _take_over(self, key: int, result: torch.Tensor) -> None:
        """Count the result as the storage `key`, which nothing else holds."""
        if key in self._alive:
            self._refuse_long()
            del self._alive[key]  # and with the reference what it would have called
            self._watch(result.untyped_storage(), self._numbers.pop(key))

    def _refuse_long(self) -> None:
        """Not at every operation: what only looks at a tensor anew may be called where nothing may be raised."""
        self._operations += 1
        if self._most_operations is not None and self._operations > self._most_operations:
            raise LongScanError
        if self._deadline is not None:
            self._deadline.check()

    def _count(self, tensor: torch.Tensor, maker: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._alive or key in self._known:
            return
        if not storage.nbytes():
            return
        self._refuse_long()
        self._appears(storage, maker.name())

    def resized(self, storage: torch.UntypedStorage) -> None:
        """A storage has another size from here on: for FSDP, which lets weights go so and has them back."""
        key = storage._cdata
        if self._is_over:
            return
        if key in self._alive:
            del self._alive[key]
            self.recording.storages.append(-self._numbers.pop(key) - 1)
        self._known.discard(key)
        if storage.nbytes():
            self._appears(storage, "resize_")

    def _appears(self, storage: torch.UntypedStorage, maker: str) -> None:
        number = len(self.recording.sizes_bytes)
        self.recording.sizes_bytes.append(storage.nbytes())
        self.recording.makers.append(maker)
        self.recording.storages.append(number)
        self._watch(storage, number)

    def _watch(self, storage: torch.UntypedStorage, number: int) -> None:
        key, recording = storage._cdata, self.recording

        def gone(_: object) -> None:
            self._alive.pop(key, None)
            if not self._is_over:
                recording.storages.append(-number - 1)

        self._alive[key] = weakref.ref(storage, gone)
        self._numbers[key] = number


@contextmanager
def _resizes_seen_by(tracker: TensorTracker) -> Iterator[None]:
    """Within the block the tracker hears of every `resize_` of a storage, which is no operation and so passes no mode."""
    own = torch.UntypedStorage.resize_

    def resize_(storage: torch.UntypedStorage, size: int) -> Any:
        result = own(storage, size)
        tracker.resized(storage)
        return result

    torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.UntypedStorage.resize_ = own  # type: ignore[method-assign]


GRADIENT_USES, GRADIENT_STORAGE_USES = 4, 2
"""Uses that a dispatched tensor has which autograd alone holds, and those of its storage: its own count is 1 of each."""


def _storage_summed_into(tensor: torch.Tensor) -> int | None:
    """The storage of a gradient that autograd adds another one to, where it does so in place; else None.

    Beside a dispatch mode it never does (`accumulate` in torch/csrc/autograd/input_buffer.cpp makes a new tensor for
    whatever is like a subclass), so that a scan which sums a gradient at every token would seem to hold one more.
    """
    if torch.is_grad_enabled() or torch._C._current_autograd_node() is None:
        return None
    storage = tensor.untyped_storage()
    is_its_own = (
        tensor._use_count() == GRADIENT_USES
        and torch._C._storage_Use_Count(storage._cdata) == GRADIENT_STORAGE_USES
        and torch.ops.aten.is_non_overlapping_and_dense(tensor)
    )
    return storage._cdata if is_its_own else None
