"""Run in a process of its own: a schema with one key more, and what every part of the product then knows of that key.

Prints JSON: place → what was found there.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from lora_backend.config import schema
from lora_backend.config.key_traits import key

HELP = "How often the model dreams."


class WithOneKeyMore(schema.TrainingConfig):
    """The schema, and a key that nobody has heard of."""

    daydreams: int = key(
        3,
        HELP,
        group="training",
        unit="turns",
        common=True,
        ge=1,
        on_resume="schedule",
        plans=True,
        affects={"memory"},
        trainer="num_dreams",
        foreign={"axolotl": "dreams_there", "peft": "lora_daydreams"},
    )


schema.TrainingConfig = WithOneKeyMore  # type: ignore[misc]  # before any other module takes it
schema.KEYS = schema.described(WithOneKeyMore)


def module(name: str) -> Any:
    """Imported only now, for the copy of the schema to be the one that it sees."""
    return importlib.import_module(name)


def form() -> list[str]:
    """Labels of the fields of the config page."""
    draft = module("lora_backend.config.drafts").new_draft(
        module("lora_backend.installation").this_installation().drafts, "model_name: m\n"
    )
    at = module("tests.pages.screens").show("config", draft=draft.id)
    return [item.label for item in at.number_input]


def plan_controls() -> list[str]:
    """Labels of the controls of the plan page."""
    at = module("streamlit.testing.v1").AppTest.from_function(_settings_bar)
    at.run()
    assert not at.exception, at.exception
    return [item.label for item in at.sidebar.number_input]


def _settings_bar() -> None:
    from pages.parts.plan.controls import settings_bar
    from pages.parts.plan.question import Question

    settings_bar(Question({}))


def plan_question() -> Any:
    """What the plan's address makes of the key."""
    question = module("pages.parts.plan.question").Question({"daydreams": "7", "model": "m"})
    return question.config().model_dump()["daydreams"]


def found() -> dict[str, Any]:
    """Place → what it knows of the key."""
    check_config = module("lora_backend.config.check").check_config
    diff = module("lora_backend.config.diff")
    changes = module("lora_backend.runs.record.changes")
    writing = module("lora_backend.config.config_writing")
    export = module("lora_backend.config.foreign.exporting").export_config
    imported = module("lora_backend.config.foreign.import_file").import_text
    consequences = module("lora_backend.preflight.consequences")
    config = {"model_name": "m", "daydreams": 5}
    return {
        "form": form(),
        "plan question": plan_question(),
        "plan controls": plan_controls(),
        "check": [finding.code for finding in check_config({**config, "daydreams": 0}).findings if finding.key == "daydreams"],
        "check of a slip": [finding.fix.to_json() for finding in check_config({"model_name": "m", "daydreems": 5}).errors],
        "defaults": check_config({"model_name": "m"}).recommended_config["daydreams"],
        "diff": [row.status for row in diff.diff_configs(config, schema.default_config(), schema.KEYS) if row.key == "daydreams"],
        "resume": {kind: list(keys) for kind, keys in changes.classify({"model_name": "m"}, config).items() if keys},
        "plan depends on it": "daydreams" in consequences.PLANNED,
        "template": writing.template(),
        "table": module("lora_backend.launching.table").cell_value("daydreams", "8"),
        "JSON schema": module("tools.docs.json_schema").config_json_schema()["properties"]["daydreams"],
        "reference": module("tools.docs.config_keys").keys_page("en"),
        "what may change on resume": module("tools.docs.resume_table").table("en"),
        "import tables": module("tools.docs.import_tables").tables("en"),
        "export": {tool: export(config, tool).text for tool in ("axolotl", "llamafactory", "peft")},
        "export rows": {row.key: row.outcome for row in export(config, "axolotl").rows}["daydreams"],
        "import": imported("base_model: m\nmicro_batch_size: 2\nsequence_len: 512\nadapter: lora\ndreams_there: 6\n").values["daydreams"],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(found()))
