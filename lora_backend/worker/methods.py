"""What the torch process can be asked. Each takes plain parameters and returns plain data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation

Report = Callable[[Message, float], None]
"""Progress: a sentence, and how far it is from 0 to 1."""


def check_loaded_ranks(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Load base model and adapter as a user would, and check ranks and identity of what is then in memory.

    `params`: `adapter` (folder), `model_name`, `config` (the config to hold it against).
    """
    report(Message(N_("Starting torch and PEFT")), 0.0)
    from lora_backend.config.schema import TrainingConfig
    from lora_backend.modeling.adapter import refuse_slow_expressions
    from lora_backend.modeling.load import load_model
    from lora_backend.modeling.loaded_identity import load_adapter
    from lora_backend.modeling.rank_check import loaded_report
    from lora_backend.models.find import find_model
    from lora_backend.preflight.roots import allowed_model
    from lora_backend.verification.adapter_folder import read_adapter_config
    from lora_backend.verification.against_base import with_other_base
    from lora_backend.verification.other_base import other_base

    report(Message(N_("Loading the base model")), 0.3)
    base = load_model(TrainingConfig(model_name=params["model_name"], device_map="cpu", precision="bf16"))
    report(Message(N_("Loading the adapter")), 0.7)
    folder, name, installation = Path(params["adapter"]), params["model_name"], this_installation()
    own = read_adapter_config(folder) or {}
    refuse_slow_expressions(own, (name for name, _ in base.named_modules()))
    loaded = load_adapter(base, folder)
    report(Message(N_("Reading the ranks")), 0.9)
    made_on = own.get("base_model_name_or_path")
    other = other_base(folder, find_model(name), name, made_on, lambda known: allowed_model(known, installation))
    return with_other_base(loaded_report(loaded, params["config"]), name, other).to_dict()


def check_folder_ranks(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Check an adapter's folder whose weights are pickled, opened so that no code in them runs.

    `params`: `adapter` (folder), `config` (None: its own). The base model is looked for within the browser's roots.
    """
    report(Message(N_("Reading the adapter's tensors")), 0.0)
    from lora_backend.modeling.rank_check import rank_report
    from lora_backend.preflight.roots import allowed_model

    installation = this_installation()
    report_of_folder = rank_report(
        params["adapter"], params["config"], find_base=lambda name: allowed_model(name, installation)
    )
    return report_of_folder.to_dict()


def adapter_fit(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Hold an adapter against the modules of its base model, built without its bytes. A refusal is an answer too.

    `params`: `facts` (the base model's config.json), `adapter` (folder).
    """
    report(Message(N_("Starting torch and PEFT")), 0.0)
    from lora_backend.modeling.fit import fit_of
    from lora_backend.verification.adapter_folder import read_adapter_headers

    report(Message(N_("Comparing the adapter with the base model's modules")), 0.5)
    folder = Path(params["adapter"])
    try:
        return fit_of(params["facts"], folder, read_adapter_headers(folder)).to_json()
    except FlightdeckError as error:
        return {"error": error.message.to_json()}


def read_health(params: dict[str, Any], report: Report) -> list[dict[str, Any]]:
    """Read an adapter's tensors: norm, effective rank, NaN. `params`: `adapter` (folder)."""
    report(Message(N_("Reading the adapter's tensors")), 0.0)
    from lora_backend.modeling.health import adapter_health

    return [layer.to_dict() for layer in adapter_health(Path(params["adapter"]))]


def singular_values(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Of every layer of a plain LoRA: what each rank keeps. `params`: `adapter` (folder)."""
    report(Message(N_("Reading the adapter's tensors")), 0.0)
    from lora_backend.shipping.truncation import read_spectrum

    return read_spectrum(Path(params["adapter"])).to_json()


def rank_curve(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """The held-out loss of an adapter truncated to rank after rank. `params`: `request` (an `EvaluateRequest` with one
    column), `are_trained` (whether its rows are those that were learned)."""
    report(Message(N_("Starting torch and PEFT")), 0.0)
    from lora_backend.runs.record.job_documents import EvaluateRequest
    from lora_backend.shipping.rank_curve import measure_curve

    request = EvaluateRequest.read(params["request"])
    return measure_curve(request, this_installation(), report, are_trained=params["are_trained"]).to_json()


def start(params: dict[str, Any], report: Report) -> None:
    """Import what the other questions need; it takes seconds, which whoever asks next does not wait then."""
    from lora_backend.modeling.lean import KERNELS, as_if_not_installed, without_collections

    with as_if_not_installed(KERNELS), without_collections():
        from lora_backend.modeling.profiling import profile_for  # noqa: F401


def profile(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Trace what a model costs. `params`: `facts` (its config.json), `config` (with its `precision` resolved)."""
    report(Message(N_("Starting torch and PEFT")), 0.0)
    from lora_backend.config.schema import TrainingConfig
    from lora_backend.modeling.lean import lean_profile

    return lean_profile(params["facts"], TrainingConfig(**params["config"]), this_installation(), report).to_json()


def count_data(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Count what a model learns of a data set. `params`: those of a `DataQuestion`. What was counted before is known."""
    report(Message(N_("Starting the process that reads tokenizers")), 0.0)
    from lora_backend.data.data_question import DataQuestion
    from lora_backend.tokens.data_counting import count_rows

    return count_rows(DataQuestion.from_json(params), this_installation(), report).to_json()


def show_rows(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """Rows as the model's template writes them. `params`: those of a `DataQuestion` that names a model, and `rows` (their
    numbers, from 1) or `search` (a text that they hold)."""
    report(Message(N_("Starting the process that reads tokenizers")), 0.0)
    from lora_backend.data.data_question import DataQuestion
    from lora_backend.tokens.row_rendering import show_asked

    question = DataQuestion.from_json(params)
    found = show_asked(question, this_installation(), report, rows=params.get("rows", ()), search=params.get("search"))
    return found.to_json()


def write_tokens(params: dict[str, Any], report: Report) -> dict[str, Any]:
    """The first rows as they are trained, as lines of JSON. `params`: those of a `DataQuestion` that names a model."""
    report(Message(N_("Starting the process that reads tokenizers")), 0.0)
    from dataclasses import asdict

    from lora_backend.data.data_question import DataQuestion
    from lora_backend.tokens.token_file import token_file

    return asdict(token_file(DataQuestion.from_json(params), this_installation(), report))


METHODS: dict[str, Callable[[dict[str, Any], Report], Any]] = {
    "check_loaded_ranks": check_loaded_ranks,
    "check_folder_ranks": check_folder_ranks,
    "read_health": read_health,
    "profile": profile,
    "adapter_fit": adapter_fit,
    "singular_values": singular_values,
    "rank_curve": rank_curve,
    "count_data": count_data,
    "show_rows": show_rows,
    "write_tokens": write_tokens,
    "start": start,
}
