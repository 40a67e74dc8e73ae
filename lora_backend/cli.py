"""The command line: `python -m lora_backend check|plan|train|verify|demo`. One JSON document on stdout with `--json`."""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_backend.config.check import LARGEST, CheckResult
from lora_backend.config.diff import ABSENT, DiffRow, diff_configs
from lora_backend.config.files import ConfigDocument, dump_yaml, parse_config, read_config
from lora_backend.config.findings import shorten
from lora_backend.config.report import diff_text, report_text
from lora_backend.config.schema import KEYS, TrainingConfig
from lora_backend.errors import ConfigError, FlightdeckError, ModelError
from lora_backend.i18n import LANGUAGES, N_, translate, use_language
from lora_backend.models.find import find_model
from lora_backend.planning.advice import advise
from lora_backend.planning.profile import Profile
from lora_backend.planning.report import plan_document, plan_text
from lora_backend.preflight.facts import check_with_facts, with_data_paths
from lora_backend.preflight.planning import config_to_plan, model_facts, planner_for
from lora_backend.runs.folder import RUN_ID, RunFolder, new_run_id
from lora_backend.runs.process import ProcessIdentity, is_alive
from lora_backend.settings import load_settings, path_of
from lora_backend.verification.folder import read_adapter_config
from lora_backend.verification.passport import check_passport, file_sha256
from lora_backend.verification.report import as_table, check_adapter_folder, verdict

GOOD, NO, WRONG_QUESTION = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit 0 good, 1 the answer is no, 2 the question was wrong."""
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no Chinese shows escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with use_language(arguments.lang):
        try:
            return int(arguments.run(arguments))
        except FlightdeckError as error:
            if arguments.json:
                _print_json({"error": str(error)})
            else:
                print(error, file=sys.stderr)
            return WRONG_QUESTION


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="one JSON document on stdout, logs on stderr")
    shared.add_argument("--lang", choices=sorted(LANGUAGES), help="language of the text; default: the locale's")
    parser = argparse.ArgumentParser(prog="python -m lora_backend", description="LoRA training, checked and recorded.")
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser("check", parents=[shared], help="what is wrong with a config, and how it differs")
    check.add_argument("config", type=Path)
    check.add_argument("--against", type=Path, metavar="FILE", help="another config to compare with")
    check.set_defaults(run=_check)

    plan = commands.add_parser("plan", parents=[shared], help="what every GPU will hold, and where each layer goes")
    plan.add_argument("config", type=Path, nargs="?", help="a training config; without one, --model with the defaults")
    plan.add_argument("--model", help="a folder, a config.json, a hub id, or a model of the catalogue")
    plan.add_argument(
        "--gpus", help='GPUs to plan for: "24,12,8" (GiB) or "2xRTX-4090,A100-40G"; default: this machine\'s'
    )
    plan.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    plan.set_defaults(run=_plan)

    train = commands.add_parser("train", parents=[shared], help="train in the foreground")
    train.add_argument("config", type=Path)
    train.add_argument("--run-dir", type=Path, metavar="DIR", help="the run's folder; default: a new one")
    train.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key; repeatable")
    train.set_defaults(run=_train)

    verify = commands.add_parser("verify", parents=[shared], help="the rank of every LoRA layer of an adapter or a run")
    verify.add_argument("subject", metavar="ADAPTER_OR_RUN", help="an adapter's folder, a run's folder, or a run's id")
    verify.add_argument("--config", type=Path, help="the config to hold it against; default: the run's, or its own")
    verify.set_defaults(run=_verify)

    demo = commands.add_parser("demo", parents=[shared], help="prepare the demo model and data; --train: learn them")
    demo.add_argument("--train", action="store_true", help="then train, and answer the held-out questions")
    demo.add_argument("--run-dir", type=Path, metavar="DIR", help="the run's folder; default: a new one")
    demo.set_defaults(run=_demo)
    return parser


def _check(arguments: argparse.Namespace) -> int:
    document = read_config(arguments.config)
    result = check_with_facts(document)
    rows = _differences(document, arguments.against)
    if arguments.json:
        _print_json(_check_document(result, rows, arguments.against))
    else:
        print(report_text(result))
        if arguments.against:
            print(f"\n{translate(N_('Different from {file}:')).format(file=arguments.against)}\n{diff_text(rows)}")
    return GOOD if result.is_valid else NO


def _differences(document: ConfigDocument, against: Path | None) -> list[DiffRow]:
    if against is None:
        return []
    base = read_config(against)
    if not base.is_readable:
        raise ConfigError(
            N_("{path} cannot be compared with: {reason}"), path=str(against), reason=base.problems[0].message
        )
    return diff_configs(document.values, base.values, KEYS)


def _check_document(result: CheckResult, rows: list[DiffRow], against: Path | None) -> dict[str, Any]:
    document = result.to_dict()
    if against is not None:  # compared with a file, "default" is what that file says
        document["differences"] = {
            row.key: {"default": _side(row.base), "value": _side(row.value)} for row in rows if row.status != "equal"
        }
    return document


def _side(value: Any) -> Any:
    return None if value is ABSENT else value


def _plan(arguments: argparse.Namespace) -> int:
    values = _readable(arguments.config).values if arguments.config else {}
    values = values | ({"model_name": arguments.model} if arguments.model else {}) | dict(map(_setting, arguments.set))
    config = config_to_plan(values)
    planner, message = planner_for(model_facts(config.model_name), _trace_here, load_settings(), arguments.gpus)
    plan = planner.plan(config)
    advice = advise(planner, config, plan)
    if arguments.json:
        _print_json(plan_document(plan, advice))
    else:
        print(plan_text(plan, config, advice, message, use_colour=sys.stdout.isatty()))
    return GOOD if plan.fits else NO


def _readable(path: Path) -> ConfigDocument:
    document = read_config(path)
    if not document.is_readable:
        raise ConfigError(N_("{path}: {reason}"), path=str(path), reason=document.problems[0].message)
    return document


def _trace_here(facts: Mapping[str, Any], config: TrainingConfig) -> Profile:
    from lora_backend.modeling.trace import profile_for  # torch: only where no profile is known

    return profile_for(facts, config)


def _train(arguments: argparse.Namespace) -> int:
    existing = RunFolder(arguments.run_dir.absolute()) if arguments.run_dir else None
    if existing and existing.run_json.exists():
        return _train_in(_made_run(existing, arguments), arguments.json)
    document = read_config(arguments.config)
    values = with_data_paths(document.values | dict(map(_setting, arguments.set)))
    result = check_with_facts(replace(document, values=values))
    if result.is_valid and not values.get("dataset"):
        raise ConfigError(N_("`dataset` is missing. Name a JSONL file to train on."))
    if not result.is_valid:
        if arguments.json:
            _print_json(result.to_dict())
        print(report_text(result), file=sys.stderr)
        return NO
    path = arguments.run_dir or load_settings().runs / new_run_id()
    text = document.text if not arguments.set and document.format == "yaml" else dump_yaml(values)
    data_sha256 = file_sha256(Path(values["dataset"])) if values.get("dataset") else None
    folder = RunFolder.create(
        path.parent, config=values, config_text=text, argv=sys.orig_argv, data_sha256=data_sha256, path=path.absolute()
    )
    return _train_in(folder, arguments.json)


def _made_run(folder: RunFolder, arguments: argparse.Namespace) -> RunFolder:
    """The run that a launcher made at `--run-dir`, for this process to train."""
    if arguments.set:
        raise ConfigError(N_("`--set` cannot change a run that is made already. Name another folder."))
    if folder.exit_json.exists():
        raise ConfigError(N_("The run in {path} has ended. Name another folder."), path=str(folder.path))
    trainer = folder.status().get("trainer")
    if trainer and is_alive(ProcessIdentity.from_json(trainer)):
        raise ConfigError(
            N_("The run in {path} is being trained by process {pid}. Stop it first, or name another folder."),
            path=str(folder.path),
            pid=trainer["pid"],
        )
    return folder


def _train_in(folder: RunFolder, as_json: bool) -> int:
    from lora_backend.training.run import train_in_folder  # torch: only now

    code = GOOD
    try:
        train_in_folder(folder)
    except Exception as error:  # the log has the traceback, the run's state the sentence
        code = NO
        message = folder.state().message
        print(message.text() if message else error, file=sys.stderr)
    if as_json:
        state = folder.state().state
        _print_json({"run": folder.id, "path": str(folder.path), "state": state, "adapter": str(folder.adapter)})
    return code


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(N_("`--set {text}` has no value. Write --set key=value."), text=text)
    return key, parse_config(f"value: {value}").values.get("value", value)


def _verify(arguments: argparse.Namespace) -> int:
    adapter, config, base = _verify_subject(arguments)
    report = check_adapter_folder(adapter, config)
    dataset = (config or {}).get("dataset")
    parts = check_passport(adapter, config, base, file_sha256(Path(dataset)) if isinstance(dataset, str) else None)
    document = {**report, "passport": [part.to_dict() for part in parts]}
    if report["is_consistent"] is None:
        document["error"] = verdict(report).text()
    if arguments.json:
        _print_json(document)
    else:
        print(verdict(report))
        if report["warnings"]:
            print(", ".join(report["warnings"]))
        if report["layers"]:
            print(as_table(report))
        for part in parts:
            print(f"{part.name}: {part.verdict}. {part.detail}")
    return {True: GOOD, False: NO, None: WRONG_QUESTION}[report["is_consistent"]]


def _verify_subject(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any] | None, Path | None]:
    """The adapter's folder, the config to hold it against, and the base model's config.json where it is here."""
    path = path_of(arguments.subject)
    if path is None:
        raise ModelError(N_("There is no adapter folder {path}. Check the path."), path=arguments.subject[:200])
    if not path.exists() and RUN_ID.fullmatch(arguments.subject):
        path = load_settings().runs / arguments.subject
    config: dict[str, Any] | None = None
    if (path / "run.json").is_file():
        config, path = RunFolder(path).read_run()["config"], path / "adapter"
    if arguments.config:
        config = _readable(arguments.config).values
    own = read_adapter_config(path) if path.is_dir() else None
    name = (config or {}).get("model_name") or (own or {}).get("base_model_name_or_path")
    try:
        base = find_model(str(name)) / "config.json" if name else None
    except ModelError:  # the passport says that it cannot be told
        base = None
    return path, config, base


def _demo(arguments: argparse.Namespace) -> int:
    from lora_backend.demo.config import promise_kept
    from lora_backend.demo.run import prepare, score_table, train_demo

    if not arguments.train:
        config_path = prepare(load_settings())
        if arguments.json:
            _print_json({"config": str(config_path)})
        else:
            print(translate(N_("The demo is ready. Train it with: {command}")).format(command=f"python -m lora_backend train {config_path}"))  # fmt: skip
        return GOOD
    folder = train_demo(load_settings(), arguments.run_dir)
    kept = promise_kept(folder.answers())
    if arguments.json:
        _print_json({"run": folder.id, "path": str(folder.path), "promise_kept": kept, "answers": folder.answers()})
    else:
        print(score_table(folder))
    return GOOD if kept else NO


def _print_json(document: dict[str, Any]) -> None:
    # Escaped, so that a terminal of any encoding passes it on whole.
    print(json.dumps(_finite(document), indent=1, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    """`value` with what JSON cannot say as text: NaN, infinity, and numbers of thousands of digits."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return shorten(value) if isinstance(value, int) and abs(value) > LARGEST else value
