"""How bytes grow with rows, tokens and rank: sums of monomials, found from traces at three sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
"""One coefficient for each of `EXPONENTS`."""

EXPONENTS = ((0, 0, 0), (1, 1, 0), (1, 2, 0), (0, 0, 1), (1, 1, 1), (0, 1, 0), (0, 2, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1))  # fmt: skip
"""Powers of (rows, tokens a row, rank) that a tensor of a training step can have: a constant, an activation, an
explicit mask, an adapter's weight, an adapter's activation, and the rarer ones."""


class Size(NamedTuple):
    """What a profile leaves open: rows in a batch, tokens in a row, rank of the adapter."""

    rows: int
    tokens: int
    rank: int


def monomials(size: Size) -> Vector:
    """The value of every monomial of `EXPONENTS` at a size."""
    rows, tokens, rank = (float(number) for number in size)
    return np.array([rows**a * tokens**b * rank**c for a, b, c in EXPONENTS])


def identify(sizes: Sequence[Size], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Coefficients for quantities that were seen at three sizes, and for which of them they are exact.

    `values` is (quantities, 3). A quantity of one monomial must agree at all three sizes; one of two monomials is
    solved from the first two and must agree at the third. What is neither is fitted by least squares over a constant
    and rows × tokens, and is not exact.
    """
    basis = np.array([monomials(size) for size in sizes])  # (3, monomials)
    count = len(values)
    coefficients = np.zeros((count, len(EXPONENTS)))
    exact = np.zeros(count, dtype=np.bool_)
    # With one row in every trace, rows and no rows look alike; the first that fits stands, and activations come first.
    for index in range(len(EXPONENTS)):
        ratios = values / basis[:, index]
        fits = ~exact & np.isclose(ratios[:, 0], ratios[:, 1], rtol=1e-12) & np.isclose(ratios[:, 0], ratios[:, 2], rtol=1e-12)  # fmt: skip
        coefficients[fits, index] = ratios[fits, 0]
        exact |= fits
    for row in np.flatnonzero(~exact):
        solved = _two_terms(basis, values[row])
        if solved is not None:
            coefficients[row], exact[row] = solved, True
        else:
            plain = basis[:, :2]
            coefficients[row, :2] = np.linalg.lstsq(plain, values[row], rcond=None)[0]
    return coefficients, exact


def _two_terms(basis: NDArray[np.float64], values: NDArray[np.float64]) -> Vector | None:
    for pair in combinations(range(len(EXPONENTS)), 2):
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
