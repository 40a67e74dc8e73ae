"""The command line: `flightdeck check|plan|data|train|verify|chat|evaluate|ship|download|runs|import|export|demo|serve`. One JSON document with `--json`."""

from __future__ import annotations

import argparse
import io
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn, get_args

from lora_backend.commands.job_words import add_chat, add_download, add_evaluate, add_ship
from lora_backend.commands.start_options import add_cluster, add_meeting, add_start
from lora_backend.commands.words import WRONG_QUESTION, print_json
from lora_backend.config.foreign.exporting import EXPORT_TOOLS
from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible
from lora_backend.i18n import LANGUAGES, use_language
from lora_backend.installation import this_installation
from lora_backend.os_errors import in_words
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.runs.record.states import STATES
from lora_backend.terminal import log_to_stderr, show, while_read


def main(argv: Sequence[str] | None = None, program: str = "python -m lora_backend") -> int:
    """Run one command. Exit 0 good, 1 the answer is no, 2 the question was wrong. `program`: what the help calls it."""
    return while_read(lambda: _answer(argv, program))


def _answer(argv: Sequence[str] | None, program: str) -> int:
    arguments = _parser(program).parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no Chinese shows escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")
    installation = this_installation()
    log_to_stderr(with_tracebacks=installation.is_supervised)  # under a supervisor stderr is `train.log`
    for client in ("httpx", "httpx2"):  # which log each address, signed ones too
        logging.getLogger(client).setLevel(logging.WARNING)
    with use_language(arguments.lang):
        try:
            return int(arguments.run(arguments))
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:  # outside of a run, which hears the signal itself
            return 128 + signal.SIGINT
        except (FlightdeckError, OSError) as error:
            sentence = str(in_words(error, installation.workspace) if isinstance(error, OSError) else error)
            if arguments.json:
                print_json({"error": sentence})
            else:
                show(sentence, to_stderr=True)
            return WRONG_QUESTION


def _command(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command that imports what it needs when it is run: none waits for the modules of the others."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(import_module(f"lora_backend.commands.{module}"), name)(arguments))

    return run


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the words that it was given without letting them act on the terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def _parser(program: str) -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON document on stdout, logs on stderr")
    shared.add_argument("--lang", choices=sorted(LANGUAGES), help="language of the text; default: the locale's")
    parser = _Parser(prog=program, description="LoRA training, checked and recorded.")
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser("check", parents=[shared], help="what is wrong with a config, and how it differs")
    check.add_argument("config", type=Path)
    check.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="another config, or a training script (.py) whose defaults are read",
    )
    check.set_defaults(run=_command("check", "check"))

    _add_plan(commands.add_parser, shared)
    _add_data(commands.add_parser, shared)

    train = commands.add_parser("train", parents=[shared], help="train in the foreground")
    train.add_argument("config", type=Path)
    train.add_argument("--run-dir", type=Path, metavar="DIR", help="the run's folder; default: a new one")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    train.add_argument("--accept-changed-data", action="store_true", help="with --run-dir of a run that is made already: also where its data set has changed")  # fmt: skip
    _add_accepted(train)
    train.set_defaults(run=_command("train", "train"))

    verify = commands.add_parser("verify", parents=[shared], help="the rank of every LoRA layer of an adapter or a run")
    verify.add_argument("subject", metavar="ADAPTER_OR_RUN", help="an adapter's folder, a run's folder, or a run's id")
    verify.add_argument("--config", type=Path, help="the config to hold it against; default: the run's, or its own")
    verify.set_defaults(run=_command("verify", "verify"))

    _add_runs(
        commands.add_parser("runs", help="start, list, show, report, stop, resume, queue and compare runs"), shared
    )
    _add_foreign(commands.add_parser, shared)

    demo = commands.add_parser("demo", parents=[shared], help="prepare the demo model and data; --train: learn them")
    demo.add_argument("--train", action="store_true", help="then train, and answer the held-out questions")
    demo.add_argument("--run-dir", type=Path, metavar="DIR", help="the run's folder; default: a new one")
    demo.set_defaults(run=_command("demo", "demo"))

    _add_jobs(commands.add_parser, shared)

    serve = commands.add_parser("serve", parents=[shared], help="serve the dashboard; `flightdeck` alone does the same")
    serve.add_argument("--port", type=int, default=8501, help="default: 8501")
    serve.set_defaults(run=_command("serve", "serve"))
    return parser


def _add_data(add: Callable[..., argparse.ArgumentParser], shared: _Parser) -> None:
    data = add(
        "data", parents=[shared], help="what a model learns of a data set: form, bad rows, tokens, what is cut",
        description="Exit 1 where it cannot be trained on: too many bad rows, rows that the chat template refuses, nothing to learn.",
    )  # fmt: skip
    data.add_argument("file", type=Path, metavar="FILE", help="rows in any form: a file or a folder; or a config (.yaml), whose data set and model are taken")  # fmt: skip
    data.add_argument("--model", help="whose tokenizer and chat template write the rows; without one, rows alone are counted")  # fmt: skip
    data.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the config, as in max_length=2048; repeatable")  # fmt: skip
    data.add_argument("--show", type=int, metavar="ROW", help="print that row with its trained tokens coloured and what is cut struck through")  # fmt: skip
    data.set_defaults(run=_command("data", "data_command"))


def _add_foreign(add: Callable[..., argparse.ArgumentParser], shared: _Parser) -> None:
    import_ = add("import", parents=[shared], help="read the config of another tool into ours")
    import_.add_argument("config", type=Path, metavar="FILE")
    import_.add_argument("--output", type=Path, metavar="FILE", help="write the config there; default: stdout")
    import_.set_defaults(run=_command("foreign", "import_command"))
    export = add("export", parents=[shared], help="write a config for another tool")
    export.add_argument("config", type=Path)
    export.add_argument("--to", required=True, choices=EXPORT_TOOLS)
    export.add_argument("--output", type=Path, metavar="FILE", help="write it there; default: stdout")
    export.set_defaults(run=_command("foreign", "export_command"))


def _add_jobs(add: Callable[..., argparse.ArgumentParser], shared: _Parser) -> None:
    jobs: tuple[tuple[str, Callable[[argparse.ArgumentParser], None], str], ...] = (
        ("chat", add_chat, "ask a base model and adapters of it, side by side"),
        ("evaluate", add_evaluate, "loss and right answers of an adapter beside its base model"),
        ("ship", add_ship, "take an adapter along: as folder or zip, merged, as GGUF, its card, to the hub"),
        ("download", add_download, "get a model from the hub; --list: what lies in its cache"),
    )
    for name, add_words, says in jobs:
        command = add(name, parents=[shared], help=says)
        add_words(command)
        command.set_defaults(run=_command(name, name))
    job = add("job", parents=[shared])  # what the supervisor of a job starts; no help, for nobody else does
    job.add_argument("folder", type=Path)
    job.set_defaults(run=_command("job", "job"))


def _step(text: str) -> int:
    """A checkpoint as it is named, `checkpoint-40`, or its step alone."""
    digits = text.removeprefix("checkpoint-")
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no step of a checkpoint; write its number, as in `--from 40`.")
    return int(digits)


def _add_accepted(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="also where the plan is tight, without asking")
    command.add_argument("--anyway", action="store_true", help="also where the plan does not fit what is free")


def _add_plan(add: Callable[..., argparse.ArgumentParser], shared: _Parser) -> None:
    plan = add("plan", parents=[shared], help="what every GPU will hold, and where each layer goes")
    plan.add_argument("config", type=Path, nargs="?", help="a training config; without one, --model with the defaults")
    plan.add_argument("--model", help="a folder, a config.json, a hub id, or a model of the catalogue")
    plan.add_argument(
        "--gpus", help='GPUs to plan for: "24,12,8" (GiB) or "2xRTX-4090,A100-40G"; default: this machine\'s'
    )
    plan.add_argument("--goal", choices=get_args(Goal), default="balance", help="the fullest GPU as free as can be (default), as few GPUs as hold it, or the shortest step")  # fmt: skip
    plan.add_argument("--price", metavar="AMOUNT", help="of one GPU for an hour, as in 1.5 or 1.5EUR: the run's cost is said")  # fmt: skip
    plan.add_argument("--rows", metavar="COUNT", help="rows of data; default: those of the config's data set")  # fmt: skip
    plan.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    plan.add_argument("--svg", type=Path, metavar="FILE", help="also draw the plan as a picture for a slide")
    plan.add_argument("--theme", choices=("light", "dark"), default="light", help="of that picture (default: light)")
    plan.set_defaults(run=_command("plan", "plan_command"))


def _add_looks(add: Callable[..., argparse.ArgumentParser], shared: _Parser) -> None:
    """Of runs: what changes nothing of theirs."""
    listed = add("list", parents=[shared], help="all runs: pinned ones first, then the newest")
    listed.add_argument("--filter", default="", metavar="WORDS", help="all of them in id, name, note, tags or config")
    listed.add_argument("--state", action="extend", nargs="+", default=[], choices=sorted(STATES), metavar="STATE", help=f"one of {', '.join(sorted(STATES))}")  # fmt: skip
    listed.add_argument("--tag", action="extend", nargs="+", default=[], metavar="TAG", help="runs with all of these tags")  # fmt: skip
    listed.add_argument("--columns", metavar="KEY,...", help="config keys and figures of the table; --json has them all")  # fmt: skip
    listed.add_argument("--archived", action="store_true", help="those that were put away too")
    listed.set_defaults(run=_command("runs", "list_command"))

    show = add("show", parents=[shared], help="one run: state, checkpoints, ranks, how to make it again. Exit 1 where it failed or is lost")  # fmt: skip
    show.add_argument("id")
    show.add_argument("--log", type=int, metavar="RANK", help="the end of the log instead; of several processes that train together that of this one, from 0")  # fmt: skip
    show.set_defaults(run=_command("runs", "show_command"))

    report = add("report", parents=[shared], help="one run as an HTML page that needs nothing else: result, curves, config, ranks, answers")  # fmt: skip
    report.add_argument("id")
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write it; default: ID.html in the current folder. A file that is there is replaced")  # fmt: skip
    report.set_defaults(run=_command("run_report", "report_command"))

    compare = add("compare", parents=[shared], help="two to eight runs: configs and outcomes")
    compare.add_argument("ids", nargs="+", metavar="ID")
    compare.set_defaults(run=_command("runs", "compare_command"))


def _add_runs(runs: argparse.ArgumentParser, shared: _Parser) -> None:
    commands = runs.add_subparsers(dest="runs_command", required=True)

    start = commands.add_parser(
        "start", parents=[shared], help="start a run in the background; with --nodes on several machines that train it together",
        description="Starts as the page's Launch does: checked, planned, in the background where its devices are free, else queued. "
        "With several machines the first one prints the command for each of the others.",
    )  # fmt: skip
    add_start(start)
    _add_accepted(start)
    start.set_defaults(run=_command("run_start", "start_command"))

    _add_looks(commands.add_parser, shared)

    stop = commands.add_parser(
        "stop", parents=[shared], help="save a checkpoint and end; a queued run leaves the queue"
    )
    stop.add_argument("id")
    stop.add_argument("--wait", action="store_true", help="until it has ended")
    stop.add_argument("--deadline", type=float, metavar="SECONDS", help="how long the trainer may take; then it is ended. Default: 120")  # fmt: skip
    stop.set_defaults(run=_command("run_acts", "stop_command"))

    resume = commands.add_parser("resume", parents=[shared], help="go on from the newest whole checkpoint; queued where its devices are taken")  # fmt: skip
    resume.add_argument("id")
    resume.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    resume.add_argument("--from", type=_step, metavar="STEP", dest="from_step", help="go on from this checkpoint, or with 0 from the first step; later ones are put aside")  # fmt: skip
    _add_accepted(resume)
    add_meeting(resume)
    add_cluster(resume, ["here", "slurm", "ray"], "where it goes on; default: where it trained before")
    resume.add_argument("--accept-changed-data", action="store_true", help="also where its data set has changed since it last read it")  # fmt: skip
    resume.set_defaults(run=_command("run_acts", "resume_command"))

    queue = commands.add_parser(
        "queue", parents=[shared], help="launch a run, or many from a table, detached; without CONFIG: what waits, and for what",
        description="Launches as the page does: checked, planned, started where its devices are free, else queued. Model "
        "and data may be anywhere, and relative paths count from the current folder; `output_dir` lies below the workspace.",
    )  # fmt: skip
    queue.add_argument("config", type=Path, nargs="?")
    queue.add_argument("--table", type=Path, metavar="FILE", help="keys in the first line, one run in each line below (CSV, TSV)")  # fmt: skip
    queue.add_argument("--dry-run", action="store_true", help="say what each run would be, and start none")
    queue.add_argument("--name", help="of the run")
    queue.add_argument("--tag", action="append", default=[], help="of every run; repeatable")
    _add_accepted(queue)
    queue.add_argument("--shares", action="store_true", help="beside other runs on the same devices, without waiting")
    queue.set_defaults(run=_command("run_queue", "queue_command"))
