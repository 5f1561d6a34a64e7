"""The same work with FastAPI, uvicorn and Google's asyncio client, as one would write it first.

    PORT=… SPEECH_EMULATOR_HOST=host:port BATCH_MS=20|100 python bench/peer_fastapi.py

Everything runs on one asyncio loop (uvloop). Beside the plain way it has a client, hence a
connection, for each 90 streams: the 101st on a connection would wait for ever.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator

import grpc
import uvicorn
from fastapi import FastAPI, WebSocket
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcAsyncIOTransport
from starlette.websockets import WebSocketDisconnect

STREAMS_PER_CLIENT = 90
FRAMES_PER_MESSAGE = int(os.environ.get("BATCH_MS", "20")) // 20
CONFIG = speech.StreamingRecognitionConfig(
    config=speech.RecognitionConfig(
        encoding=speech.RecognitionConfig.AudioEncoding.MULAW,
        sample_rate_hertz=8000,
        language_code="iw-IL",
    ),
    interim_results=True,
)

app = FastAPI()
clients: list[tuple[speech.SpeechAsyncClient, set[str]]] = []


def lease(call: str) -> tuple[speech.SpeechAsyncClient, set[str]]:
    """A client with room for the call, and the calls that it has."""
    if all(len(calls) >= STREAMS_PER_CLIENT for _, calls in clients):
        channel = grpc.aio.insecure_channel(
            os.environ["SPEECH_EMULATOR_HOST"],
            options=[("grpc.use_local_subchannel_pool", 1)],
        )
        client = speech.SpeechAsyncClient(transport=SpeechGrpcAsyncIOTransport(channel=channel))
        clients.append((client, set()))
    client, calls = min(clients, key=lambda one: len(one[1]))
    calls.add(call)
    return client, calls


async def requests(
    audio: asyncio.Queue[bytes | None],
) -> AsyncIterator[speech.StreamingRecognizeRequest]:
    """The stream's messages, until the queue says None."""
    yield speech.StreamingRecognizeRequest(streaming_config=CONFIG)
    waiting: list[bytes] = []
    while (frame := await audio.get()) is not None:
        waiting.append(frame)
        if len(waiting) == FRAMES_PER_MESSAGE:
            yield speech.StreamingRecognizeRequest(audio_content=b"".join(waiting))
            waiting = []
    if waiting:
        yield speech.StreamingRecognizeRequest(audio_content=b"".join(waiting))


async def recognise(call: str, audio: asyncio.Queue[bytes | None]) -> None:
    """One call's stream, whose results are printed."""
    client, calls = lease(call)
    try:
        async for response in await client.streaming_recognize(requests=requests(audio)):
            for result in response.results:
                kind = "final" if result.is_final else "interim"
                print(call, kind, result.alternatives[0].transcript)
    finally:
        calls.discard(call)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@app.websocket("/media")
async def media(socket: WebSocket) -> None:
    await socket.accept()
    audio: asyncio.Queue[bytes | None] = asyncio.Queue()
    stream: asyncio.Task[None] | None = None
    try:
        while True:
            message = json.loads(await socket.receive_text())
            if message["event"] == "media":
                audio.put_nowait(base64.b64decode(message["media"]["payload"]))
            elif message["event"] == "start":
                stream = asyncio.create_task(recognise(message["start"]["callSid"], audio))
            elif message["event"] == "stop":
                break
    except WebSocketDisconnect:
        pass  # a caller may go without a stop
    audio.put_nowait(None)
    if stream is not None:
        await stream


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
