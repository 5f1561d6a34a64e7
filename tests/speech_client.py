"""Google's real client against the local speech server, as several tests use it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from google.api_core import exceptions
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport

from frame_echo import numbered_frame
from speech_server_thread import SpeechServerThread

Request = speech.StreamingRecognizeRequest
Response = speech.StreamingRecognizeResponse


def client_of(server: SpeechServerThread) -> Any:
    """Google's own client, over a channel of its own. Its annotations are not its behaviour's."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(server.address, options=options)
    return speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))


def recognition_config(**fields: Any) -> speech.RecognitionConfig:
    """What a call is recognised with, changed as a test needs."""
    config = {"encoding": "MULAW", "sample_rate_hertz": 8000, "language_code": "iw-IL"}
    return speech.RecognitionConfig(**(config | fields))


def streaming_config(**fields: Any) -> speech.StreamingRecognitionConfig:
    """A streaming config with interims and events, changed as a test needs."""
    config = {
        "config": recognition_config(),
        "interim_results": True,
        "enable_voice_activity_events": True,
    }
    return speech.StreamingRecognitionConfig(**(config | fields))


def audio(call: int, frames: range, batch: int = 5) -> Iterator[Request]:
    """The frames of a call, five to a message as the service sends them."""
    for at in range(frames.start, frames.stop, batch):
        numbers = range(at, min(at + batch, frames.stop))
        yield Request(audio_content=b"".join(numbered_frame(call, seq) for seq in numbers))


def stream(
    server: SpeechServerThread, requests: Iterable[Request], **fields: Any
) -> list[Response]:
    """All responses of one stream."""
    responses = client_of(server).streaming_recognize(
        streaming_config(**fields), iter(requests), retry=None
    )
    return list(responses)


def texts(responses: list[Response], *, final: bool) -> list[str]:
    """The transcripts of the finals, or of the interims."""
    results = [response.results[0] for response in responses if response.results]
    return [r.alternatives[0].transcript for r in results if r.is_final == final]


def seconds(time: Any) -> float:
    """A time of a response, which the client gives as a timedelta."""
    return float(time.total_seconds())


class OpenCall:
    """A stream that a test feeds by hand, in a thread as the service has one."""

    def __init__(self, server: SpeechServerThread) -> None:
        self.sent: queue.Queue[Request | None] = queue.Queue()
        self.responses: list[Response] = []
        self.error: Exception | None = None
        self.call: Any = None
        self._client = client_of(server)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, *requests: Request) -> None:
        """Hand over messages to be sent."""
        for request in requests:
            self.sent.put(request)

    def end(self) -> None:
        """Half-close, and wait for the stream's end."""
        self.sent.put(None)
        self.join()

    def join(self) -> None:
        """Wait for the stream's end."""
        self._thread.join(timeout=10)
        assert not self._thread.is_alive()

    def cancel(self) -> None:
        """Cancel the stream and let its threads go."""
        self._client.transport.close()
        self.end()

    def _run(self) -> None:
        try:
            for response in self._client.streaming_recognize(
                streaming_config(), iter(self.sent.get, None), retry=None
            ):
                self.responses.append(response)
        except exceptions.GoogleAPICallError as error:
            self.error = error
