"""Which rows `val_size` holds out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def num_held_back(num_rows: int, val_size: float) -> int:
    """How many rows: at least one, and never all of them."""
    return min(max(1, round(num_rows * val_size)), num_rows - 1) if val_size else 0


def held_back(num_rows: int, val_size: float, seed: int) -> npt.NDArray[np.int64]:
    """Their places, from 0, in the order in which they are evaluated; what is left is trained on in `left_over`."""
    return _shuffled(num_rows, seed)[: num_held_back(num_rows, val_size)]


def left_over(num_rows: int, val_size: float, seed: int) -> npt.NDArray[np.int64]:
    """Places of the rows that are trained on: as `datasets` splits them, shuffled where some are held out."""
    if not val_size:
        return np.arange(num_rows)
    return _shuffled(num_rows, seed)[num_held_back(num_rows, val_size) :]


def _shuffled(num_rows: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(num_rows)
