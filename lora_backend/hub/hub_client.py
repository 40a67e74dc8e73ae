"""Ask a hub over HTTP: bounded answers, and each refusal as one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from huggingface_hub import constants as hub

from lora_backend.bounded import MAX_JSON_BYTES, load_json
from lora_backend.errors import first_line
from lora_backend.hub.hub_names import HubError
from lora_backend.i18n import N_, Message

if TYPE_CHECKING:
    import httpx2

CONNECT_S, READ_S = 10.0, 30.0
MOST_REDIRECTS = 10
AGENT = "lora-flightdeck"
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a hub that may be another one in a moment."""


class HubAwayError(HubError):
    """The hub does not answer, or not now; `reason` says why."""

    def __init__(self, endpoint: str, reason: str | Message) -> None:
        super().__init__(
            N_(
                "The hub at {endpoint} cannot be reached: {reason}. Check the network, or set `HF_ENDPOINT` to a mirror that this machine can reach."
            ),
            endpoint=endpoint,
            reason=reason,
        )
        self.reason = reason


class HubClient:
    """Of one hub; a context that closes its connections. The token is read when it is made, sent to no other host, and
    written nowhere."""

    def __init__(self, endpoint: str | None = None) -> None:
        """`endpoint`: None for that of `HF_ENDPOINT`. Raises `HubError` where `HF_HUB_OFFLINE` forbids the network."""
        import httpx2  # a tenth of a second, and nobody else needs it

        self.endpoint = endpoint_of(endpoint)
        if hub.is_offline_mode():
            raise HubError(
                N_("`HF_HUB_OFFLINE` is set, so the hub at {endpoint} is not contacted. Unset it to download."),
                endpoint=self.endpoint,
            )
        token = hub_token()
        headers = {"User-Agent": AGENT, **({"Authorization": f"Bearer {token}"} if token else {})}
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
            follow_redirects=True,
            max_redirects=MOST_REDIRECTS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def json(self, path: str, repo_id: str, revision: str) -> Any:
        """What `path` answers. Raises `HubError`; `HubAwayError` where it does not answer."""
        with self.answer("GET", path, repo_id, revision) as response:
            data = bytearray()
            for piece in response.iter_bytes():
                data += piece
                if len(data) > MAX_JSON_BYTES:
                    raise self._no_hub()
        try:
            return load_json(bytes(data), path)
        except ValueError as error:
            raise self._no_hub() from error

    @contextmanager
    def answer(
        self, method: str, path: str, repo_id: str, revision: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx2.Response]:
        """The answer to a request, its body not read yet. Raises `HubError` for a refusal, here and while it is read;
        a status of 416 passes."""
        import httpx2

        try:
            request = self._http.build_request(method, f"{self.endpoint}{path}", headers=headers)
            response = self._http.send(request, stream=True)
            try:
                if response.status_code != 416:
                    self._refuse_status(response, repo_id, revision)
                yield response
            finally:
                response.close()
        except httpx2.TooManyRedirects as error:
            raise HubError(
                N_("The hub at {endpoint} redirects in a circle. Check `HF_ENDPOINT`."), endpoint=self.endpoint
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise HubAwayError(self.endpoint, first_line(error)) from error

    def _refuse_status(self, response: httpx2.Response, repo_id: str, revision: str) -> None:
        status = response.status_code
        if status < 300:
            return
        code, said = response.headers.get("X-Error-Code"), response.headers.get("X-Error-Message", "")
        values = {"repo": repo_id, "endpoint": self.endpoint, "page": f"{self.endpoint}/{repo_id}"}
        if status in BUSY:
            raise HubAwayError(self.endpoint, Message(N_("it answered {status}"), {"status": status}))
        if status == 401 and "credentials" in said:
            raise HubError(
                N_(
                    "The hub at {endpoint} rejected the token. Create a new one at {endpoint}/settings/tokens and set `HF_TOKEN` to it."
                ),
                **values,
            )
        if code == "GatedRepo" or status == 403:
            raise HubError(GATED, **values)
        if code == "RevisionNotFound":
            raise HubError(N_("{repo} has no revision {revision}. Check its name."), revision=revision, **values)
        if code == "EntryNotFound":
            raise HubError(N_("{repo} lists a file that the hub does not give. Try again later."), **values)
        if status in (401, 404):
            raise HubError(
                N_(
                    "There is no {repo} at {endpoint}, or it is private. Check the id; if it is private, set `HF_TOKEN` to a token that can read it."
                ),
                **values,
            )
        raise HubError(N_("The hub at {endpoint} answered {status} for {repo}."), status=status, **values)

    def _no_hub(self) -> HubError:
        return HubError(
            N_("The server at {endpoint} is not a hub. Check `HF_ENDPOINT`, and whether a proxy asks for a sign-in."),
            endpoint=self.endpoint,
        )


GATED = N_(
    "{repo} is gated: its owner decides who may download it. Accept the terms at {page}, then set `HF_TOKEN` to a token for that account."
)


def endpoint_of(endpoint: str | None) -> str:
    """The address of the hub: the one that is named, else that of `HF_ENDPOINT`."""
    return (endpoint or hub.ENDPOINT).rstrip("/")


def hub_token() -> str | None:
    """The token of `HF_TOKEN`, or of `hf auth login`; None where there is none, or `HF_HUB_DISABLE_IMPLICIT_TOKEN` keeps
    it back. Raises `HubError` where the library cannot get one that it was told to get."""
    if hub.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return None
    from huggingface_hub import get_token
    from huggingface_hub.errors import OIDCError

    try:
        token = get_token()
    except OIDCError as error:
        raise HubError(N_("The token for the hub cannot be read: {reason}"), reason=first_line(error)) from error
    return str(token) if token else None
