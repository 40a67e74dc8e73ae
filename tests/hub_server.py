"""A hub on this machine: the routes that are asked of huggingface.co, with its headers, refusals and redirects; and its faults.

Large files come from a second server of another address, as the hub's do, which must never see a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

PIECE_BYTES = 16 * 2**10
READ, WRITE = "hf_reader", "hf_writer"
"""Tokens that the hub knows; the second may write."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@dataclass
class HubRepo:
    """A repository at one commit, which all of its branches are."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    branches: tuple[str, ...] = ("main",)
    gated: str | bool = False
    """`auto` or `manual`: only tokens in `accepted` are given files."""
    accepted: set[str] = field(default_factory=set)
    private: bool = False
    listing: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name → what the list says otherwise than it is."""

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".bin"))

    def tag(self, name: str) -> str:
        return sha256(self.files[name]) if self.is_large(name) else git_sha1(self.files[name])

    def siblings(self) -> list[dict[str, Any]]:
        return [self._sibling(name) for name in [*self.files, *(set(self.listing) - set(self.files))]]

    def _sibling(self, name: str) -> dict[str, Any]:
        data = self.files.get(name, b"")
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
        if self.is_large(name):
            entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
        changes = self.listing.get(name, {})
        entry.get("lfs", entry).update(changes)
        return entry


@dataclass
class HubServer:
    """Started as a context; `endpoint` is what `HF_ENDPOINT` says."""

    repos: dict[str, HubRepo] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each, in order."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """File → for its next downloads, after how many bytes each breaks off."""
    takes_ranges: bool = True
    pause_s: float = 0.0
    """Between two pieces of a file."""
    holds: dict[str, threading.Event] = field(default_factory=dict)
    """File → its bytes after the first piece wait for this."""
    instead: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    """Pattern of a path → what answers it."""
    uploaded: dict[str, bytes] = field(default_factory=dict)
    """Hash → a large file that was pushed."""
    endpoint: str = ""
    files_endpoint: str = ""

    def add(self, repo_id: str, files: dict[str, bytes], **more: Any) -> HubRepo:
        return self.repos.setdefault(repo_id, HubRepo(files, **more))

    def paths(self, method: str = "GET") -> list[str]:
        return [path for name, path, _ in self.requests if name == method]

    def __enter__(self) -> Self:
        self._servers = [_Server(("127.0.0.1", 0), Handler) for _ in range(2)]
        for server in self._servers:
            server.hub = self
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint, self.files_endpoint = (f"http://127.0.0.1:{one.server_address[1]}" for one in self._servers)
        return self

    def __exit__(self, *_: object) -> None:
        for event in self.holds.values():
            event.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    hub: HubServer
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        return

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _route(self) -> None:
        self._body: bytes | None = None
        self.hub.requests.append((self.command, self.path, dict(self.headers)))
        path = unquote(urlsplit(self.path).path)
        for pattern, answer in self.hub.instead.items():
            if re.search(pattern, self.path):
                return answer(self)
        if self.token not in (None, READ, WRITE):
            return self.refuse(401, said="Invalid credentials in Authorization header")
        for pattern, route in ROUTES:
            if found := re.fullmatch(pattern, path):
                return route(self, *found.groups())
        return self.refuse(404)

    do_GET = do_HEAD = do_POST = do_PUT = _route  # noqa: N815 - the base's names

    def body(self) -> bytes:
        """Of the request; read once, for a second time there would be nothing to wait for."""
        if self._body is None:
            self._body = self._read_body()
        return self._body

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunk(self) -> bytes:
        length = int(self.rfile.readline(), 16)
        data = self.rfile.read(length)
        self.rfile.readline()
        return data

    def reply(self, status: int, data: bytes = b"", /, **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": len(data), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str = "", said: str = "") -> None:
        if self.command in ("POST", "PUT"):
            self.body()
        headers = {"X-Error-Code": code, "X-Error-Message": said or code}
        self.reply(status, json.dumps({"error": said or code}).encode(), **{k: v for k, v in headers.items() if v})

    def visible(self, repo_id: str) -> HubRepo | None:
        """The repository; None where it is answered that there is none."""
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and self.token is None):
            self.refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def at(self, repo_id: str, revision: str) -> HubRepo | None:
        repo = self.visible(repo_id)
        if repo and revision not in (repo.commit, *repo.branches):
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo

    def info(self, repo_id: str, revision: str = "main") -> None:
        if repo := self.at(repo_id, revision):
            named = {"id": repo_id, "modelId": repo_id, "sha": repo.commit, "private": repo.private}
            self.json({**named, "gated": repo.gated, "siblings": repo.siblings()})

    def resolve(self, repo_id: str, revision: str, name: str) -> None:
        repo = self.at(repo_id, revision)
        if repo is None:
            return None
        if repo.gated and self.token not in repo.accepted:
            return self.refuse(403 if self.token else 401, "GatedRepo", f"Access to model {repo_id} is restricted")
        if name not in repo.files:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": repo.commit}
        if repo.is_large(name):
            headers |= {"X-Linked-Etag": f'"{repo.tag(name)}"', "X-Linked-Size": str(len(repo.files[name]))}
            place = f"{self.hub.files_endpoint}/files/{repo_id}/{name}?signature=secret"
            return self.reply(302, b"", **headers, Location=place)
        return self.give(repo.files[name], name, ETag=f'"{repo.tag(name)}"', **headers)

    def large(self, repo_id: str, name: str) -> None:
        data = self.hub.repos[repo_id].files[name]
        self.give(data, name, ETag=f'"{hashlib.md5(data).hexdigest()}"')

    def give(self, data: bytes, name: str, **headers: str) -> None:
        first = 0
        if self.hub.takes_ranges and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            first = int(asked[1])
        if first > len(data):
            return self.reply(416, Content_Range=f"bytes */{len(data)}")
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        for header, value in {**headers, "Content-Length": str(len(data) - first)}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        breaks = self.hub.breaks.get(name, [])
        end = min(first + breaks.pop(0), len(data)) if breaks else len(data)
        for start in range(first, end, PIECE_BYTES):
            self.wfile.write(data[start : min(start + PIECE_BYTES, end)])
            if name in self.hub.holds:
                self.wfile.flush()
                self.hub.holds[name].wait(60)
            if self.hub.pause_s:
                time.sleep(self.hub.pause_s)
        if end < len(data):
            self.close_connection = True
        return None

    def create(self) -> None:
        asked = json.loads(self.body())
        if self.token != WRITE:
            return self.reply(403, json.dumps({"error": "You don't have the rights to create a model under this namespace"}).encode())  # fmt: skip
        repo_id = f"{asked['organization']}/{asked['name']}"
        url = json.dumps({"url": f"{self.hub.endpoint}/{repo_id}"}).encode()
        if repo_id in self.hub.repos:
            return self.reply(409, url)
        self.hub.add(repo_id, {}, private=asked.get("visibility") == "private")
        return self.reply(200, url)

    def preupload(self, repo_id: str, _: str) -> None:
        asked = json.loads(self.body())["files"]
        repo = self.hub.repos[repo_id]
        modes = [{"path": one["path"], "uploadMode": "lfs" if repo.is_large(one["path"]) else "regular", "shouldIgnore": False} for one in asked]  # fmt: skip
        self.json({"files": modes})

    def batch(self, repo_id: str) -> None:
        def action(one: dict[str, Any]) -> dict[str, Any]:
            if one["oid"] in self.hub.uploaded:
                return one
            return {**one, "actions": {"upload": {"href": f"{self.hub.files_endpoint}/put/{one['oid']}"}}}

        self.json({"transfer": "basic", "objects": [action(one) for one in json.loads(self.body())["objects"]]})

    def put(self, oid: str) -> None:
        data = self.body()
        if sha256(data) != oid:
            return self.refuse(400, said="another hash")
        self.hub.uploaded[oid] = data
        return self.reply(200)

    def commit(self, repo_id: str, _: str) -> None:
        lines = [json.loads(line) for line in self.body().splitlines() if line]
        if self.token != WRITE:
            return self.refuse(403, said="no write access")
        repo = self.hub.repos[repo_id]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.uploaded[value["oid"]]
        return self.json({"success": True, "commitOid": repo.commit, "commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{repo.commit}"})  # fmt: skip

    def validate(self) -> None:
        self.body()
        self.json({"errors": [], "warnings": []})


ID = r"([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    (f"/api/models/{ID}", Handler.info),
    (f"/api/models/{ID}/revision/(.+)", Handler.info),
    (f"/{ID}/resolve/([^/]+)/(.+)", Handler.resolve),
    (f"/files/{ID}/(.+)", Handler.large),
    ("/api/repos/create", Handler.create),
    ("/api/validate-yaml", Handler.validate),
    (f"/api/models/{ID}/preupload/(.+)", Handler.preupload),
    (f"/{ID}.git/info/lfs/objects/batch", Handler.batch),
    ("/put/([0-9a-f]{64})", Handler.put),
    (f"/api/models/{ID}/commit/(.+)", Handler.commit),
]


@contextmanager
def unreachable() -> Iterator[str]:
    """An address at which nobody answers, for as long as the block runs."""
    import socket

    with socket.socket() as taken:  # bound, and so nobody else's; not listening
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
