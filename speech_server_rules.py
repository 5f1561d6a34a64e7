"""Google's own rules for a recognition stream: order of messages, sizes, time limits.

Pure: no gRPC, no event loop, the time is handed in. The local speech server enforces these
with Google's status codes and Google's words, so that a client that reads the words
(as it must: one code has several meanings) meets the same ones here.

    SpeechServerError
    └── StreamEnded(code, text)      the stream or request ends with this status
        ├── Refused(reason)          INVALID_ARGUMENT: this message or config is not acceptable
        └── LimitReached(text)       OUT_OF_RANGE: a time limit ran out
"""

from __future__ import annotations

from dataclasses import dataclass

from speech_messages import BYTES_PER_SAMPLE, Message, audio_seconds

# Google's words, also where a test shortens the limit: clients classify by them.
TOO_LONG = "Exceeded maximum allowed stream duration of 305 seconds."
NO_AUDIO = (
    "Audio Timeout Error: Long duration elapsed without audio. "
    "Audio should be sent close to real time."
)
BAD_ORDER = (
    "Malordered Data Received. Expected {expected}. Send exactly one config, "
    "followed by audio data."
)
TOO_BIG = (
    "Audio chunk can be of a maximum of {limit} bytes. Received audio of {size} bytes instead."
)
SYNC_TOO_LONG = (
    "Sync input too long. For audio longer than 1 min use LongRunningRecognize with a "
    "'uri' parameter."
)
BAD_CONFIG = "Invalid recognition 'config': {reason}"


class SpeechServerError(Exception):
    """Anything that goes wrong in the local speech server by rule."""


class StreamEnded(SpeechServerError):
    """The stream ends with a status: `code` is the name of a gRPC status code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Refused(StreamEnded):
    """A message or a config that is not acceptable."""

    def __init__(self, reason: str) -> None:
        super().__init__("INVALID_ARGUMENT", reason)


class LimitReached(StreamEnded):
    """One of the time limits ran out."""

    def __init__(self, text: str) -> None:
        super().__init__("OUT_OF_RANGE", text)


@dataclass(frozen=True)
class Limits:
    """Google's limits for one stream; tests shorten them."""

    max_stream_seconds: float = 305.0
    audio_timeout_seconds: float = 10.0
    max_message_bytes: int = 25_600
    max_recognize_seconds: float = 60.0


def bad_config(reason: str) -> Refused:
    """The refusal of a recognition config, in Google's manner."""
    return Refused(BAD_CONFIG.format(reason=reason))


def check_config(config: Message) -> None:
    """What every recogniser needs of a RecognitionConfig; raises `Refused`."""
    if config.encoding not in BYTES_PER_SAMPLE:
        raise bad_config("bad encoding; this server reads MULAW and LINEAR16.")
    if not config.language_code:
        raise bad_config("bad language code.")
    if config.sample_rate_hertz <= 0:
        raise bad_config("bad sample rate hertz.")
    if config.audio_channel_count > 1:
        raise bad_config("this server reads one audio channel.")


def read_config(request: Message) -> Message:
    """The StreamingRecognitionConfig of a stream's first message; raises `Refused`."""
    if request.WhichOneof("streaming_request") != "streaming_config":
        raise Refused(BAD_ORDER.format(expected="streaming_config first"))
    return request.streaming_config


def read_audio(request: Message, limits: Limits) -> bytes:
    """The audio of a later message; raises `Refused`."""
    kind = request.WhichOneof("streaming_request")
    if kind != "audio_content":
        found = "none was set" if kind is None else f"{kind} was set"
        raise Refused(BAD_ORDER.format(expected=f"audio_content {found}"))
    audio: bytes = request.audio_content
    if len(audio) > limits.max_message_bytes:
        raise Refused(TOO_BIG.format(limit=limits.max_message_bytes, size=len(audio)))
    return audio


def read_recording(request: Message, limits: Limits) -> bytes:
    """The audio of a plain RecognizeRequest; raises `Refused`."""
    kind = request.audio.WhichOneof("audio_source")
    if kind == "uri":
        raise Refused("Invalid audio 'uri': this server reads audio 'content' only.")
    if kind is None or not request.audio.content:
        raise Refused("Must provide one of 'content' or 'uri' in 'audio'.")
    audio: bytes = request.audio.content
    if audio_seconds(len(audio), request.config) > limits.max_recognize_seconds:
        raise Refused(SYNC_TOO_LONG)
    return audio


class StreamClock:
    """The two time limits of one stream, on a monotonic clock that is handed in."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._opened = now
        self._heard = now

    def heard(self, now: float) -> None:
        """Audio came, or it is no fault of the client's that none did."""
        self._heard = now

    def due(self) -> float:
        """When the next of the two limits may run out."""
        return min(
            self._opened + self._limits.max_stream_seconds,
            self._heard + self._limits.audio_timeout_seconds,
        )

    def check(self, now: float) -> LimitReached | None:
        """The limit that has run out by now, if any."""
        if now >= self._opened + self._limits.max_stream_seconds:
            return LimitReached(TOO_LONG)
        if now >= self._heard + self._limits.audio_timeout_seconds:
            return LimitReached(NO_AUDIO)
        return None
