"""A workspace in which everything that may come from somebody else is markup: names, keys, values, rows, logs, answers."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

from lora_backend.atomic import write_json
from lora_backend.config.drafts import new_draft
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import add_point, end_run, make_run, set_status
from tests.tiny import write_rows

HOST = "evil.example"
PAYLOAD = (
    f"![i](http://{HOST}/i.png) [a](http://{HOST}/a) <http://{HOST}/b> http://{HOST}/c www.{HOST} x@{HOST} "
    f'<img src="http://{HOST}/h.png" onerror="window.PWN=1"><script>window.PWN=1</script><b>bold</b> $x^2$ :red[x] :smile: **b** ``c`` `d`'
)
NAME = f"![i](x) [a]({HOST}) www.{HOST} x@{HOST} <img src=x onerror=window.PWN=1> $x^2$ `c` :red[x]"
"""The same as a folder's name, in which no slash can stand."""
KEY = "base_model.model.model.layers.{block}.{module}.lora_{half}.weight"


def quoted(text: str) -> str:
    """As YAML."""
    return json.dumps(text)


def make_hostile(home: Path, workspace: Path) -> list[str]:
    """Fill `workspace`. Returns the addresses that show it all."""
    config = {"model_name": f"org/{NAME}", "dataset": NAME, "r": 4, "target_modules": ["q_proj"], "output_dir": PAYLOAD}
    text = (
        f"model_name: {quoted(NAME)}\ndataset: {quoted('rows.jsonl')}\ntarget_modules: [{quoted(PAYLOAD)}]\nr: {quoted(PAYLOAD)}\n"
        f"rank_pattern: {{{quoted(PAYLOAD)}: 4}}\n{quoted(PAYLOAD)}: 1\n{quoted('k' + NAME)}: {quoted(PAYLOAD)}\noptim: {quoted(PAYLOAD)}\npkg: {quoted(PAYLOAD)}\n"
    )
    write_rows(home / "rows.jsonl", [{"prompt": PAYLOAD, "completion": PAYLOAD, PAYLOAD: 1}])
    draft, good = (
        new_draft(workspace / "drafts", text),
        new_draft(workspace / "drafts", f"model_name: {quoted(NAME)}\ndataset: rows.jsonl\n"),
    )
    for folder, name, body in (
        (
            "imported",
            "theirs.yaml",
            f"base_model: {quoted(PAYLOAD)}\nadapter: lora\nlora_r: 8\noptimizer: {quoted(PAYLOAD)}\n{quoted(PAYLOAD)}: {quoted(PAYLOAD)}\n",
        ),
        (
            "bases",
            "script.py",
            f"import argparse\np = argparse.ArgumentParser()\np.add_argument({quoted('--' + NAME)}, type=bool, default=True)\np.add_argument('--r', type=int, default=8)\n",
        ),
        ("bases", "base.yaml", f"model_name: {quoted(PAYLOAD)}\nr: 8\n{quoted(PAYLOAD)}: {quoted(PAYLOAD)}\n"),
    ):
        (draft.path / folder).mkdir(exist_ok=True)
        (draft.path / folder / name).write_text(body)
    draft.keep_table(table=f"name\tr\t{PAYLOAD}\n{PAYLOAD}\t{PAYLOAD}\t{PAYLOAD}\n=cmd\t8\t-1", tag=PAYLOAD[:40])
    good.keep_table(table=f"name\tknowledge_type\n{PAYLOAD}\t{NAME}", tag="t")
    adapter = hostile_adapter(workspace / "adapters" / NAME)
    runs = [_run(workspace / "runs", config, text, number) for number in range(2)]
    queued = make_run(
        workspace / "runs", config=config, config_text=text, argv=["x"], name=PAYLOAD, actor=PAYLOAD, state="starting"
    )
    end_run(queued, "lost", cause="code", message=None)
    copied = _run(workspace / "inbox", config, text, 7)
    trained = hostile_adapter(workspace / "outputs" / NAME)
    state = {
        "global_step": 1,
        "max_steps": 1,
        "log_history": [{"step": 1, "loss": 1.0}],
        "best_model_checkpoint": PAYLOAD,
    }
    (trained / "trainer_state.json").write_text(json.dumps(state))
    hostile_adapter(trained / "checkpoint-1")
    asked = [
        ("/", {}), ("/config", {}), ("/config", {"draft": draft.id}), ("/config", {"draft": draft.id, "base": "file:script.py"}),
        ("/config", {"draft": good.id, "base": f"run:{runs[0].id}"}), ("/config", {"draft": PAYLOAD}), ("/config", {"draft": good.id, "base": PAYLOAD}),
        ("/plan", {"model": PAYLOAD}), ("/plan", {"draft": draft.id}), ("/plan", {"model": "Qwen/Qwen2.5-14B", "gpus": PAYLOAD}), ("/plan", {"model": "Qwen/Qwen2.5-14B", "gpus": "24", "optim": PAYLOAD, "target_modules": PAYLOAD}),
        ("/runs", {}), ("/runs", {"columns": "model_name,output_dir,target_modules"}), *(("/runs", {"run": run.id}) for run in (runs[0], queued)), ("/runs", {"run": PAYLOAD}),
        ("/runs", {"compare": ",".join(run.id for run in runs)}), ("/runs", {"compare": f"{PAYLOAD},b"}), ("/runs", {"folder": str(copied.path)}), ("/runs", {"folder": str(trained)}), ("/runs", {"folder": PAYLOAD}),
        ("/verify", {}), ("/verify", {"adapter": str(adapter)}), ("/verify", {"adapter": str(adapter), "config": str(runs[0].config_yaml), "other": str(trained)}), ("/verify", {"run": runs[0].id}),
        ("/verify", {"adapter": PAYLOAD}), ("/verify", {"adapter": str(adapter), "config": PAYLOAD}),
    ]  # fmt: skip
    return [f"{path}?{urlencode(query)}" for path, query in asked]


def hostile_adapter(folder: Path) -> Path:
    """A LoRA whose tensors and config are named by somebody else; its header is written by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {
        "peft_type": "LORA", "base_model_name_or_path": PAYLOAD, "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", PAYLOAD],
        "rank_pattern": {PAYLOAD: 2}, "modules_to_save": [PAYLOAD],
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(own))
    header, end = {}, 0
    for block in range(2):
        for module in ("self_attn.q_proj", PAYLOAD.replace(".", ""), "=cmd()"):
            for half, shape in (("A", [3, 8]), ("B", [8, 3])):
                header[KEY.format(block=block, module=module, half=half)] = {
                    "dtype": "F32",
                    "shape": shape,
                    "data_offsets": [end, end + 96],
                }
                end += 96
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return folder


def _run(root: Path, config: dict[str, object], text: str, number: int) -> RunStore:
    """One that failed, with words of others in all of its files."""
    run = make_run(
        root,
        config={**config, "seed": number, PAYLOAD: f"{number}{PAYLOAD}"},
        config_text=text,
        argv=["x"],
        actor=PAYLOAD,
        name=PAYLOAD,
    )
    add_point(run, {"step": 1, "loss": 2.0, "learning_rate": 1e-4})
    run.train_log.write_text(f"{PAYLOAD}\n\x1b[31mred\u202e\n" * 3)
    answer = {
        "question": PAYLOAD,
        "group": PAYLOAD,
        "base_answer": PAYLOAD,
        "base_correct": False,
        "adapter_answer": PAYLOAD,
        "adapter_correct": True,
    }
    run.answers_jsonl.write_text(json.dumps(answer) + "\n")
    hostile_adapter(run.adapter)
    write_labels(run.path, tags=[PAYLOAD[:30], f"[a](http://{HOST})"], note=PAYLOAD)
    message = {"template": f"{PAYLOAD} {{x}}", "values": {"x": PAYLOAD}}
    set_status(run, state="running", step=1, total_steps=2, detail=message, outcome_message=message)
    end_run(run, "failed", cause="code")
    written = json.loads(run.exit_json.read_text()) | {
        "message": message,
        "remedy": message,
        "log": [PAYLOAD, "\x1b[31m"],
    }
    run.exit_json.write_text(json.dumps(written))
    layer = {
        "name": PAYLOAD,
        "block": 0,
        "module": PAYLOAD,
        "expected_r": 4,
        "config_r": 4,
        "layer_r": 4,
        "a_r": 3,
        "b_r": 3,
        "state": "mismatch",
        "scaling": None,
        "norm": None,
    }
    write_json(
        run.rank_report_json,
        {
            "is_consistent": False,
            "status": "mismatch",
            "expected_r": 4,
            "actual_r_values": {PAYLOAD: 3},
            "mismatched_layers": [PAYLOAD],
            "warnings": [],
            "layers": [layer],
            "coverage": [],
        },
    )
    return run
