"""A session at a running dashboard without a browser: what Chromium takes of the processor is no part of what is measured."""

from __future__ import annotations

import time
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol


class Session:
    """One tab. `run` asks for a page and waits for its end, `post` does not wait."""

    def __init__(self, port: int) -> None:
        self._socket: ClientConnection = connect(
            f"ws://127.0.0.1:{port}/_stcore/stream",
            origin=Origin(f"http://127.0.0.1:{port}"),
            subprotocols=[Subprotocol("streamlit")],
            max_size=None,
        )

    def post(self, page: str, **params: str) -> None:
        """Ask for a page by its address."""
        message = BackMsg()
        message.rerun_script.page_name = page
        message.rerun_script.query_string = urlencode(params)
        self._socket.send(message.SerializeToString())

    def wait(self, limit_s: float) -> bool:
        """Whether the page that was asked for was made within `limit_s`."""
        until = time.monotonic() + limit_s
        while (left_s := until - time.monotonic()) > 0:
            try:
                data = self._socket.recv(left_s)
            except TimeoutError:
                return False
            message = ForwardMsg()
            message.ParseFromString(data)  # type: ignore[arg-type]  # bytes, for it is no text message
            # A first visit is run twice: the page that was asked for is known only once the first has begun.
            early = ForwardMsg.FINISHED_EARLY_FOR_RERUN
            if message.WhichOneof("type") == "script_finished" and message.script_finished != early:
                return True
        return False

    def run(self, page: str, limit_s: float = 60.0, **params: str) -> float:
        """Seconds from the question for a page to its end; `limit_s` where there is none."""
        began = time.monotonic()
        self.post(page, **params)
        self.wait(limit_s)
        return time.monotonic() - began

    def close(self) -> None:
        self._socket.close()
