"""What a start was made by beyond its config: data, base model, versions, commit. What is not as it was is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_backend.i18n import N_, Message
from lora_backend.models.identity import base_identity
from lora_backend.runs.record.attempts import Attempt, BaseIdentity
from lora_backend.runs.record.documents import CodeVersion, RunRecord
from lora_backend.runs.record.provenance import provenance
from lora_backend.runs.record.run_store import RunStore
from lora_backend.typed_json import Part

BASE_PARTS = {
    "weights_sha256": N_("The weights of the base model are not the same as before; the adapter was trained on those."),
    "config_sha256": N_("The config.json of the base model is not the same as before."),
    "tokenizer_sha256": N_("The tokenizer or the chat template of the base model is not the same as before."),
}


class Surroundings(Part):
    """What a start was made by. Not set: it was not recorded."""

    data_sha256: str | None = None
    eval_sha256: str | None = None
    questions_sha256: str | None = None
    init_adapter_sha256: str | None = None
    precision: str | None = None
    batching: str | None = None
    python: str | None = None
    platform: str | None = None
    base: BaseIdentity | None = None
    versions: dict[str, str | None] | None = None
    code: CodeVersion | None = None
    device_uuids: list[str | None] | None = None

    def with_later(self, later: Surroundings) -> Surroundings:
        """What was known before, and what a later start says otherwise."""
        return self.model_copy(update={name: getattr(later, name) for name in later.model_fields_set})


def surroundings_of(recorded: RunRecord | Attempt) -> Surroundings:
    """Of a launch or a start; what an older version did not write is not set."""
    found = {
        name: getattr(recorded, name, None) for name in Surroundings.model_fields if name in recorded.model_fields_set
    }
    return Surroundings(**{name: value for name, value in found.items() if value is not None})


def last_start(run: RunStore) -> Surroundings:
    """What the newest start that came as far as its data was made by; before any, what the launch recorded."""
    begun = [surroundings_of(attempt) for attempt in run.read_attempts() if attempt.versions is not None]
    return begun[-1] if begun else surroundings_of(run.read_record())


def differences_of_starts(run: RunStore) -> list[tuple[int, list[Message]]]:
    """Number of each start that was made by other things than the one before (the first: than the launch recorded),
    with a sentence for each kind of thing."""
    before, found = surroundings_of(run.read_record()), []
    for attempt in run.read_attempts():
        if attempt.versions is None:  # it never came so far, or an older version wrote it
            continue
        now = surroundings_of(attempt)
        if said := differences(before, now):
            found.append((attempt.number, said))
        before = before.with_later(now)
    return found


def differences_from_now(run: RunStore, base: Path | None) -> list[Message]:
    """What is another here and now than the run's last start was made by; its data aside, which is asked for by itself.
    `base`: its base model as it was found; None where it was not."""
    before = last_start(run).model_copy(update={"data_sha256": None, "eval_sha256": None, "questions_sha256": None})
    return [*base_differences(before, base), *differences(before, Surroundings(**provenance()))]


def base_differences(before: Surroundings, base: Path | None) -> list[Message]:
    """What of a base model is not, here and now, as `before` recorded it; its absence is said by whoever needs it."""
    if before.base is None or base is None:
        return []
    return differences(Surroundings(base=before.base), Surroundings(base=BaseIdentity(**base_identity(base))))


def differences(before: Surroundings, after: Surroundings) -> list[Message]:
    """One sentence for each kind of thing that both sides record, and not as the same."""
    base = before.base or BaseIdentity(), after.base or BaseIdentity()
    said = [
        Message(sentence)
        for key, sentence in BASE_PARTS.items()
        if _differ(getattr(base[0], key), getattr(base[1], key))
    ]
    if before.data_sha256 and after.data_sha256 and before.data_sha256 != after.data_sha256:
        values = {"then": before.data_sha256[:12], "now": after.data_sha256[:12]}
        said.append(Message(N_("It reads changed data, as was confirmed (sha256 {then} → {now})."), values))
    if _differ(before.eval_sha256, after.eval_sha256):
        said.append(Message(N_("The rows of `eval_dataset` are not the same as before.")))
    if _differ(before.questions_sha256, after.questions_sha256):
        said.append(Message(N_("The file of questions is not the same as before.")))
    changes = [f"{name} {then or '–'} → {now or '–'}" for name, then, now in _changed(before, after)]
    if changes:
        said.append(Message(N_("Not the same as before: {changes}."), {"changes": ", ".join(changes)}))
    return said


def _changed(before: Surroundings, after: Surroundings) -> Iterator[tuple[str, str | None, str | None]]:
    """Name, then and now of versions and other plain values."""
    then, now = before.versions, after.versions
    if then and now:
        yield from ((name, then[name], now.get(name)) for name in then if then[name] != now.get(name))
        yield from ((name, None, version) for name, version in now.items() if version and name not in then)
    for name in ("python", "platform", "precision", "batching"):
        if _differ(getattr(before, name), getattr(after, name)):
            yield name, getattr(before, name), getattr(after, name)
    if before.code and after.code and before.code.commit != after.code.commit:
        yield "commit", before.code.commit[:12], after.code.commit[:12]


def _differ(before: str | None, after: str | None) -> bool:
    """Whether both sides say what it is, and not the same."""
    return bool(before) and bool(after) and before != after
