"""How a tensor grows is found from three sizes, or said not to be known."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from lora_backend.planning.cost.scaling import EXPONENTS, NUM_PLAIN, Size, highest, identify, monomials

ONE_ROW = [Size(1, 384, 8), Size(1, 616, 20), Size(1, 1104, 36)]
ROWS = [Size(2, 384, 8), Size(3, 616, 20), Size(5, 1104, 36)]
ELSEWHERE = Size(1, 5000, 64)
TELLING = [index for index, (rows, tokens, *_) in enumerate(EXPONENTS[:NUM_PLAIN]) if rows == min(tokens, 1)]
"""With one row in a batch these stand for the others, which look alike."""


def values(coefficients: np.ndarray, sizes: list[Size]) -> np.ndarray:
    return np.array([[float(coefficients @ monomials(size)) for size in sizes]])


@given(st.sampled_from(range(NUM_PLAIN)), st.integers(1, 10**9))
def test_one_monomial_is_found_and_holds_at_any_size(index: int, factor: int) -> None:
    true = np.zeros(len(EXPONENTS))
    true[index] = factor
    for sizes, elsewhere in ((ROWS, Size(7, 5000, 64)), (ONE_ROW, ELSEWHERE)):
        found, exact = identify(sizes, values(true, sizes))
        assert exact.all()
        assert np.isclose(found[0] @ monomials(elsewhere), true @ monomials(elsewhere), rtol=1e-9)


@example([3, 2], 1, 35226)  # a term of 8 bytes beside one of 5 GB
@given(
    st.lists(st.sampled_from(TELLING), min_size=2, max_size=2, unique=True),
    st.integers(1, 10**5),
    st.integers(1, 10**5),
)
def test_two_monomials_are_found_and_hold_at_any_size(pair: list[int], one: int, other: int) -> None:
    true = np.zeros(len(EXPONENTS))
    true[pair] = one, other
    found, exact = identify(ONE_ROW, values(true, ONE_ROW))
    if exact[0]:  # more than one pair may give the same three numbers; then they agree where they were seen
        assert np.allclose(values(found[0], ONE_ROW), values(true, ONE_ROW))
    wanted = true @ monomials(ELSEWHERE)
    assert exact[0]
    assert abs(found[0] @ monomials(ELSEWHERE) / wanted - 1) < 0.2


def test_an_activation_and_a_constant_are_told_apart_exactly() -> None:
    true = np.zeros(len(EXPONENTS))
    true[0], true[1] = 4096, 1234
    found, exact = identify(ROWS, values(true, ROWS))
    assert exact.all()
    assert np.array_equal(found[0], true)


@given(st.lists(st.integers(1, 10**12), min_size=3, max_size=3))
def test_what_is_called_exact_gives_back_what_was_seen(seen: list[int]) -> None:
    found, exact = identify(ROWS, np.array([seen], float))
    again = np.array([found[0] @ monomials(size) for size in ROWS])
    if exact[0]:
        assert np.allclose(again, seen, rtol=1e-9)


def test_what_follows_no_law_is_fitted_and_says_so() -> None:
    found, exact = identify(ROWS, np.array([[100.0, 7_777_777.0, 5.0]]))
    assert not exact[0]
    assert np.count_nonzero(found[0][2:]) == 0, "a constant and rows × tokens are all that is fitted"


def test_quantities_are_found_one_by_one() -> None:
    seen = np.array([[8.0, 8, 8], [1.0, 17, 3], [2 * 384.0, 3 * 616, 5 * 1104]])
    found, exact = identify(ROWS, seen)
    assert exact.tolist() == [True, False, True]
    assert (found[0][0], found[2][1]) == (8, 1)


@given(
    st.lists(st.lists(st.integers(-50, 50), min_size=len(EXPONENTS), max_size=len(EXPONENTS)), min_size=1, max_size=6)
)
def test_the_highest_are_enough_for_the_largest_value_at_every_size(vectors: list[list[int]]) -> None:
    everything = np.array(vectors, float)
    kept = highest(everything)
    for size in (*ROWS, ELSEWHERE, Size(1, 1, 1)):
        assert (kept @ monomials(size)).max() == (everything @ monomials(size)).max()
    assert len(kept) <= len(everything)


def test_what_is_below_another_everywhere_is_let_go() -> None:
    low, high = np.ones(len(EXPONENTS)), np.full(len(EXPONENTS), 2.0)
    assert highest(np.array([low, high, low])).tolist() == [high.tolist()]
