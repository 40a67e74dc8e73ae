"""A number for each example by which equal ones are found."""

from __future__ import annotations

import hashlib
import json

from lora_backend.data.examples import Chat, Example, Pair, Text


def digest_of(example: Example) -> int:
    """The same for rows that teach the same."""
    match example:
        case Chat():
            said = [
                list(map(dict, example.messages)),
                example.tools and list(map(dict, example.tools)),
                sorted(example.untrained),
            ]
            text = json.dumps(said, sort_keys=True, ensure_ascii=False, default=str)
        case Pair():
            text = json.dumps([example.prompt, example.completion], ensure_ascii=False)
        case Text():
            text = example.text
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=type(example).__name__.encode()).digest(), "big")
