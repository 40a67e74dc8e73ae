"""How bytes grow with rows, tokens and rank: sums of monomials, found from traces at three sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""One coefficient for each of `EXPONENTS`."""

EXPONENTS = (
    (0, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), (1, 2, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0), (1, 1, 1, 0, 0, 0),
    (0, 1, 0, 0, 0, 0), (0, 2, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0), (0, 1, 1, 0, 0, 0), (1, 0, 1, 0, 0, 0),
    (1, 0, 0, 1, 0, 0), (0, 0, 0, 1, 0, 0), (1, 1, 0, 1, 0, 0), (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 2, 0),
    (0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 2, 0), (1, 0, 0, 0, 0, 1), (1, 0, 0, 0, 0, 2), (0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 2),
)  # fmt: skip
"""Powers of (rows, tokens a row, rank, padded tokens a row, states a row, tokens in the last chunk) that a tensor of a
training step can have: a constant, an activation, an explicit mask, an adapter's weight, an adapter's activation, and the
rarer ones. Behind them what scans in chunks make: rows padded to whole chunks, a state for each chunk and one before the
first, and a last chunk that is not padded."""
NUM_PLAIN = 10
"""As many of them do without chunks."""


class Size(NamedTuple):
    """What a profile leaves open: rows in a batch, tokens in a row, rank of the adapter."""

    rows: int
    tokens: int
    rank: int


def padded_to(tokens: int, multiple: int) -> int:
    """The next multiple: what scans in chunks of so many tokens pad a row to."""
    return -(-tokens // multiple) * multiple


def monomials(size: Size, multiple: int = 1, *, walks_rest: bool = False) -> Vector:
    """The value of every monomial of `EXPONENTS` at a size, for a model that scans chunks of `multiple` tokens.

    `walks_rest`: tokens behind the last whole chunk go one by one, so that at whole chunks there are none of them.
    """
    rows, tokens, rank = (float(number) for number in size)
    padded = float(padded_to(size.tokens + walks_rest, multiple))
    states, last = padded / multiple + 1, tokens - padded + multiple
    return np.array([rows**a * tokens**b * rank**c * padded**d * states**e * last**f for a, b, c, d, e, f in EXPONENTS])


def identify(
    sizes: Sequence[Size], values: NDArray[np.float64], multiple: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Coefficients for quantities that were seen at three sizes, and for which of them they are exact.

    `values` is (quantities, 3). A quantity of one monomial must agree at all three sizes; one of two monomials is
    solved from the first two and must agree at the third. What is neither is fitted by least squares over a constant
    and rows × tokens, and is not exact.
    """
    basis = np.array([monomials(size, multiple) for size in sizes])  # (3, monomials)
    known = len(EXPONENTS) if multiple > 1 else NUM_PLAIN
    count = len(values)
    coefficients = np.zeros((count, len(EXPONENTS)))
    exact = np.zeros(count, dtype=np.bool_)
    # With one row in every trace, rows and no rows look alike; the first that fits stands, and activations come first.
    for index in range(known):
        ratios = values / basis[:, index]
        fits = (
            ~exact
            & np.isclose(ratios[:, 0], ratios[:, 1], rtol=1e-12)
            & np.isclose(ratios[:, 0], ratios[:, 2], rtol=1e-12)
        )
        coefficients[fits, index] = ratios[fits, 0]
        exact |= fits
    others = np.flatnonzero(~exact)
    different, which = np.unique(values[others], axis=0, return_inverse=True)
    for number, seen in enumerate(different):
        rows = others[which.reshape(-1) == number]
        solved = _two_terms(basis[:, :known], seen)
        if solved is not None:
            coefficients[rows], exact[rows] = solved, True
        else:
            coefficients[rows, :2] = np.linalg.lstsq(basis[:, :2], seen, rcond=None)[0]
    return coefficients, exact


def _two_terms(basis: NDArray[np.float64], values: NDArray[np.float64]) -> Vector | None:
    for pair in combinations(range(basis.shape[1]), 2):
        matrix = basis[:2, pair]
        if abs(np.linalg.det(matrix)) < 1e-9:
            continue
        # Bytes are whole, and below 2**53: what gives them back at all three sizes is proof enough, while how near the
        # solution is to whole numbers depends on how unequal the two terms are.
        whole = np.round(np.linalg.solve(matrix, values[:2]))
        if np.array_equal(basis[:, pair] @ whole, values):
            vector = np.zeros(len(EXPONENTS))
            vector[list(pair)] = whole
            return vector
    return None


def highest(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of `vectors` that are not below another one at every size: their largest value is all vectors' largest."""
    kept: list[Vector] = []
    order = np.argsort(-vectors.sum(axis=1), kind="stable")
    for vector in vectors[order]:
        if not any(np.all(other >= vector) for other in kept):
            kept.append(vector)
    return np.array(kept).reshape(-1, len(EXPONENTS))
