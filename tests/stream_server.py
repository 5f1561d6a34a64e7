"""A WebSocket server for the simulator's tests: it records what it is sent, and can misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Answer = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


class Stream:
    """What came over one socket."""

    def __init__(self, path: str, headers: dict[str, str]) -> None:
        self.path, self.headers = path, headers
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None

    def events(self) -> list[str]:
        return [message["event"] for message in self.messages]

    def media(self) -> list[dict[str, Any]]:
        return [message["media"] for message in self.messages if message["event"] == "media"]


class StreamServer:
    """Serves on a free port of this machine while it is entered; one `Stream` a socket.

    `answer` is called after each message and may send or close; by default the socket is closed
    with 1000 after `stop`, as the service does. `status` refuses every upgrade with that status.
    """

    def __init__(self, answer: Answer | None = None, status: HTTPStatus | None = None) -> None:
        self.streams: list[Stream] = []
        self.media_arrived = asyncio.Event()
        self.all_closed = asyncio.Event()
        self._answer = answer or close_after_stop
        self._status = status
        self._open = 0
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/media"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._record, "127.0.0.1", 0, process_request=self._refuse, ping_interval=None
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _refuse(self, connection: ServerConnection, _: Request) -> Response | None:
        return None if self._status is None else connection.respond(self._status, "no\n")

    async def _record(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        stream = Stream(socket.request.path, dict(socket.request.headers.raw_items()))
        self.streams.append(stream)
        self._open += 1
        self.all_closed.clear()
        try:
            async for text in socket:
                assert isinstance(text, str), "Twilio sends text only"
                message = json.loads(text)
                stream.messages.append(message)
                if message["event"] == "media":
                    self.media_arrived.set()
                await self._answer(socket, message)
        except ConnectionClosed:
            pass
        finally:
            await socket.wait_closed()
            stream.close_code = socket.close_code
            self._open -= 1
            if not self._open:
                self.all_closed.set()


async def close_after_stop(socket: ServerConnection, message: dict[str, Any]) -> None:
    if message["event"] == "stop":
        await socket.close()


async def never_close(_: ServerConnection, __: dict[str, Any]) -> None:
    """Leave it to the caller to close."""
