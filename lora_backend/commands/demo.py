"""`demo`: prepare the demo, and train it."""

from __future__ import annotations

import argparse

from lora_backend.commands.words import GOOD, NO, print_json
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.runs.processes.signals import StoppedNowError, StopSignals
from lora_backend.terminal import show


def demo(arguments: argparse.Namespace) -> int:
    """Run the command."""
    from lora_backend.demo.config import promise_kept
    from lora_backend.demo.demo_run import demo_folder, prepare, score_table, train_demo

    if not arguments.train:
        config_path = prepare(this_installation())
        if arguments.json:
            print_json({"config": str(config_path)})
        else:
            show(
                Message(
                    N_("The demo is ready. Train it with: {command}"),
                    {"command": f"python -m lora_backend train {config_path}"},
                )
            )
        return GOOD
    installation = this_installation()
    folder = demo_folder(installation, arguments.run_dir)
    signals = StopSignals(folder, installation)
    try:
        with signals:
            train_demo(installation, folder.path)
    except StoppedNowError:
        pass
    if signals.exit_code is not None and folder.state().state != "finished":
        if message := folder.state().message:
            show(message, to_stderr=True)
        return signals.exit_code
    answers = folder.read_answers()
    kept = promise_kept(answers)
    if arguments.json:
        print_json(
            {
                "run": folder.id,
                "path": str(folder.path),
                "promise_kept": kept,
                "answers": [answer.to_json() for answer in answers],
            }
        )
    else:
        show(score_table(folder))
    return GOOD if kept else NO
