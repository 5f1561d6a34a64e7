"""What a call is recognised with, and which of it Google has refused.

Google takes not every model for every language: v1 refuses `phone_call` for Hebrew. Such a call
must not stay without text: it gets the model `default`, which is there for all of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from google.cloud.speech_v1.types import (
    RecognitionConfig,
    SpeechContext,
    StreamingRecognitionConfig,
    StreamingRecognizeRequest,
)

DEFAULT_MODEL = "default"


@dataclass(frozen=True, slots=True)
class Recognition:
    """Language, model and options. The audio is always 8 kHz mono mu-law, as it comes."""

    language: str = "iw-IL"
    model: str = DEFAULT_MODEL
    punctuation: bool = True
    profanity_filter: bool = False
    hints: tuple[str, ...] = ()  # phrases to be expected

    def config(self) -> RecognitionConfig:
        """Google's own config (google.cloud.speech.v1), for streams and plain calls."""
        return RecognitionConfig(
            encoding=RecognitionConfig.AudioEncoding.MULAW,
            sample_rate_hertz=8000,
            audio_channel_count=1,
            language_code=self.language,
            model=self.model,
            enable_automatic_punctuation=self.punctuation,
            profanity_filter=self.profanity_filter,
            speech_contexts=[SpeechContext(phrases=self.hints)] if self.hints else [],
        )

    def first_request(self) -> Any:
        """The raw message that opens a stream."""
        return StreamingRecognizeRequest.pb(
            StreamingRecognizeRequest(
                streaming_config=StreamingRecognitionConfig(
                    config=self.config(),
                    interim_results=True,
                    enable_voice_activity_events=True,
                )
            )
        )


class RefusedModels:
    """The (language, model) pairs that Google has refused a business. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused: set[tuple[str, str]] = set()

    def instead(self, recognition: Recognition) -> Recognition:
        """`recognition`, with the model `default` if its own is known to be refused."""
        with self._lock:
            if (recognition.language, recognition.model) in self._refused:
                return replace(recognition, model=DEFAULT_MODEL)
        return recognition

    def refuse(self, recognition: Recognition) -> bool:
        """Note that Google refuses this model; whether that is news."""
        pair = (recognition.language, recognition.model)
        with self._lock:
            news = pair not in self._refused
            self._refused.add(pair)
            return news
