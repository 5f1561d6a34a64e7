"""Google's v1 speech messages in their raw protobuf form, and short ways to make them.

For the local speech server and whoever else speaks its wire format: the raw messages cost a
fraction of the proto-plus objects around them. Pure functions, for any thread.
Must never hold state.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeAlias

from google.cloud.speech_v1.types import cloud_speech

# protobuf makes these classes at run time, so they have no static type.
Message: TypeAlias = Any

RecognitionConfig: Any = cloud_speech.RecognitionConfig.pb()
StreamingRecognitionConfig: Any = cloud_speech.StreamingRecognitionConfig.pb()
StreamingRecognizeRequest: Any = cloud_speech.StreamingRecognizeRequest.pb()
StreamingRecognizeResponse: Any = cloud_speech.StreamingRecognizeResponse.pb()
StreamingRecognitionResult: Any = cloud_speech.StreamingRecognitionResult.pb()
RecognizeRequest: Any = cloud_speech.RecognizeRequest.pb()
RecognizeResponse: Any = cloud_speech.RecognizeResponse.pb()
SpeechRecognitionResult: Any = cloud_speech.SpeechRecognitionResult.pb()

MULAW: int = RecognitionConfig.MULAW
LINEAR16: int = RecognitionConfig.LINEAR16
# Bytes a sample of each encoding that a local recogniser may meet.
BYTES_PER_SAMPLE = {MULAW: 1, LINEAR16: 2}

END_OF_SINGLE_UTTERANCE: int = StreamingRecognizeResponse.END_OF_SINGLE_UTTERANCE
SPEECH_ACTIVITY_BEGIN: int = StreamingRecognizeResponse.SPEECH_ACTIVITY_BEGIN
SPEECH_ACTIVITY_END: int = StreamingRecognizeResponse.SPEECH_ACTIVITY_END


def audio_seconds(size: int, config: Message) -> float:
    """How long `size` bytes of audio last in this encoding and at this sample rate."""
    bytes_a_second = config.sample_rate_hertz * BYTES_PER_SAMPLE.get(config.encoding, 1)
    return size / bytes_a_second if bytes_a_second else 0.0


def event(kind: int, at_seconds: float) -> Message:
    """A speech event at a time of this stream's audio."""
    return StreamingRecognizeResponse(
        speech_event_type=kind, speech_event_time=timedelta(seconds=at_seconds)
    )


def interim(text: str, end_seconds: float, language: str, stability: float) -> Message:
    """An interim result: it has a stability and no confidence, as Google's have."""
    result = StreamingRecognitionResult(
        alternatives=[{"transcript": text}],
        stability=stability,
        result_end_time=timedelta(seconds=end_seconds),
        language_code=language.lower(),
    )
    return StreamingRecognizeResponse(results=[result])


def final(text: str, end_seconds: float, language: str, confidence: float) -> Message:
    """A final result: it has a confidence and no stability, as Google's have."""
    result = StreamingRecognitionResult(
        alternatives=[{"transcript": text, "confidence": confidence}],
        is_final=True,
        result_end_time=timedelta(seconds=end_seconds),
        language_code=language.lower(),
    )
    return StreamingRecognizeResponse(results=[result])


def plain_result(streaming_result: Message) -> Message:
    """A streaming final as a result of the plain `Recognize` method."""
    return SpeechRecognitionResult(
        alternatives=streaming_result.alternatives,
        result_end_time=streaming_result.result_end_time,
        language_code=streaming_result.language_code,
    )
