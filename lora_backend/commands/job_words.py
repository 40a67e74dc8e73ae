"""The words of the commands behind a finished training: `chat`, `evaluate`, `ship`, `download`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from lora_backend.runs.record.job_documents import ExportDtype, Target

SUBJECT = "an adapter's folder, a run's folder, or a run's id"


def add_chat(chat: argparse.ArgumentParser) -> None:
    """Who is asked, what, and how answers are drawn."""
    chat.add_argument("subjects", nargs="+", metavar="MODEL_OR_ADAPTER_OR_RUN", help=f"a base model, or {SUBJECT}; one to three. An adapter alone stands beside its base model")  # fmt: skip
    chat.add_argument("--alone", action="store_true", help="an adapter without its base model beside it")
    chat.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="ask this and end; repeatable: the turns of one chat. Without it a chat at the terminal")  # fmt: skip
    chat.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    chat.add_argument("--temperature", type=float, default=0.0, help="0, the default: always the likeliest token")
    chat.add_argument("--top-p", type=float, default=1.0)
    chat.add_argument("--top-k", type=int, default=0, help="0, the default: all tokens")
    chat.add_argument("--repetition-penalty", type=float, default=1.0)
    chat.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end an answer there; repeatable")
    chat.add_argument("--max-new-tokens", type=int, default=256)
    chat.add_argument("--seed", type=int, default=42)
    chat.add_argument("--disagreement", action="store_true", help="mark the tokens on which adapter and base disagree")


def add_evaluate(evaluate: argparse.ArgumentParser) -> None:
    """What is measured, on what."""
    evaluate.add_argument("subjects", nargs="+", metavar="ADAPTER_OR_RUN", help=f"{SUBJECT}; its base model stands beside it")  # fmt: skip
    evaluate.add_argument("--dataset", type=Path, metavar="FILE", help="rows whose loss is measured. With none of the three files: a run's `eval_dataset`, or what its `val_size` held out, and its `questions`")  # fmt: skip
    evaluate.add_argument("--questions", type=Path, metavar="FILE", help="questions with `expect`")  # fmt: skip
    evaluate.add_argument("--prompts", type=Path, metavar="FILE", help="prompts that base model and adapters answer, one a line or as JSON lines")  # fmt: skip
    evaluate.add_argument("--max-rows", type=int, metavar="COUNT", help="the first so many of the rows; default: all")
    evaluate.add_argument("--model", metavar="MODEL", help="where the base model is, if not where the adapter says")
    evaluate.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="by which rows are read and labelled, as in max_length=2048; default: as the run has it; repeatable")  # fmt: skip
    evaluate.add_argument("--temperature", type=float, default=0.0, help="of prompts; 0, the default: always the likeliest token")  # fmt: skip
    evaluate.add_argument("--max-new-tokens", type=int, default=256, help="of an answer to a prompt; default: 256")
    evaluate.add_argument("--seed", type=int, default=42, help="of prompts with a temperature; default: 42")
    evaluate.add_argument("--detach", action="store_true", help="as a job of its own: print its id and end")


def add_ship(ship: argparse.ArgumentParser) -> None:
    """What is made of which adapter, and where."""
    ship.add_argument("subject", metavar="ADAPTER_OR_RUN", help=SUBJECT)
    ship.add_argument("--to", required=True, choices=get_args(Target))
    ship.add_argument("--output", type=Path, metavar="PATH", help="a folder; or a file: .zip of an adapter, .gguf, .md of a card")  # fmt: skip
    ship.add_argument("--dtype", choices=get_args(ExportDtype), help="default: that of the base model's files")
    ship.add_argument("--rank", type=int, metavar="N", help="truncate every layer to this rank at most")
    ship.add_argument("--energy", type=float, metavar="SHARE", help="truncate every layer to the rank that keeps this share of its energy, as in 0.99")  # fmt: skip
    ship.add_argument("--max-size", metavar="SIZE", help="truncate to the ranks with the most energy within this size, as in 20MB")  # fmt: skip
    ship.add_argument("--model", metavar="MODEL", help="where the base model is, if not where the adapter says")
    ship.add_argument(
        "--overwrite", action="store_true", help="replace an export that stands there; it goes to the bin"
    )
    ship.add_argument("--repo", metavar="OWNER/NAME", help="of --to hub")
    ship.add_argument("--what", choices=("adapter", "merged"), default="adapter", help="that --to hub pushes")
    ship.add_argument("--public", action="store_true", help="of --to hub: a new repository is public, not private")
    ship.add_argument("--yes", action="store_true", help="of --to hub: without asking once more")
    ship.add_argument("--detach", action="store_true", help="as a job of its own: print its id and end")


def add_download(download: argparse.ArgumentParser) -> None:
    """Which model, or what of the cache."""
    download.add_argument("model", nargs="?", metavar="MODEL", help="a hub id, as in Qwen/Qwen2.5-0.5B-Instruct")
    download.add_argument("--revision", default="main", help="a branch, a tag or a commit; default: main")
    download.add_argument("--list", action="store_true", help="what lies in the cache, with sizes")
    download.add_argument("--delete", action="store_true", help="delete MODEL from the cache")
    download.add_argument("--partial", action="store_true", help="of --delete: only what is half downloaded")
    download.add_argument("--yes", action="store_true", help="of --delete: without asking")
    download.add_argument("--detach", action="store_true", help="as a job of its own: print its id and end")
