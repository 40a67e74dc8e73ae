"""The published schemas of a run's files say what the types say, and what is written obeys them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest

from lora_backend.runs.record.run_store import RunStore
from lora_backend.typed_json import Document
from tools.docs.common import DOCS
from tools.docs.run_files import FOLDER, pages

FIXTURES = Path(__file__).parent / "runs" / "fixtures"


@pytest.mark.parametrize(("name", "text"), pages().items(), ids=list(pages()))
def test_the_published_schema_is_that_of_the_type(name: str, text: str) -> None:
    assert (DOCS / name).read_text("utf-8") == text, "run `make docs`"


@pytest.mark.parametrize("name", ["finished", "failed", "queued", "resumed"])
def test_what_this_version_writes_obeys_the_published_schemas(name: str) -> None:
    run = RunStore(FIXTURES / name)
    written: dict[str, Sequence[Document | None]] = {
        "run.json": [run.read_record()],
        "status.json": [run.read_status()],
        "attempts.json": run.read_attempts(),
        "exit.json": [run.read_exit()],
        "rank_report.json": [run.read_rank_report()],
        "answers.jsonl": run.read_answers(),
    }
    for file, documents in written.items():
        schema = json.loads((DOCS / FOLDER / f"{file}.schema.json").read_text("utf-8"))
        for document in (one for one in documents if one is not None):
            jsonschema.validate(json.loads(json.dumps(document.to_json())), schema)


def test_every_field_says_what_it_is() -> None:
    for name, text in pages().items():
        schema = json.loads(text)
        objects = [schema, *schema.get("$defs", {}).values()]
        fields = [(one["title"], key, field) for one in objects for key, field in one.get("properties", {}).items()]
        undescribed = [
            (title, name) for title, name, field in fields if "description" not in field and "$ref" not in field
        ]
        assert fields
        assert undescribed == [], name
