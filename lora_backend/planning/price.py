"""The price of a GPU hour, as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PRICE = 1e12
_PRICE = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,6})?)\s*([A-Za-z]{3})?")


@dataclass(frozen=True)
class Price:
    """Of one GPU for an hour."""

    amount: float
    currency: str = "USD"


def read_price(text: str) -> Price | None:
    """`1.5`, `1.5EUR` or `1.5 EUR`, above 0; None for anything else."""
    found = _PRICE.fullmatch(text.strip())
    amount = float(found[1]) if found else 0.0
    if found is None or not 0 < amount <= MAX_PRICE:
        return None
    return Price(amount, found[2].upper()) if found[2] else Price(amount)
