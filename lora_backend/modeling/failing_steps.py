"""Whether a step that failed on tensors without values would fail in training too."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch
from torch._subclasses import fake_tensor
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

NEED_VALUES = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedOperatorException,
    GuardOnDataDependentSymNode,
    NotImplementedError,
    MemoryError,
    TimeoutError,
)
"""What torch raises where an operation needs values, or has no shapes without them."""
SAID = re.compile(
    r"data.dependent|unbacked|symbolic|\bmeta\b|\bfake|FakeTensor|not implemented|data_ptr|storage", re.IGNORECASE
)
SHAPE = re.compile(r"shape|size|dimension|broadcast|\bindex\b|must match", re.IGNORECASE)
"""Shapes are the same with and without values; a check of anything else may be of the stand-in alone."""
TORCH = Path(torch.__file__).parent
STAND_INS = tuple(
    TORCH / part
    for part in ("_subclasses", "_meta_registrations.py", "_refs", "_decomp", "_prims", "_prims_common", "_library")
)
"""Where torch imitates its operations on tensors without values."""
OURS = Path(__file__).parent
PASSED_THROUGH = {"run", "__torch_dispatch__"}
"""Functions of the tracer that stand between the step and its operations."""


def fails_in_training(error: BaseException) -> bool:
    """Whether `error`, raised by a step on fake tensors, is the step's own and no limit of the tracer's."""
    if isinstance(error, NEED_VALUES) or SAID.search(str(error)):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    tracers = [
        frame
        for frame in frames
        if Path(frame.filename).parent == OURS
        and Path(frame.filename).stem in ("fake_step", "tracker", "grouped", "trace")
    ]
    if tracers and tracers[-1].name not in PASSED_THROUGH | {"_recorded"}:
        return False
    innermost = Path(frames[-1].filename) if frames else OURS
    is_imitated = any(part == innermost or part in innermost.parents for part in STAND_INS)
    return not is_imitated or SHAPE.search(str(error)) is not None
