"""The config page after a changed field: save, check, compare and the whole page again, on the server alone.

AppTest reads the whole page back, which no server does: what a browser waits for is no more than this.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

from benchmarks.noise import median_and_spread
from lora_backend.config.config_writing import template
from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from tests.tiny import chats, write_rows

EDITS = 15
MODEL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip


def main() -> None:
    # It says once for each field that there is no browser.
    logging.getLogger("streamlit.runtime.scriptrunner_utils.script_run_context").disabled = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FLIGHTDECK_WORKSPACE"] = str(folder / "workspace")
        os.environ["FLIGHTDECK_MODEL_ROOTS"] = os.environ["FLIGHTDECK_DATA_ROOTS"] = name
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(MODEL))
        data = write_rows(folder / "chats.jsonl", chats())
        draft = new_draft(
            this_installation().drafts, template({"model_name": str(folder / "model"), "dataset": str(data)})
        )
        page = AppTest.from_file(str(Path(__file__).parents[1] / "app.py"), default_timeout=60)
        page.run()
        page.switch_page("pages/config.py")
        page.query_params["draft"] = draft.id
        page.run()
        _edit(page, 100)  # what is read once and kept is not what an edit takes
        times = [_edit(page, 101 + number) for number in range(EDITS)]
    print(
        f"edit of a field until the diff has it, a draft of all keys (at most 300 ms): {median_and_spread(times, 'ms')}"
    )


def _edit(page: AppTest, rank: int) -> float:
    """Milliseconds from the new rank in its field to the page with the new row in its diff."""
    field = next(item for item in page.number_input if item.label == "r")
    field.set_value(rank)
    began = time.perf_counter()
    page.run()
    elapsed_ms = (time.perf_counter() - began) * 1000
    assert not page.exception
    assert str(rank) in page.table[0].value.to_string(), "the diff has the new value"
    return elapsed_ms
