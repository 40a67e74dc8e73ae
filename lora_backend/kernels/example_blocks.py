"""Which examples of a flat batch are computed together: those of like length, so that little is padded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

WASTE = 1.25
"""Examples are put together while this many times their own pairs of tokens are computed at most."""
BLOCK_TOKENS = 1024
"""And while their tokens, padded, are no more than this: so many rows fill the cores, and more would only take memory."""


@dataclass(frozen=True)
class ExampleBlock:
    """Examples that are computed together, each at the start of a row as long as the longest of them."""

    starts: tuple[int, ...]
    """Where each begins in the flat batch, in tokens."""
    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def in_a_row(self) -> bool:
        """Whether the block is one piece of the flat batch, cut into equal lengths."""
        first, length = self.starts[0], self.longest
        return all(start == first + length * index for index, start in enumerate(self.starts)) and all(
            length == one for one in self.lengths
        )

    def gathered(self, flat: torch.Tensor) -> torch.Tensor:
        """(tokens, groups, …) → (examples, groups, longest, …), contiguous; what is padded is zero."""
        shape = (self.count, flat.shape[1], self.longest, *flat.shape[2:])
        if self.in_a_row:
            piece = flat[self.starts[0] : self.starts[0] + self.count * self.longest]
            return piece.unflatten(0, (self.count, self.longest)).transpose(1, 2).contiguous()
        block = flat.new_zeros(shape)
        for row, start, length in zip(block, self.starts, self.lengths, strict=True):
            row[:, :length] = flat[start : start + length].transpose(0, 1)
        return block

    def put_back(self, block: torch.Tensor, flat: torch.Tensor) -> None:
        """The other way, into `flat`: what was padded is left out."""
        if self.in_a_row:
            piece = flat[self.starts[0] : self.starts[0] + self.count * self.longest]
            piece.unflatten(0, (self.count, self.longest)).copy_(block.transpose(1, 2))
            return
        for row, start, length in zip(block, self.starts, self.lengths, strict=True):
            flat[start : start + length] = row[:, :length].transpose(0, 1)


@lru_cache(maxsize=256)  # asked once a layer, forward and backward
def blocks_of(lengths: tuple[int, ...]) -> tuple[ExampleBlock, ...]:
    """The blocks of a flat batch whose examples have these lengths, the shortest first."""
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    waiting: list[tuple[int, int]] = []
    blocks: list[ExampleBlock] = []
    for length, start in sorted(zip(lengths, starts[:-1], strict=True)):
        pairs = sum(known * known for known, _ in waiting) + length * length
        count = len(waiting) + 1
        if waiting and (count * length * length > WASTE * pairs or count * length > BLOCK_TOKENS):
            blocks.append(_block(waiting))
            waiting = []
        waiting.append((length, start))
    return (*blocks, _block(waiting))


def _block(examples: list[tuple[int, int]]) -> ExampleBlock:
    ordered = sorted(examples, key=lambda example: example[1])
    return ExampleBlock(tuple(start for _, start in ordered), tuple(length for length, _ in ordered))
