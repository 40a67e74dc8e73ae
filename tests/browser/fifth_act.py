"""The way from a finished run to an adapter taken along, as a person goes it: of whichever run it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

from lora_backend.runs.record.documents import Answer
from lora_backend.runs.record.job_documents import ExportResult
from lora_backend.runs.record.run_store import RunStore
from lora_backend.training.answers import MAX_NEW_TOKENS
from lora_backend.verification.rank_report import check_adapter_folder
from tests.browser.conftest import Dashboard, badge, idle, press
from tests.browser.patience import expect

FRESH = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, merged, question, length = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False)
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
def answer(model):
    with torch.no_grad():
        out = model.eval().generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=int(length), do_sample=False,
            pad_token_id=tokenizer.pad_token_id)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).strip()
adapted = answer(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))
print(json.dumps([adapted, answer(AutoModelForCausalLM.from_pretrained(merged))]))
"""
"""peft and transformers alone: the answers of an adapter on its base, and of a merged model."""


class FifthAct:
    """A person with a browser, on a dashboard with a finished run. Each step waits `limit_s` seconds at most."""

    def __init__(self, dashboard: Dashboard, run: RunStore, page: Page, limit_s: float) -> None:
        self.dashboard, self.run, self.page, self.limit_ms = dashboard, run, page, limit_s * 1000
        self.run_page = f"{dashboard.url}/runs?run={run.id}"

    def walk(self, learned: Answer, folder: Path, done: Callable[[str], None] = lambda _: None) -> None:
        """All of it. `learned`: an answer of the run that is the adapter's alone. `folder`: takes what is downloaded.
        `done` is told each step that is behind."""
        self.ask(learned)
        done("asked")
        self.evaluate()
        done("evaluated")
        self.truncate()
        done("truncated")
        merged = self.export("merged")
        assert merged.is_proved
        done("merged")
        self.export("adapter")
        adapter = self.downloaded(folder)
        done("downloaded")
        base = str(self.run.read_record().config["model_name"])
        words = [base, str(adapter), merged.output, learned.question, str(MAX_NEW_TOKENS)]
        fresh = subprocess.run([sys.executable, "-c", FRESH, *words], cwd=folder, check=True, capture_output=True, text=True)  # fmt: skip
        assert json.loads(fresh.stdout.splitlines()[-1]) == [learned.adapter_answer] * 2
        done("answered by a fresh process")

    def ask(self, learned: Answer) -> None:
        """Base beside adapter, streamed; found again by its address."""
        page = self.page
        page.goto(self.run_page)
        press(page.get_by_role("button", name="Try it"))
        field = page.get_by_test_id("stChatInputTextArea")
        expect(field).to_be_enabled(timeout=self.limit_ms)
        field.fill(learned.question)
        field.press("Enter")
        expect(page.get_by_text(learned.adapter_answer).first).to_be_visible(timeout=self.limit_ms)
        expect(page.get_by_text("Base model").first).to_be_visible()
        expect(page.get_by_text("first token after")).to_have_count(2, timeout=self.limit_ms)
        page.wait_for_url("**chat=**")
        page.reload()
        expect(page.get_by_text(learned.adapter_answer).first).to_be_visible(timeout=self.limit_ms)

    def evaluate(self) -> None:
        """How good is it, beside the base model?"""
        self.page.goto(self.run_page)
        self.open_more()
        press(self.page.get_by_test_id("stPopover").get_by_role("button", name="Evaluate"))
        press(self.page.get_by_role("button", name="Start the evaluation"))
        evaluation = self.ended_job()
        assert evaluation.read_record().kind == "evaluate"
        assert json.loads(evaluation.result_json.read_text())["format"] == 1

    def open_more(self) -> None:
        """What is wanted less often is folded."""
        press(self.page.get_by_text("Evaluate, export, or train on"))

    def truncate(self) -> None:
        """What does a lower rank cost? Export there."""
        self.page.goto(f"{self.dashboard.url}/verify?run={self.run.id}")
        press(self.page.get_by_role("tab", name="Truncate"))
        export = self.page.get_by_role("button", name="Export at").first
        expect(export).to_be_visible(timeout=self.limit_ms)
        press(export)
        result = self.ended_job().read_result(ExportResult)
        assert result is not None
        assert result.is_proved
        assert result.ranks
        assert max(result.ranks.values()) < int(self.run.read_record().config["r"])

    def export(self, target: str) -> ExportResult:
        self.page.goto(self.run_page)
        self.open_more()
        press(self.page.locator(f".st-key-export_{target} button").first)
        press(self.page.locator(f".st-key-start_export_{target} button"))
        result = self.ended_job().read_result(ExportResult)
        assert result is not None
        return result

    def downloaded(self, folder: Path) -> Path:
        """The adapter out of the zip of the export whose page this is."""
        with self.page.expect_download() as download:
            press(self.page.get_by_role("button", name="Download", exact=True))
        download.value.save_as(folder / "taken.zip")
        with zipfile.ZipFile(folder / "taken.zip") as packed:
            packed.extractall(folder / "taken")
        adapter = next((folder / "taken").rglob("adapter_config.json")).parent
        assert check_adapter_folder(adapter, None).is_consistent
        return adapter

    def ended_job(self) -> RunStore:
        """The job of the run whose page comes next, once it has finished."""
        self.page.wait_for_url(lambda url: "/runs?" in url and self.run.id not in url)
        job = self.page.url.partition("run=")[2].partition("&")[0]
        expect(self.page.get_by_text(f"Run {job}, started by")).to_be_visible(timeout=self.limit_ms)
        # Until then the badge of the run's own page may still be there, below a title that is the job's.
        idle(self.page)
        expect(badge(self.page, "Finished").first).to_be_visible(timeout=self.limit_ms)
        return RunStore(self.dashboard.workspace / "runs" / job)
