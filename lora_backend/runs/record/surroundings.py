"""What a start was made by beyond its config: data, base model, versions, commit. What is not as it was is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.models.find import find_model
from lora_backend.models.identity import base_identity
from lora_backend.runs.record.provenance import provenance
from lora_backend.runs.record.run_folder import RunFolder
from lora_backend.runs.record.starts import attempts_of

KINDS: dict[str, type] = {
    "data_sha256": str, "questions_sha256": str, "precision": str, "python": str, "platform": str, "base": dict,
    "versions": dict, "code": dict, "device_uuids": list,
}  # fmt: skip
"""Keys of an attempt's file that may be another at each start, and what each holds."""
BASE_PARTS = {
    "weights_sha256": N_("The weights of the base model are not the same as before; the adapter was trained on those."),
    "config_sha256": N_("The config.json of the base model is not the same as before."),
    "tokenizer_sha256": N_("The tokenizer or the chat template of the base model is not the same as before."),
}


def facts_of(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """What an attempt's file says of what it was made by; a key that an older version did not write is left out."""
    return {key: attempt[key] for key, kind in KINDS.items() if isinstance(attempt.get(key), kind)}


def last_start(run: RunFolder) -> dict[str, Any]:
    """What the newest start that came as far as its data was made by; before any, what the launch recorded."""
    begun = [facts_of(attempt) for attempt in attempts_of(run) if "versions" in attempt]
    return begun[-1] if begun else facts_of(run.read_run())


def differences_of_starts(run: RunFolder) -> list[tuple[int, list[Message]]]:
    """Number of each start that was made by other things than the one before (the first: than the launch recorded),
    with a sentence for each kind of thing."""
    before, found = facts_of(run.read_run()), []
    for attempt in attempts_of(run):
        if "versions" not in attempt:  # it never came so far, or an older version wrote it
            continue
        now = facts_of(attempt)
        if said := differences(before, now):
            found.append((attempt["number"], said))
        before = before | now
    return found


def differences_from_now(run: RunFolder, config: Mapping[str, Any]) -> list[Message]:
    """What is another here and now than the run's last start was made by; its data aside, which is asked for by itself."""
    before = {key: value for key, value in last_start(run).items() if key not in ("data_sha256", "questions_sha256")}
    return [*base_differences(before, config), *differences(before, provenance())]


def base_differences(before: Mapping[str, Any], config: Mapping[str, Any]) -> list[Message]:
    """What of the config's base model is not, here and now, as `before` recorded it."""
    if not _object(before, "base"):
        return []
    try:
        now = base_identity(find_model(str(config.get("model_name"))))
    except ModelError:  # its absence is said by whoever needs it
        return []
    return differences({"base": before["base"]}, {"base": now})


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Message]:
    """One sentence for each kind of thing that both sides record, and not as the same."""
    base = _object(before, "base"), _object(after, "base")
    said = [Message(sentence) for key, sentence in BASE_PARTS.items() if _differ(*base, key)]
    if _differ(before, after, "data_sha256"):
        values = {"then": before["data_sha256"][:12], "now": after["data_sha256"][:12]}
        said.append(Message(N_("It reads changed data, as was confirmed (sha256 {then} → {now})."), values))
    if _differ(before, after, "questions_sha256"):
        said.append(Message(N_("The file of questions is not the same as before.")))
    changes = [f"{name} {then or '–'} → {now or '–'}" for name, then, now in _changed(before, after)]
    if changes:
        said.append(Message(N_("Not the same as before: {changes}."), {"changes": ", ".join(changes)}))
    return said


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, then and now of versions and other plain values."""
    sides = [_object(before, "versions"), _object(after, "versions")]
    found = [(name, then, sides[1].get(name)) for name, then in sides[0].items() if then != sides[1].get(name)]
    found += [(name, None, now) for name, now in sides[1].items() if now and name not in sides[0]] if sides[0] else []
    found = found if sides[1] else []
    found += [
        (key, before[key], after[key]) for key in ("python", "platform", "precision") if _differ(before, after, key)
    ]
    code = [_object(before, "code"), _object(after, "code")]
    if _differ(code[0], code[1], "commit"):
        found.append(("commit", str(code[0]["commit"])[:12], str(code[1]["commit"])[:12]))
    return found


def _differ(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> bool:
    """Whether both sides say what it is, and not the same."""
    return bool(before.get(key)) and bool(after.get(key)) and before[key] != after[key]


def _object(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}
