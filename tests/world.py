"""A home and a workspace full of what nobody may lose, and values that try to get at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lora_backend.installation import Installation, this_installation
from tests.run_files import end_run, make_run
from tests.tiny import make_published, stub_model

RUN, DRAFT = "20260101-120000-ab12", "0123abcd"
NAMES = {"pkg": "shop", "version": "1"}
HOSTILE = [
    # the home, its folders, and those of others
    "~", "~/", "~/.ssh", "~/Documents", "~/Documents/thesis", "~/../home", "~root", "~root/x", "~nobody/x", "~no-such-user", "{home}", "{home}/Documents",
    "{home}/Documents/thesis", "$HOME", "${{HOME}}", "%HOME%", " ~", "~ ", "./~", "a/~", "~\\Documents",
    # up and away
    "", " ", ".", "..", "./", "../", "../..", "../home", "../home/Documents", "a/..", "a/../..", "a/../../home", "a/../../../../../../etc", "...", "....//", "..\\..", "%2e%2e",
    "%2e%2e%2fhome", "..%2fhome", "．．", "．．/home", "‥", "a/./../../home", "/", "//", "///", "//etc", "/etc", "/dev/null", "/dev/shm", "/proc/self/cwd", "/proc/self/root",
    "/proc/self/fd", "/tmp/../etc", "file:///etc", "\\\\server\\share", "C:\\",
    # the workspace and what is in it
    "{ws}", "{ws}/", "{ws}/.", "{ws}/..", "{ws}/../ws", "ws", "../ws", "runs", "runs/", "./runs", "runs/.", "runs//", "Runs", "RUNS", "RUNS/../runs", "ｒｕｎｓ", "ru\u200bns", "rúns", "runs ",
    "runs/" + RUN, "runs/" + RUN + "/adapter", "runs/" + RUN + "/checkpoints", "{ws}/runs/" + RUN, "adapters/../runs", "drafts", "drafts/" + DRAFT, "bin", "bin/.adapters",
    "bin/20260101-110000-cd34", "data", "data/..", "queue", "leases", "model", "model/..", "model/sub", "{tmp}/models", "{tmp}/models/m", "{tmp}/models/m/deep/er", "{tmp}/cache",
    # adapters, files and links that lie there
    "adapters", "adapters/shop", "adapters/shop/1", "adapters/shop/1/deeper", "adapters/shop/1/adapter_config.json", "adapters/notes", "adapters/file.txt", "adapters/file.txt/x",
    "out", "out/thesis", "out/../..", "adapters/linked", "adapters/linked/thesis", "adapters/to-runs", "adapters/loop", "adapters/dangling", "adapters/up", "adapters/up/runs",
    # what no file system takes, or hardly
    "a\0b", "\0", "\ud800", "x" * 255, "x" * 256, "x" * 5000, "/" + "x" * 300, "a/" * 2000, "é" * 200, "\n", "a\nb", "\u202eabc", "\x1b[2J", "-rf", "--", "*", "?", "a;b", "`id`", "$(id)", "|", "nul", "CON",
]  # fmt: skip
"""Texts for any key that names a path; braces are filled in by `World.of`."""


@dataclass(frozen=True)
class World:
    """Everything below `root`: `home`, `ws`, `models`, `data`, `cache`."""

    root: Path
    installation: Installation

    def of(self, value: str) -> str:
        """A hostile value with this world's own paths in it."""
        return value.format(home=self.root / "home", ws=self.root / "ws", tmp=self.root) if "{" in value else value

    def snapshot(self) -> dict[str, str | bytes]:
        """Path → what it is: the bytes of a file, where a link leads, or that it is a folder."""
        return {str(path.relative_to(self.root)): _content(path) for path in sorted(self.root.rglob("*"))}

    def lost(self, before: dict[str, str | bytes]) -> list[str]:
        """What was there before and is not, or is another thing."""
        now = self.snapshot()
        return [path for path, content in before.items() if now.get(path) != content]

    def escaped(self, before: dict[str, str | bytes]) -> list[str]:
        """What came since, and not where adapters may be published; what is kept of rows that were read lies in the cache."""
        free = ("runs", "drafts", "queue", "data", "model")
        since = [path for path in self.snapshot().keys() - before.keys() if not f"{path}/".startswith("cache/rows/")]
        return [path for path in since if not path.startswith("ws/") or path.split("/")[1] in free]


def _content(path: Path) -> str | bytes:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return path.read_bytes() if path.is_file() else "folder"


def make_world(root: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Sentinels everywhere: a thesis, a key, a run, a draft, data, models, an adapter of ours, and links that lead out."""
    files = {
        "home/Documents/thesis/chapter1.tex": "years", "home/.ssh/id_ed25519": "secret", "home/notes/shop/1/todo.txt": "home",
        "ws/drafts/" + DRAFT + "/config.yaml": "r: 4\n", "ws/drafts/shop/1/config.yaml": "r: 4\n", "ws/data/chats.jsonl": '{"prompt": "a", "completion": "b"}\n',
        "ws/bin/20260101-110000-cd34/run.json": "{}", "ws/bin/shop/1/run.json": "{}", "ws/queue/000000001-x.json": "{}", "ws/leases/cpu.lock": "", "ws/leases/publish.lock": "",
        "ws/adapters/file.txt": "a file", "ws/adapters/notes/shop/1/notes.txt": "not an adapter", "ws/adapters/shop/notes/notes.txt": "not an adapter either",
        "cache/models/demo/x": "demo",
    }  # fmt: skip
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for name in ("models/m", "ws/model"):
        stub_model(root / name, {"model_type": "llama"})
    make_published(root / "ws/adapters/shop/1", "published")
    links = {"out": "../home/Documents", "adapters/linked": "../../home/Documents", "adapters/to-runs": "../runs", "adapters/loop": "loop",
             "adapters/dangling": "../../home/new", "adapters/up": "..", "adapters/shop/linked": "../../../home/Documents/thesis", "adapters/shop/to-run": "../../runs/" + RUN}  # fmt: skip
    for name, target in links.items():
        (root / "ws" / name).symlink_to(target)
    places = {
        "WORKSPACE": root / "ws",
        "MODEL_ROOTS": root / "models",
        "DATA_ROOTS": root / "data",
        "HOME": root / "cache",
    }
    for name, path in places.items():
        monkeypatch.setenv(f"FLIGHTDECK_{name}", str(path))
    monkeypatch.setenv("HOME", str(root / "home"))
    run = make_run(
        root / "ws/runs", config={"model_name": "m"}, config_text="", argv=["true"], path=root / "ws/runs" / RUN
    )
    make_published(run.adapter, "trained")
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    end_run(run, "finished")
    return World(root, this_installation())
