"""What the web server answers to whom, and what its answers allow a browser to do; SECURITY.md says it in words."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import streamlit
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from lora_backend.i18n import LANGUAGES
from pages.parts.shell.language import cookie_script, html_lang_script
from pages.parts.shell.popovers import POPOVER_SCRIPT

NOT_SERVED = ("/_stcore/agent/", "/_stcore/metrics")
"""Streamlit's ways in and out that nobody here needs: programs that drive the app, and how many sessions it has."""
FOREIGN_HOST = "This host name is not served. Add it to server.allowedHosts in .streamlit/config.toml."
FOREIGN_ORIGIN = "Pages of another origin may not use this server. Open the dashboard at its own address."


class HttpPolicy:
    """ASGI middleware: refuses foreign host names and origins, and closes a page to frames, scripts and foreign hosts.

    Streamlit itself takes every origin of this machine, whatever its port, and looks at the host name of the
    websocket alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        status, reason = _refusal(_path(scope), headers)
        if status and scope["type"] == "websocket":
            await WebSocketClose(code=1008, reason=reason)(scope, receive, send)  # answered with 403
        elif status:
            await PlainTextResponse(reason, status, dict(_answer_headers(headers)))(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send, headers, _is_versioned(scope)))


def _refusal(path: str, headers: Headers) -> tuple[int, str]:
    """The status and the sentence for a request that is not served; 0 for one that is."""
    if not is_host_allowed(headers.get("host")):
        return 403, FOREIGN_HOST
    if not _is_own_origin(headers.get("origin"), headers.get("host")):
        return 403, FOREIGN_ORIGIN
    if f"{path}/".startswith(NOT_SERVED) or path == NOT_SERVED[1]:
        return 404, "Not found"
    return 0, ""


def _is_own_origin(origin: str | None, host: str | None) -> bool:
    """Whether a request comes from a page of this server, its port included, or from no page at all.

    Browsers name the origin of every websocket, upload and request across origins; other programs need not.
    """
    if origin is None or origin in streamlit.get_option("server.corsAllowedOrigins"):
        return True
    return host is not None and urlsplit(origin).netloc.lower() == host.lower()


def _path(scope: Scope) -> str:
    """The path below `server.baseUrlPath`, a doubled slash read as one."""
    path = re.sub(r"/{2,}", "/", str(scope["path"]))
    base = streamlit.get_option("server.baseUrlPath").strip("/")
    return path.removeprefix(f"/{base}") if base else path


def _is_versioned(scope: Scope) -> bool:
    """Whether a file of a component is asked for by the version that it has, as plotly.js is: it never changes."""
    return _path(scope).startswith("/_stcore/bidi-components/") and b"v=" in scope.get("query_string", b"")


def _with_headers(send: Send, request: Headers, is_versioned: bool) -> Send:
    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            for name, value in _answer_headers(request):
                answer[name] = value
            if is_versioned and message["status"] == 200:
                answer["Cache-Control"] = "public, max-age=31536000, immutable"
        await send(message)

    return sender


def _answer_headers(request: Headers) -> list[tuple[str, str]]:
    return [
        ("Content-Security-Policy", content_security_policy(request.get("host") or "")),
        ("X-Frame-Options", "DENY"),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ]


def content_security_policy(host: str) -> str:
    """As strict as Streamlit bears: styles are inline (Emotion), images of charts are data, uploads are blobs.

    `host`: as in the request, one that `server.allowedHosts` allows; older browsers do not count a websocket of the
    same host as `'self'`.
    """
    sockets = f" ws://{host} wss://{host}" if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' {' '.join(_own_scripts())}",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": f"'self'{sockets}",
        "worker-src": "'self' blob:",
        "frame-src": "'none'",
        "frame-ancestors": "'none'",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


@lru_cache(maxsize=1)
def _own_scripts() -> tuple[str, ...]:
    """Hashes of the inline scripts that may run: the ones in Streamlit's page, and ours that follow and remember the language and lead the focus into popovers."""
    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text("utf-8")
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    own = [script for code in LANGUAGES for script in (cookie_script(code), html_lang_script(code) + POPOVER_SCRIPT)]
    return tuple(_hashed(script) for script in [*inline, *own])


def _hashed(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
