"""Whether an adapter is what it says: one answer from its ranks and its provenance, and the provenance as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lora_backend.formats import number
from lora_backend.i18n import N_, Message, Plural
from lora_backend.terminal import Tone
from lora_backend.verification.differences import BASE_NOT_COMPARED
from lora_backend.verification.passport import Part, Verdict
from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.verdicts import deciding, doubts, tone, verdict

PARTS = {
    "passport": N_("Provenance record"),
    "config": N_("Config"),
    "tensors": N_("Tensors"),
    "adapter_config": N_("Adapter's own config"),
    "base_model": N_("Base model"),
    "data": N_("Data"),
}
WORDS: dict[Verdict, str] = {
    "same": N_("same"),
    "partly": N_("in part"),
    "different": N_("different"),
    "unknown": N_("not checked"),
}
HEADLINES: dict[Tone | None, str] = {
    "good": N_("It is what it says."),
    "doubt": N_("It may not be what it says: look at the warnings."),
    "bad": N_("It is not what it says."),
    None: N_("It cannot be checked."),
}
NOT_ALL_CHECKED = N_("Nothing wrong was found, but not everything could be checked.")
"""Where a base model to compare with is all that is in doubt."""
ORDER: tuple[Tone, ...] = ("good", "doubt", "bad")
HASH_DIGITS = 8
"""Of a sha256, enough to tell two files apart by eye."""


@dataclass(frozen=True)
class Answer:
    """The verdict that stands on top."""

    tone: Tone | None
    """None: the question does not apply, or cannot be decided."""
    headline: Message
    said: tuple[Message, ...]
    """Why: of the ranks, then of the provenance."""


@dataclass(frozen=True)
class ProvenanceRow:
    """A part of the provenance, or a key of the config that differs; both of its sides as plain values."""

    name: Message | str
    """A `str` is a key."""
    verdict: Verdict
    recorded: Any
    found: Any


def answer(report: RankReport, parts: Sequence[Part]) -> Answer:
    """The worse of what ranks and provenance say; a provenance that is not known changes nothing."""
    decides = deciding(report)
    found = _worse(tone(report) if decides.is_consistent is not None else None, _tone_of(parts))
    is_only_base = found == "doubt" and doubts(decides) == [BASE_NOT_COMPARED] and _tone_of(parts) == "good"
    headline = Message(NOT_ALL_CHECKED if is_only_base else HEADLINES[found])
    said = [verdict(decides), *_scaling(decides)]
    if report.layers:
        said.append(provenance_message(parts))
    return Answer(found, headline, tuple(said))


def _scaling(report: RankReport) -> Iterator[Message]:
    """What is not scaled as expected, by the first such layer."""
    others = [record for record in report.layers if record.has_other_scaling]
    if others:
        yield Message(
            Plural(
                "{count} layer is not scaled as expected, first {first} ({scaling}, expected {expected}).",
                "{count} layers are not scaled as expected, first {first} ({scaling}, expected {expected}).",
            ),
            {
                "count": len(others),
                "first": others[0].name,
                "scaling": number(others[0].scaling),
                "expected": number(others[0].expected_scaling),
            },
        )


def provenance_message(parts: Sequence[Part]) -> Message:
    """All parts in one sentence."""
    different = [Message(PARTS[part.name]) for part in parts if part.verdict == "different"]
    if different:
        names = different[0] if len(different) == 1 else Message("{names}", {"names": _listed(different)})
        return Message(N_("Not what the adapter was trained with: {parts}."), {"parts": names})
    if any(part.verdict == "partly" for part in parts):
        return Message(N_("The data was changed while the run was trained, which was confirmed."))
    if parts and all(part.verdict == "same" for part in parts):
        return Message(N_("Everything matches, and the adapter is unchanged."))
    record = next((part.detail for part in parts if part.name == "passport"), None)
    return record or Message(N_("Everything that could be checked matches."))


def provenance_rows(parts: Sequence[Part]) -> Iterator[ProvenanceRow]:
    """A row for each part; of a config that differs a row for each key instead."""
    for part in parts:
        if part.differing:
            for key, recorded, found in part.differing:
                yield ProvenanceRow(key, "different", recorded, found)
        elif part.name != "passport":
            yield ProvenanceRow(
                Message(PARTS[part.name]), part.verdict, short_hash(part.recorded), short_hash(part.found)
            )


def short_hash(sha256: str | None) -> str | None:
    """Its first digits."""
    return None if sha256 is None else sha256[:HASH_DIGITS]


def _worse(of_ranks: Tone | None, of_parts: Tone) -> Tone | None:
    if of_ranks is None:
        return "bad" if of_parts == "bad" else None
    return max(of_ranks, of_parts, key=ORDER.index)


def _tone_of(parts: Sequence[Part]) -> Tone:
    verdicts = {part.verdict for part in parts}
    return "bad" if "different" in verdicts else "doubt" if "partly" in verdicts else "good"


def _listed(names: Sequence[Message]) -> Message:
    """`a, b, c`, each in the reader's language."""
    template = ", ".join(f"{{part_{index}}}" for index in range(len(names)))
    return Message(template, {f"part_{index}": name for index, name in enumerate(names)})
