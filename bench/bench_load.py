"""The bench's calls: N media streams as Twilio sends them, from one thread that costs little.

What `twilio_simulator.py` does besides (webhooks, troubles, reports) is left out. A process of its
own: the plan is one JSON object on stdin, what happens is one JSON object a line on stdout: first
`{"window": [begin, end, probed]}` (nanoseconds of CLOCK_MONOTONIC) when all calls are live, at the
end what the load was. Each call sends a frame every 20 ms; the calls are spread over these 20 ms.

Frames that a server does not take wait here, as they would in the network, with the moment that
they already carry.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench_frames import spread, stamped_frame
from twilio.request_validator import RequestValidator
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.speedups import apply_mask
from websockets.uri import parse_uri

from stream_tokens import StreamGrant, StreamTokens
from twilio_calls import new_sid
from twilio_stream import StreamMessages

FRAME_NS = 20_000_000
TURN_NS = 1_000_000  # the thread wakes once a millisecond
OPEN_SECONDS = 20.0
STOP_SECONDS = 0.5  # from `stop` to our own close, as Twilio closes
CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play. `auth_token` and `secret_key` are the service's, `public_url` wss://…"""

    port: int
    calls: int
    ramp_seconds: float
    warm_seconds: float  # from the last call's start to the window
    seconds: float  # the window
    probe_seconds: float  # after the window, while the loop's delay is probed
    public_url: str
    auth_token: str
    secret_key: str


class LoadFailed(Exception):
    """A call could not be played; the text says why."""


class MediaSocket:
    """One call's WebSocket."""

    def __init__(self, number: int, plan: Plan) -> None:
        self.number = number
        self.seq = 0
        self.sent_in_window = 0
        self.is_live = False
        call_sid = new_sid("CA")
        token = StreamTokens(plan.secret_key).make(StreamGrant(call_sid, "default"))
        self._messages = StreamMessages(
            call_sid, new_sid("MZ"), new_sid("AC"), custom_parameters={"token": token}
        )
        self._waiting = bytearray()  # what the kernel did not take
        self.socket = socket.create_connection(("127.0.0.1", plan.port), timeout=OPEN_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._protocol = ClientProtocol(parse_uri(plan.public_url))
        request = self._protocol.connect()
        signer = RequestValidator(plan.auth_token)
        request.headers["X-Twilio-Signature"] = signer.compute_signature(plan.public_url, {})
        self._protocol.send_request(request)
        self._flush_protocol()

    def send_frame(self, now: int) -> None:
        """The next frame, sent `now`."""
        frame = stamped_frame(self.number, self.seq, now)
        self.seq += 1
        self._send_text(self._messages.media(frame))

    def stop(self) -> None:
        """Twilio's last message."""
        self._send_text(self._messages.stop())

    def close(self) -> None:
        """Our side of the close."""
        if self._protocol.state.name == "OPEN":
            self._protocol.send_close(1000)
            self._flush_protocol()

    @property
    def is_closed(self) -> bool:
        """Whether the WebSocket is over on both sides."""
        return self._protocol.close_expected() or self._protocol.state.name == "CLOSED"

    def readable(self) -> None:
        """The server has sent something: its handshake, a ping, its close."""
        try:
            data = self.socket.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._protocol.events_received()
        if self._protocol.handshake_exc is not None:
            raise LoadFailed(f"call {self.number} was refused: {self._protocol.handshake_exc}")
        if not self.is_live and self._protocol.state.name == "OPEN":
            self.is_live = True
            self._send_text(self._messages.connected())
            self._send_text(self._messages.start())
        self._flush_protocol()

    def _send_text(self, text: str) -> None:
        # The server must have a mask to take off, as with Twilio
        mask = os.urandom(4)
        data = text.encode()
        size = len(data)
        head = struct.pack("!BB", 0x80 | Opcode.TEXT, 0x80 | size) if size < 126 else b""
        head = head or struct.pack("!BBH", 0x80 | Opcode.TEXT, 0x80 | 126, size)
        self._write(head + mask + apply_mask(data, mask))

    def _flush_protocol(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._write(data)

    def _write(self, data: bytes) -> None:
        if self._waiting:
            self._waiting += data
            data = bytes(self._waiting)
            self._waiting.clear()
        try:
            taken = self.socket.send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            raise LoadFailed(f"call {self.number} was cut off: {error}") from error
        if taken < len(data):
            self._waiting += data[taken:]


class Load:
    """All calls of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._poll = select.epoll()
        self._by_fd: dict[int, MediaSocket] = {}
        self._due: list[tuple[int, int]] = []  # a heap: when, which socket's next frame
        self._sockets: list[MediaSocket] = []
        self._begin = self._end = 0
        self._late_ns: list[int] = []

    def play(self) -> dict[str, Any]:
        """Play them all; what the load was like. Raises `LoadFailed`."""
        plan = self._plan
        self._open_all()
        now = time.monotonic_ns()
        self._begin = now + int(plan.warm_seconds * 1e9)
        self._end = self._begin + int(plan.seconds * 1e9)
        probed = self._end + int(plan.probe_seconds * 1e9)
        print(json.dumps({"window": [self._begin, self._end, probed]}), flush=True)
        self._run_until(self._begin)
        cpu = time.process_time_ns()
        self._run_until(self._end)
        cpu = time.process_time_ns() - cpu
        self._run_until(probed)
        self._close_all()
        self._late_ns.sort()
        late = spread(self._late_ns, 1e6)
        return {
            "sent": sum(one.sent_in_window for one in self._sockets),
            "late_ms": late and late._asdict(),
            "cpu_share": cpu / 1e9 / plan.seconds,
        }

    def _open_all(self) -> None:
        gap = int(self._plan.ramp_seconds * 1e9 / self._plan.calls)
        at = time.monotonic_ns()
        for number in range(self._plan.calls):
            self._run_until(at + number * gap)
            one = MediaSocket(number, self._plan)
            self._sockets.append(one)
            self._by_fd[one.socket.fileno()] = one
            self._poll.register(one.socket, select.EPOLLIN)
        give_up_at = time.monotonic_ns() + int(OPEN_SECONDS * 1e9)
        while not all(one.is_live for one in self._sockets):
            now = time.monotonic_ns()
            if now > give_up_at:
                raise LoadFailed("not all calls were answered in time")
            self._run_until(now + TURN_NS)

    def _close_all(self) -> None:
        self._due.clear()
        for one in self._sockets:
            one.stop()
        self._run_until_closed(STOP_SECONDS)
        for one in self._sockets:
            one.close()
        self._run_until_closed(CLOSE_SECONDS)
        for one in self._sockets:
            one.socket.close()

    def _run_until_closed(self, seconds: float) -> None:
        give_up_at = time.monotonic_ns() + int(seconds * 1e9)
        while (now := time.monotonic_ns()) < give_up_at and not all(
            one.is_closed for one in self._sockets
        ):
            self._run_until(now + TURN_NS)

    def _run_until(self, until: int) -> None:
        """Send what is due and read what comes, until then."""
        while (now := time.monotonic_ns()) < until:
            self._send_due(now)
            for fd, _ in self._poll.poll(0):
                self._read(self._by_fd[fd])
            turn = min(now + TURN_NS, until)
            if (left := turn - time.monotonic_ns()) > 0:
                time.sleep(left / 1e9)

    def _send_due(self, now: int) -> None:
        due = self._due
        while due and due[0][0] <= now:
            at, number = due[0]
            heapq.heapreplace(due, (at + FRAME_NS, number))
            one = self._sockets[number]
            sent = time.monotonic_ns()
            one.send_frame(sent)
            if self._begin <= sent < self._end:
                one.sent_in_window += 1
                self._late_ns.append(sent - at)

    def _read(self, one: MediaSocket) -> None:
        was_live = one.is_live
        one.readable()
        if one.is_live and not was_live:
            phase = one.number * FRAME_NS // self._plan.calls
            now = time.monotonic_ns()
            heapq.heappush(self._due, (now - now % FRAME_NS + FRAME_NS + phase, one.number))
        if one.is_closed:
            self._poll.unregister(one.socket)
            if self._due:
                raise LoadFailed(f"the server ended call {one.number} while it was live")


def main() -> int:
    plan = Plan(**json.loads(sys.stdin.readline()))
    try:
        report = Load(plan).play()
    except (LoadFailed, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps(report), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
