"""A small service as Twilio calls it, for the simulator's tests: webhooks answer, streams record.

`answer` gets each webhook and returns TwiML (without <Response>), or a whole HTTP answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import WSMsgType, web

OnMessage = Callable[["ServedStream", dict[str, Any]], str | int | None]


@dataclass
class Asked:
    """A webhook as it came."""

    method: str
    path: str  # with its query
    headers: dict[str, str]
    form: list[tuple[str, str]]

    def __getitem__(self, key: str) -> str:
        return dict(self.form)[key]


@dataclass
class ServedStream:
    """What came over one socket, and when (by the loop's clock)."""

    path: str
    headers: dict[str, str]
    messages: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    close_code: int | None = None

    @property
    def start(self) -> dict[str, Any]:
        start: dict[str, Any] = self.messages[1]["start"]
        return start

    def events(self) -> list[str]:
        return [message["event"] for message in self.messages]

    def media(self, track: str | None = None) -> list[dict[str, Any]]:
        media = [message["media"] for message in self.messages if message["event"] == "media"]
        return [frame for frame in media if track in (None, frame["track"])]


class TwilioService:
    """Serves on a free port of this machine while it is entered.

    `on_message` gets each message of a stream: a number closes the socket with that code, a text
    is sent. `refuse` is the status with which upgrades are refused.
    """

    def __init__(
        self,
        answer: Callable[[Asked], str | web.Response],
        on_message: OnMessage | None = None,
        refuse: int = 0,
    ) -> None:
        self.asked: list[Asked] = []
        self.statuses: list[Asked] = []
        self.streams: list[ServedStream] = []
        self.media_arrived = asyncio.Event()
        self.all_closed = asyncio.Event()
        self._answer, self._on_message = answer, on_message or close_after_stop
        self._refuse, self._open = refuse, 0
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app)
        self.url = ""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._record(request)
        form = [(k, str(v)) for k, v in (await request.post()).items()]
        asked = Asked(request.method, request.path_qs, dict(request.headers), form)
        if "status" in request.path:
            self.statuses.append(asked)
            return web.Response(status=204)
        self.asked.append(asked)
        answer = self._answer(asked)
        if isinstance(answer, str):
            return web.Response(text=f"<Response>{answer}</Response>", content_type="text/xml")
        return answer

    async def _record(self, request: web.Request) -> web.StreamResponse:
        if self._refuse:
            return web.Response(status=self._refuse)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        stream = ServedStream(request.path_qs, dict(request.headers))
        self.streams.append(stream)
        self._open += 1
        self.all_closed.clear()
        async for message in socket:
            assert message.type is WSMsgType.TEXT, "Twilio sends text only"
            stream.messages.append(json.loads(message.data))
            stream.times.append(asyncio.get_running_loop().time())
            if stream.messages[-1]["event"] == "media":
                self.media_arrived.set()
            reply = self._on_message(stream, stream.messages[-1])
            if isinstance(reply, int):
                await socket.close(code=reply)
            elif reply is not None:
                await socket.send_str(reply)
        stream.close_code = socket.close_code
        self._open -= 1
        if not self._open:
            self.all_closed.set()
        return socket


def close_after_stop(stream: ServedStream, message: dict[str, Any]) -> int | None:
    return 1000 if message["event"] == "stop" else None
