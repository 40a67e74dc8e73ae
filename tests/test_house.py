"""The rules of the house that no linter knows: names that tell, sizes, and which private parts of libraries are used.

Each exemption says why; one that exempts nothing any more fails.
"""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FUNCTION, LONGEST_MODULE = 60, 300
TABLES = {"lora_backend/config/schema.py"}
"""Modules that are one table, and as long as what it lists."""
SAME_NAME_ROOMS = {"commands", "views"}
"""Rooms that have one module for each subject of others, so that the names repeat."""
PRIVATE = {
    # name: (its library's file, the one file of ours, why there is no public way)
    "_no_split_modules": ("transformers/modeling_utils.py", "lora_backend/modeling/device_map.py", "the only word of a model on which of its modules stay in one piece; accelerate asks the same"),
    "_can_set_attn_implementation": ("transformers/modeling_utils.py", "lora_backend/modeling/flat_structure.py", "whether a family takes its attention by name; asked otherwise, transformers only warns in the log"),
    "_is_stateful": ("transformers/modeling_utils.py", "lora_backend/modeling/flat_structure.py", "a family's word that something beside attention goes from token to token"),
    "_attn_implementation": ("transformers/configuration_utils.py", "lora_backend/modeling/flat_model.py", "what `set_attn_implementation` sets; there is no public way to read it"),
    "_can_use_grouped_mm": ("transformers/integrations/moe.py", "lora_backend/modeling/grouped.py", "decides by the real device which experts' product runs; a trace has to decide as the GPU would"),
    "_check_lora_target_modules_mamba": ("peft/tuners/tuners_utils.py", "lora_backend/modeling/live_tree.py", "names the targets that PEFT refuses"),
    "_MODEL_TO_CONVERSION_PATTERN": ("peft/utils/transformers_weight_conversion.py", "lora_backend/modeling/live_tree.py", "how PEFT reads targets of a model whose layers were renamed"),
    "_MOE_FUSED_TARGETS": ("peft/utils/transformers_weight_conversion.py", "lora_backend/modeling/live_tree.py", "the same for fused experts"),
    "_MOE_TARGET_MODULE_MAPPING": ("peft/utils/transformers_weight_conversion.py", "lora_backend/modeling/live_tree.py", "the same for fused experts"),
    "_checkpoint_conversion_mapping": ("peft/peft_model.py", "lora_backend/modeling/loaded_identity.py", "the names under which PEFT itself reads an adapter into a model"),
    "_decode_special_floats": ("transformers/configuration_utils.py", "lora_backend/modeling/meta.py", "config.json writes infinity in words"),
    "_supports_flash_attn": ("transformers/modeling_utils.py", "lora_backend/modeling/meta.py", "a model's word on an attention that is not installed here"),
    "_keep_in_fp32_modules": ("transformers/modeling_utils.py", "lora_backend/modeling/packed_layers.py", "which modules a load leaves in 32 bits"),
    "_get_dtype_plan": ("transformers/modeling_utils.py", "lora_backend/modeling/quantization.py", "the same, as the load itself decides it"),
    "_forward_hooks": ("torch/nn/modules/module.py", "lora_backend/kernels/module_hooks.py", "torch has no public question whether a module is hooked"),
    "_forward_pre_hooks": ("torch/nn/modules/module.py", "lora_backend/kernels/module_hooks.py", "torch has no public question whether a module is hooked"),
    "_backward_hooks": ("torch/nn/modules/module.py", "lora_backend/kernels/module_hooks.py", "torch has no public question whether a module is hooked"),
    "_backward_pre_hooks": ("torch/nn/modules/module.py", "lora_backend/kernels/module_hooks.py", "torch has no public question whether a module is hooked"),
    "_has_any_global_hook": ("torch/nn/modules/module.py", "lora_backend/kernels/module_hooks.py", "torch has no public question whether a module is hooked"),
}  # fmt: skip
"""The private parts of torch, transformers, accelerate and PEFT that the product uses, each in one file."""
ENTRIES = {
    "lora_backend/cli.py": "the command line",
    "lora_backend/config_checker.py": "a public function, and a program of its own",
    "lora_backend/modeling/build.py": "a public function",
    "lora_backend/modeling/device_map.py": "a public function",
    "lora_backend/trainer/peer.py": "a process of its own, whose workspace is that of its run",
    "lora_backend/trainer/direct_run.py": "a public function, and the trainer, whose workspace is that of its run",
    "lora_backend/example_usage.py": "a program of its own",
    "lora_backend/runs/processes/supervisor.py": "a process of its own, whose workspace is that of its run",
    "lora_backend/worker/methods.py": "the torch process",
    "pages/parts/shell/services.py": "the dashboard",
}
"""Who makes the `Installation`, beside the commands; all others are handed it."""
OUTSIDE = {
    ("environment", "lora_backend/installation.py"): "the one place that reads it, and gives it to processes of ours",
    ("environment", "lora_backend/i18n.py"): "the locale of a terminal",
    ("environment", "lora_backend/terminal.py"): "whether a person wants colours",
    ("environment", "lora_backend/commands/train.py"): "shows this process its GPUs, before torch looks at them",
    ("environment", "lora_backend/commands/job.py"): "shows this process its GPUs, before torch looks at them",
    ("environment", "lora_backend/chatting/__main__.py"): "shows this process its GPU, before torch looks at it",
    ("environment", "lora_backend/commands/chat.py"): "shows this process its GPU, before torch looks at it",
    (
        "environment",
        "lora_backend/training_state/randomness.py",
    ): "tells torch's kernels to be deterministic, and they hear nothing else",
    ("environment", "lora_backend/peers/peers.py"): "tells NCCL what GPUs cannot do, before it is loaded",
    ("environment", "lora_backend/demo/model.py"): "pip's, with a folder of ours for what it leaves behind",
    ("environment", "lora_backend/example_usage.py"): "a program of its own, which sets its workspace",
    (
        "environment",
        "lora_backend/runs/record/provenance.py",
    ): "git's, without what would point it elsewhere; and who the user is",
    ("current folder", "lora_backend/installation.py"): "the one place that reads it",
    ("current folder", "lora_backend/commands/run_queue.py"): "a person's own words at a terminal",
    ("current folder", "lora_backend/commands/subjects.py"): "a person's own words at a terminal",
    ("current folder", "lora_backend/data/hub_sets.py"): "the hub's cache, which its library counts from there",
    ("clock", "lora_backend/clock.py"): "the one place that reads it",
    ("clock", "lora_backend/data/uploads.py"): "holds the times of files against the clock that they come from",
    ("clock", "lora_backend/data/row_index.py"): "holds the times of files against the clock that they come from",
    ("clock", "lora_backend/preflight/token_counts.py"): "a chat template asks for the date",
    ("clock", "lora_backend/tokens/template_trace.py"): "a chat template asks for the date",
}
"""What a file reads of the world around its process by itself, and why it must."""
OTHERS_PRIVATE = {
    "_parameters", "_buffers", "_subclasses", "_pytree", "_python_dispatch", "_IncompatibleKeys", "_grouped_mm",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward", "_cdata",
    "_overloadpacket", "_C", "_current_autograd_node", "_use_count", "_storage_Use_Count",
    "_is_avx512_bf16_supported", "_softmax_backward_data", "_replace", "_exit", "_Hash",
}  # fmt: skip
"""Names with an underscore of torch, by which fake tensors and storages are watched, and of Python's own library."""


DOCUMENTS = {"documents"}
"""The types of a run's files, and of a chat's: each is called so in its room."""


def sources() -> list[Path]:
    return [*sorted((ROOT / "lora_backend").rglob("*.py")), *sorted((ROOT / "pages").rglob("*.py")), ROOT / "app.py"]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_a_module_is_found_by_its_name_alone() -> None:
    backend = [path.relative_to(ROOT) for path in sources() if "lora_backend" in path.parts]
    assert len(backend) > 200
    names = Counter(path.stem for path in backend if not SAME_NAME_ROOMS & set(path.parts) and not path.stem.startswith("__"))  # fmt: skip
    assert {name for name, count in names.items() if count > 1} == DOCUMENTS


def test_a_module_has_one_purpose_and_so_many_lines() -> None:
    long = {named(path) for path in sources() if len(path.read_text().splitlines()) > LONGEST_MODULE}
    assert long - TABLES == set()


def test_only_entries_make_the_installation() -> None:
    making = {named(path) for path in sources() if "this_installation" in path.read_text()}
    commands = {name for name in making if name.startswith("lora_backend/commands/")}
    assert making - commands - {"lora_backend/installation.py"} == ENTRIES.keys()


def test_nothing_below_the_entries_reads_environment_folder_or_clock_by_itself() -> None:
    reading = {(kind, named(path)) for path in sources() for kind in _read_by(tree(path))}
    assert reading == OUTSIDE.keys()


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("os.environ['A']", {"environment"}), ("os.getenv('A')", {"environment"}), ("from os import environ", {"environment"}),
        ("getpass.getuser()", {"environment"}), ("Path.cwd()", {"current folder"}), ("os.getcwd()", {"current folder"}),
        ("os.curdir", {"current folder"}), ("Path()", {"current folder"}), ("Path('.')", {"current folder"}), ("path.absolute()", {"current folder"}),
        ("os.path.abspath(a)", {"current folder"}), ("time.time()", {"clock"}), ("f(time.time)", {"clock"}), ("time.time_ns()", {"clock"}),
        ("from time import time", {"clock"}), ("time.strftime('%Y')", {"clock"}), ("time.localtime()", {"clock"}), ("datetime.now()", {"clock"}),
        ("datetime.datetime.now(UTC)", {"clock"}), ("date.today()", {"clock"}),
        ("time.monotonic(), time.localtime(a), time.strftime('%Y', a), Path(a), run.clock(), now()", set()),
    ],
)  # fmt: skip
def test_what_reads_from_outside_is_seen(source: str, kinds: set[str]) -> None:
    assert set(_read_by(ast.parse(source))) == kinds


def test_a_function_is_read_on_one_screen() -> None:
    long = set()
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                long |= {f"{named(path)}::{node.name}"} if length > LONGEST_FUNCTION else set()
    assert long == set()


def test_no_module_imports_what_imports_it_not_even_for_types() -> None:
    """import-linter holds the rooms apart; this holds the modules within them, and imports inside of functions."""
    modules = {module_name(path): path for path in sources()}
    imports = {name: _imports(path, modules) - {name} for name, path in modules.items()}
    reached = {name: _reach(name, imports) for name in imports}
    assert {name for name in imports if name in reached[name]} == set()


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(path: Path, modules: dict[str, Path]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules.keys() or {node.module}
    return found & modules.keys()


def _reach(start: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = set(imports[start])
    while ahead:
        found |= ahead
        ahead = set().union(*(imports[name] for name in ahead)) - found
    return found


def test_no_test_module_imports_another() -> None:
    """What two share stands in a module without tests, or in `conftest.py`."""
    importing = set()
    for path in [*sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.") and (node.module or "").split(".")[-1].startswith("test_"):  # fmt: skip
                importing.add(named(path))
    assert importing == set()


def test_private_parts_of_libraries_are_used_in_one_file_each_and_are_there() -> None:
    used: dict[str, set[str]] = {}
    for path in sources():
        theirs = private(_reached(tree(path))) - OTHERS_PRIVATE - ours() | private(_inherited(tree(path)))
        for name in theirs:
            used.setdefault(name, set()).add(named(path))
    assert used == {name: {home} for name, (_, home, _) in PRIVATE.items()}
    for name, (file, _, _) in PRIVATE.items():
        package = importlib.util.find_spec(file.split("/")[0])
        assert package, file
        assert package.origin, file
        assert name in Path(package.origin).parents[1].joinpath(file).read_text(), f"{file} has no {name} any more"


@cache
def ours() -> frozenset[str]:
    """Private names that a source of ours defines: a function, a class, a field, a variable."""
    defined = set()
    for node in (node for path in sources() for node in ast.walk(tree(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            defined.add(node.attr)
    return frozenset(defined)


def private(names: Iterator[str]) -> set[str]:
    return {name for name in names if name.startswith("_") and not name.startswith("__") and name != "_"}


FROM_OUTSIDE = {
    "environment": {"os.environ", "os.environb", "os.getenv", "getpass.getuser"},
    "current folder": {"Path.cwd", "os.getcwd", "os.curdir", "os.path.abspath", "Path()", "Path('.')"},
    "clock": {
        "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
        "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today",
    },
}  # fmt: skip
OF_NOW = {"time.localtime": 0, "time.gmtime": 0, "time.ctime": 0, "time.asctime": 0, "time.strftime": 1}
"""What reads the clock where it is given no more than so many arguments."""


def _read_by(module: ast.Module) -> Iterator[str]:
    """What of the world around the process a source names. A path that is resolved counts from the current folder as well
    where it is relative, which no source shows; where none is made relative, none is."""
    for node in ast.walk(module):
        names: set[str] = set()
        if isinstance(node, ast.Attribute):
            names = {ast.unparse(node)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            names, function = {ast.unparse(node)}, ast.unparse(node.func)
            if function.endswith(".absolute"):
                yield "current folder"
            if function in OF_NOW and len(node.args) <= OF_NOW[function]:
                yield "clock"
        yield from (kind for kind, those in FROM_OUTSIDE.items() if names & those)


def _reached(module: ast.Module) -> Iterator[str]:
    """What is reached through something else: attributes, imports, the constants of `getattr`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (*node.module.split("."), *(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "hasattr",
            "setattr",
            "delattr",
        ):
            yield from (str(word.value) for word in node.args[1:2] if isinstance(word, ast.Constant))


def _inherited(module: ast.Module) -> Iterator[str]:
    """What a class takes from its base by `super()`, under whatever name it is then its own."""
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "super()":
            yield node.attr
