"""One process of a machine after the other, where all of them at once would be too much for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lora_backend.installation import PeerPlace
from lora_backend.peers.peers import Peers


@contextmanager
def in_turn(peers: Peers, place: PeerPlace | None) -> Iterator[None]:
    """The block runs in one process of each machine at a time, and ends in all of them together.

    So a machine's memory needs room for one base model on its way to the GPUs, and all parts of it that stay there; the
    time that this takes is that of as many processes as the machine has. `place`: of this process; None: it is alone.
    """
    own = place.local_rank if place else 0
    num_turns = max(peers.gathered(own)) + 1
    for _ in range(own):
        peers.gathered(None)
    yield
    for _ in range(own, num_turns):
        peers.gathered(None)
