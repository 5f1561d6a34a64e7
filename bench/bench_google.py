"""The bench's stand-in for Google Speech: takes audio, answers, and notes when each message came.

A process of its own, on an asyncio loop; what `local_speech_server.py` does besides (faults,
limits in time, recognition) is left out, because here the stand-in must not be what is measured.
It answers as Google does to somebody who speaks all the time: an interim twice a second, a final
every 3 s of audio, events to those who ask for them. What came is only kept; it is counted after
the calls are over, on order: one JSON object a line on stdin, the answer as one line on stdout.

    {"do": "reset"}  {"do": "report", "begin": NS, "end": NS}
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import bench_frames
from bench_http2 import Connection, Stream

import speech_messages as messages

METHOD = "/google.cloud.speech.v1.Speech/StreamingRecognize"
BYTES_PER_SECOND = 8_000
INTERIM_BYTES = BYTES_PER_SECOND // 2
FINAL_BYTES = 3 * BYTES_PER_SECOND
MAX_MESSAGE_BYTES = 25_600  # Google's own
WATCH_SECONDS = 0.01

INVALID_ARGUMENT, UNIMPLEMENTED = 3, 12
_AUDIO = 0x12  # the tag of StreamingRecognizeRequest.audio_content

TEXT = "good morning I would like to book an appointment for the day after tomorrow please"
WORDS = TEXT.split()


@dataclass(slots=True)
class Record:
    """What came since the last reset."""

    messages: list[tuple[int, bytes]] = field(default_factory=list)  # when, audio
    streams: int = 0
    live: int = 0
    most_together: int = 0  # on one connection
    refused: int = 0  # over 100 on a connection
    faulty: int = 0  # wrong configs and messages
    late: list[tuple[int, int]] = field(default_factory=list)  # this loop's: when, how much

    def forget(self) -> None:
        """Begin anew; streams that are live go on."""
        self.messages, self.late = [], []
        self.streams = self.most_together = self.refused = self.faulty = 0


def audio_of(request: bytes) -> bytes | None:
    """The audio of a raw StreamingRecognizeRequest; None if it holds something else."""
    if not request or request[0] != _AUDIO:
        return None
    size, shift, at = 0, 0, 1
    while True:
        byte = request[at]
        size |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            break
    return request[at:] if len(request) == at + size else None


class Recognition:
    """One StreamingRecognize call."""

    def __init__(self, stream: Stream, record: Record) -> None:
        self._stream = stream
        self._record = record
        self._config: Any = None
        self._bytes = 0  # of audio so far
        self._final_at = 0  # up to here there is a final
        self._over = False
        record.streams += 1
        record.live += 1
        record.most_together = max(record.most_together, stream.together)

    def message(self, data: bytes, came: int) -> None:
        if self._over:
            return
        if self._config is None:
            self._open(data)
            return
        audio = audio_of(data)
        if audio is None or len(data) > MAX_MESSAGE_BYTES:
            self._refuse(INVALID_ARGUMENT)
            return
        self._record.messages.append((came, audio))
        before, self._bytes = self._bytes, self._bytes + len(audio)
        if before == self._final_at and self._config.enable_voice_activity_events:
            self._event(messages.SPEECH_ACTIVITY_BEGIN, before)
        if self._bytes - self._final_at >= FINAL_BYTES:
            self._final()
        elif before // INTERIM_BYTES != self._bytes // INTERIM_BYTES:
            self._interim()

    def end(self) -> None:
        if not self._over:
            if self._bytes > self._final_at:
                self._final()
            self._leave()
            self._stream.finish()

    def lost(self) -> None:
        self._leave()

    def _open(self, data: bytes) -> None:
        request = messages.StreamingRecognizeRequest.FromString(data)
        config = request.streaming_config
        if config.config.encoding != messages.MULAW or config.config.sample_rate_hertz != 8_000:
            self._refuse(INVALID_ARGUMENT)
        self._config = config

    def _interim(self) -> None:
        if self._config.interim_results:
            done = (self._bytes - self._final_at) / FINAL_BYTES
            text = " ".join(WORDS[: max(1, int(len(WORDS) * done))])
            self._answer(messages.interim(text, self._seconds, self._language, 0.9))

    def _final(self) -> None:
        if self._config.enable_voice_activity_events:
            self._event(messages.SPEECH_ACTIVITY_END, self._bytes)
        self._final_at = self._bytes
        self._answer(messages.final(TEXT, self._seconds, self._language, 0.95))

    def _event(self, kind: int, at: int) -> None:
        self._answer(messages.event(kind, at / BYTES_PER_SECOND))

    def _answer(self, response: messages.Message) -> None:
        self._stream.send(response.SerializeToString())

    def _refuse(self, status: int) -> None:
        self._record.faulty += 1
        self._leave()
        self._stream.finish(status)

    def _leave(self) -> None:
        if not self._over:
            self._over = True
            self._record.live -= 1

    @property
    def _seconds(self) -> float:
        return self._bytes / BYTES_PER_SECOND

    @property
    def _language(self) -> str:
        return str(self._config.config.language_code)


class Unknown:
    """A call of any other method."""

    def __init__(self, stream: Stream) -> None:
        stream.finish(UNIMPLEMENTED)

    def message(self, data: bytes, came: int) -> None:
        """Nobody is interested."""

    def end(self) -> None:
        """It was ended at once."""

    def lost(self) -> None:
        """It was ended at once."""


class StandIn:
    """The server, and what is asked of it."""

    def __init__(self) -> None:
        self._record = Record()

    def connection(self) -> Connection:
        """A peer has connected."""
        return Connection(self._open, self._refused)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Do what a line of stdin asks for."""
        record = self._record
        if order["do"] == "reset":
            record.forget()
            gc.collect()
            return {"live": record.live}
        begin, end = order["begin"], order["end"]
        counted = asdict(bench_frames.tally(record.messages, begin, end))
        delays = bench_frames.spread(counted.pop("delays_ns"), 1e6)
        late = bench_frames.spread(sorted(by for at, by in record.late if begin <= at < end), 1e6)
        return {
            **counted,
            "delay_ms": delays and delays._asdict(),
            "late_ms": late and late._asdict(),
            "streams": record.streams,
            "live": record.live,
            "most_together": record.most_together,
            "refused": record.refused,
            "faulty": record.faulty,
        }

    async def watch(self) -> None:
        """Note how late this loop is, for ever: that much is no fault of a peer's."""
        while True:
            due = time.monotonic_ns() + int(WATCH_SECONDS * 1e9)
            await asyncio.sleep(WATCH_SECONDS)
            self._record.late.append((due, time.monotonic_ns() - due))

    def _open(self, path: str, stream: Stream) -> Recognition | Unknown:
        return Recognition(stream, self._record) if path == METHOD else Unknown(stream)

    def _refused(self) -> None:
        self._record.refused += 1


async def serve() -> None:
    """Serve on a free port, which the first line on stdout names, until stdin ends."""
    stand_in = StandIn()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(stand_in.connection, "127.0.0.1", 0)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    watching = asyncio.create_task(stand_in.watch())
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while line := await orders.readline():
        print(json.dumps(stand_in.obey(json.loads(line))), flush=True)
    watching.cancel()
    server.close()


if __name__ == "__main__":
    gc.disable()  # millions of kept messages would be looked through again and again
    asyncio.run(serve())
