"""The training step of a model without bytes: the one that trains, on fake tensors, with every tensor recorded."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from transformers import masking_utils

from lora_backend.kernels.fused_lora import use_fused_lora
from lora_backend.modeling.blocks import outer_modules
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.few_tiles import few_tiles
from lora_backend.modeling.flat_model import flat_attention
from lora_backend.modeling.grouped import as_the_gpu_takes
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.modeling.meta import MetaModel
from lora_backend.modeling.step import LossPath, micro_batch_step
from lora_backend.modeling.tracker import Deadline, Recording, TensorTracker
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import TraceSettings


class FakeStep:
    """Runs steps of one model and records them; afterwards the attributes tell of the last one."""

    def __init__(self, meta: MetaModel, settings: TraceSettings, deadline: Deadline | None = None) -> None:
        self.meta = meta
        self._deadline = deadline
        self.settings = settings
        self.mode = FakeTensorMode(allow_non_fake_inputs=False)
        self.recording = Recording()
        self.hidden_bytes = 0
        self.side_bytes: dict[int, int] = {}
        """Per block, bytes of its inputs beside the hidden states."""
        self.unit_of_module: dict[str, str] = {}
        """`embed` or `head` for each module outside of the blocks that ran, by whether it ran before or behind them."""
        self._tracker: TensorTracker | None = None
        self._phase = ""
        self._previous: int | None = None
        """The block that ran last: rows of text pass by those that look at images alone."""
        is_chunked = settings.loss_type == "chunked_nll"
        chunked = ChunkedLoss(meta.model, labelled=settings.labelled) if is_chunked else None
        self._loss_path = LossPath.of(meta.model, chunked)
        self._prepare()

    def run(self, size: Size, most_operations: int | None = None) -> TensorTracker:
        """One forward and backward pass of `size`; the gradients are there at its end.

        Raises `LongScanError` where a part of it takes more than `most_operations`.
        """
        self._make_fake()
        tracker = self._tracker = TensorTracker(self._own_tensors(), most_operations, self._deadline)
        self._phase, self._previous = "embed", None
        gc.disable()  # what is freed, and when, must depend on the step alone
        try:
            with self._as_it_trains(tracker), self._marking(), self.mode, tracker:
                batch = self._batch(size)
                micro_batch_step(
                    self.meta.model,
                    batch,
                    precision=self.settings.precision if self.settings.uses_autocast else "fp32",
                    loss_path=self._loss_path,
                    num_items=batch["input_ids"].numel(),
                )
                del batch  # it goes with its step
        finally:
            self.meta.model.zero_grad(set_to_none=True)
            gc.collect()  # what hangs in a circle goes now, after every step alike
            gc.enable()
        tracker.end()
        self.recording = tracker.recording
        return tracker

    def _prepare(self) -> None:
        model, base = self.meta.model, self.meta.base
        model.train()
        if self.settings.fused_lora:
            use_fused_lora(model)
        if self.settings.gradient_checkpointing:
            checkpoint_activations(base)

    def _make_fake(self) -> None:
        """Give every tensor that lies on the meta device a fake one on the CPU in its place; tied ones stay one."""
        made: dict[int, nn.Parameter] = {}
        cpu, convert = torch.device("cpu"), self.mode.fake_tensor_converter.from_meta_and_device
        for module in self.meta.model.modules():
            for name, parameter in module._parameters.items():
                if parameter is None or not parameter.is_meta:
                    continue
                if id(parameter) not in made:
                    fake = convert(self.mode, parameter.detach(), cpu)
                    made[id(parameter)] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_meta:
                    module._buffers[name] = convert(self.mode, buffer, cpu)
            for name, value in vars(module).items():  # some keep tensors that are neither
                if isinstance(value, torch.Tensor) and value.is_meta:
                    setattr(module, name, convert(self.mode, value, cpu))

    def _own_tensors(self) -> list[torch.Tensor]:
        return [*self.meta.model.parameters(), *self.meta.model.buffers()]

    @contextlib.contextmanager
    def _as_it_trains(self, tracker: TensorTracker) -> Iterator[None]:
        settings = self.settings
        with contextlib.ExitStack() as stack:
            stack.enter_context(_no_packing())
            stack.enter_context(as_the_gpu_takes(settings.precision))
            if settings.batching == "flat":
                stack.enter_context(flat_attention(self.meta.model))
                stack.enter_context(few_tiles(tracker, alone=settings.lengths is None))
            yield

    def _batch(self, size: Size) -> dict[str, Any]:
        if self.settings.batching == "flat":
            lengths = self.settings.lengths or (size.tokens,) * size.rows
            ids = torch.zeros((1, sum(lengths)), dtype=torch.long)
            return {"input_ids": ids, "labels": ids, "position_ids": torch.zeros_like(ids), "lengths": lengths}
        ids = torch.zeros((size.rows, size.tokens), dtype=torch.long)
        mask = torch.ones((size.rows, size.tokens), dtype=torch.long) if self.settings.uneven else None
        return {"input_ids": ids, "attention_mask": mask, "labels": ids}

    def _returned(self, _: nn.Module, __: Any, outputs: Any) -> None:
        """The model is through: what comes until its loss's backward pass begins is the step's own."""
        assert self._tracker is not None
        self._tracker.mark("return")
        outputs["loss"].register_hook(lambda _: self._backward_begins())

    def _backward_begins(self) -> None:
        assert self._tracker is not None
        self._phase = "backward"
        self._tracker.mark("backward head")

    @contextlib.contextmanager
    def _marking(self) -> Iterator[None]:
        """Mark where each block begins, forward and backward, and see which modules run before the blocks."""
        blocks = list(self.meta.blocks)
        self.unit_of_module.clear()
        handles = [
            block.register_forward_pre_hook(self._before_block(index), with_kwargs=True)
            for index, block in enumerate(blocks)
        ]
        handles.append(blocks[-1].register_forward_hook(self._behind_blocks))
        outer = outer_modules(self.meta.base, self.meta.blocks_path)
        handles.append(self.meta.model.register_forward_hook(self._returned))
        handles += [self.meta.base.get_submodule(name).register_forward_pre_hook(self._seen(name)) for name in outer]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _before_block(self, index: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tracker = self._tracker
            if tracker is None or self._phase == "backward":
                return
            self._phase = "blocks"
            tracker.mark(f"forward {index}")
            hidden = args[0] if args else kwargs["hidden_states"]
            self.hidden_bytes = hidden.numel() * hidden.element_size()
            before, self._previous = self._previous, index
            side = {
                id(leaf): leaf
                for leaf in tree_leaves((args[1:], kwargs))
                if isinstance(leaf, torch.Tensor) and leaf is not hidden
            }
            self.side_bytes[index] = sum(tensor.numel() * tensor.element_size() for tensor in side.values())
            if hidden.requires_grad:
                # Its gradient is there when this block's backward pass is done, and the one before it begins.
                label = "backward embed" if before is None else f"backward {before}"
                hidden.register_hook(lambda _: tracker.mark(label))

        return hook

    def _behind_blocks(self, _: nn.Module, args: Any, output: Any) -> None:
        tracker = self._tracker
        if tracker is None or self._phase == "backward":
            return
        self._phase = "behind"
        tensor = output[0] if isinstance(output, tuple | list) else output
        tensor.register_hook(lambda _: tracker.mark(f"backward {len(self.meta.blocks) - 1}"))

    def _seen(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if self._phase == "behind" and self._tracker is not None:
                # Not before the next module begins has the model let go of the last block's input.
                self._phase = "head"
                self._tracker.mark("forward head")
            if self._phase in ("embed", "head"):
                self.unit_of_module.setdefault(name, self._phase)

        return hook


@contextlib.contextmanager
def among_new_objects() -> Iterator[None]:
    """Collections look through what is made in the block alone: through all of torch each takes a third of a second."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _no_packing() -> Iterator[None]:
    """transformers looks into the positions for packed rows; here are no values, and training packs none.

    No argument of a model turns that off: a mask of one's own would be in the plan, and a cache would keep keys and values.
    """
    original = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda *_, **__: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = original
