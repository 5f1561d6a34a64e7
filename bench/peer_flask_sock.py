"""The same work with Flask, flask-sock and `SpeechClient` under gunicorn's gevent worker, plainly.

    SPEECH_EMULATOR_HOST=host:port gunicorn -k gevent -b 127.0.0.1:… peer_flask_sock:app

This service's own stack without what this service does. Beside the plain way it tells gRPC
of gevent, without which the process freezes, and has a client, hence a connection, for each
90 streams: the 101st on a connection would wait for ever.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import threading
from collections.abc import Iterator

import grpc
from flask import Flask
from flask_sock import Sock
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from grpc.experimental.gevent import init_gevent
from simple_websocket import ConnectionClosed, Server

init_gevent()

STREAMS_PER_CLIENT = 90
CONFIG = speech.StreamingRecognitionConfig(
    config=speech.RecognitionConfig(
        encoding=speech.RecognitionConfig.AudioEncoding.MULAW,
        sample_rate_hertz=8000,
        language_code="iw-IL",
    ),
    interim_results=True,
)

app = Flask(__name__)
sock = Sock(app)
clients: list[tuple[speech.SpeechClient, set[str]]] = []


def lease(call: str) -> tuple[speech.SpeechClient, set[str]]:
    """A client with room for the call, and the calls that it has."""
    if all(len(calls) >= STREAMS_PER_CLIENT for _, calls in clients):
        channel = grpc.insecure_channel(
            os.environ["SPEECH_EMULATOR_HOST"],
            options=[("grpc.use_local_subchannel_pool", 1)],
        )
        client = speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))
        clients.append((client, set()))
    client, calls = min(clients, key=lambda one: len(one[1]))
    calls.add(call)
    return client, calls


def requests(audio: queue.Queue[bytes | None]) -> Iterator[speech.StreamingRecognizeRequest]:
    """The stream's audio, until the queue says None."""
    while (frame := audio.get()) is not None:
        yield speech.StreamingRecognizeRequest(audio_content=frame)


def recognise(call: str, audio: queue.Queue[bytes | None]) -> None:
    """One call's stream, whose results are printed."""
    client, calls = lease(call)
    try:
        responses = client.streaming_recognize(  # type: ignore[call-arg]  # of the helper above it
            config=CONFIG, requests=requests(audio)
        )
        for response in responses:
            for result in response.results:
                kind = "final" if result.is_final else "interim"
                print(call, kind, result.alternatives[0].transcript)
    finally:
        calls.discard(call)


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "alive"}


@sock.route("/media")  # type: ignore[untyped-decorator]  # flask-sock has no types
def media(socket: Server) -> None:
    audio: queue.Queue[bytes | None] = queue.Queue()
    stream: threading.Thread | None = None
    try:
        while True:
            message = json.loads(socket.receive())
            if message["event"] == "media":
                audio.put(base64.b64decode(message["media"]["payload"]))
            elif message["event"] == "start":
                arguments = (message["start"]["callSid"], audio)
                stream = threading.Thread(target=recognise, args=arguments, daemon=True)
                stream.start()
            elif message["event"] == "stop":
                break
    except ConnectionClosed:
        pass  # a caller may go without a stop
    audio.put(None)
    if stream is not None:
        stream.join()
