"""Big counts as each language writes them: 70.6B and 207M, 705.5 亿 and 2.07 亿."""

from __future__ import annotations

import re

BIG = "big"
"""What a template says of a value that is such a count: `{count:big}`."""
WHOLE_BELOW = 10_000
"""A count below it is written out."""


def in_short(value: float, locale: str) -> str:
    """`value` with the unit and the decimal sign of `locale`, by the tables of Unicode that Babel brings.

    As many digits as a unit has before the next one takes over, three in English and four in Chinese, with no more
    than two behind the point.
    """
    if abs(value) < WHOLE_BELOW:
        return f"{value:,.0f}"
    from babel.core import Locale  # here, for it takes 50 ms, and most sentences have no such count
    from babel.numbers import format_compact_decimal

    known = Locale.parse(locale)
    before_point = {int(unit): form.pattern.count("0") for unit, form in known.compact_decimal_formats["short"]["other"].items()}  # fmt: skip
    digits = max(before_point.values())
    rounded = float(f"{value:.{digits}g}")
    shown = next((count for unit, count in sorted(before_point.items(), reverse=True) if abs(rounded) >= unit), digits)
    decimals = max(0, min(2, digits - shown))
    written = format_compact_decimal(float(f"{value:.{shown + decimals}g}"), locale=known, fraction_digits=decimals)
    return re.sub(r"(?<=\d)(?=[\u3400-\u9fff])", " ", str(written))
