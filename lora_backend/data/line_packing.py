"""Fill lines of a fixed length with whole rows: which rows share a line follows from their lengths and their order alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack_lines(lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    """Indices of the rows in each line, best fit, longest rows first.

    A row goes into the line in which the least room is left over; of rows alike the earlier ones come first. At most
    11/9 of the fewest possible lines and four (Johnson, Demers, Ullman, Garey, Graham 1974). A row that is longer than a
    line has one to itself. How many lines there are, and how full, follows from the lengths alone, whatever their order.
    """
    lines: list[list[int]] = []
    rooms: list[int] = []
    """Lengths that are left in some line, ascending, each once."""
    lines_with: dict[int, list[int]] = {}
    for row in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[row]
        place = bisect_left(rooms, length)
        if place == len(rooms):
            line, room = len(lines), most_tokens
            lines.append([])
        else:
            room = rooms[place]
            line = lines_with[room].pop()
            if not lines_with[room]:
                del lines_with[room], rooms[place]
        lines[line].append(row)
        left = room - length
        if left > 0:
            if left not in lines_with:
                lines_with[left] = []
                insort(rooms, left)
            lines_with[left].append(line)
    return lines
