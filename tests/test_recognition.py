"""What a call is recognised with: Google's config, and models that Google refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from audio_parts import hasty_threads
from google.cloud.speech_v1.types import RecognitionConfig, StreamingRecognizeRequest

from recognition import Recognition, RefusedModels

HEBREW = Recognition("iw-IL", "phone_call")


@pytest.mark.parametrize("punctuation", [True, False])
def test_a_stream_is_opened_with_language_model_and_options(punctuation: bool) -> None:
    """Phone audio as it comes, interims, and voice activity events; and no audio yet."""
    raw = Recognition("en-US", "phone_call", punctuation).first_request()
    sent = StreamingRecognizeRequest.deserialize(raw.SerializeToString())
    streaming = sent.streaming_config
    assert streaming.interim_results
    assert streaming.enable_voice_activity_events
    assert not streaming.single_utterance
    assert not sent.audio_content
    config = streaming.config
    assert (config.language_code, config.model) == ("en-US", "phone_call")
    assert config.enable_automatic_punctuation is punctuation
    assert config.encoding == RecognitionConfig.AudioEncoding.MULAW
    assert (config.sample_rate_hertz, config.audio_channel_count) == (8000, 1)


def test_a_plain_call_has_the_same_config() -> None:
    """The same audio gives the same words, whichever way it goes."""
    streaming = StreamingRecognizeRequest.deserialize(HEBREW.first_request().SerializeToString())
    assert streaming.streaming_config.config == HEBREW.config()


def test_hebrew_with_the_model_for_all_is_what_a_call_gets() -> None:
    """That is the product's own language, with the one model that it is sure to have."""
    assert Recognition() == Recognition("iw-IL", "default", True)


def test_a_refused_model_is_replaced_by_the_default() -> None:
    """From then on, with all else as it was."""
    models = RefusedModels()
    own = Recognition("iw-IL", "phone_call", punctuation=False)
    assert models.instead(own) is own
    models.refuse(own)
    assert models.instead(own) == Recognition("iw-IL", "default", punctuation=False)


@pytest.mark.parametrize(
    "other", [Recognition("en-US", "phone_call"), Recognition("iw-IL", "command_and_search")]
)
def test_a_refusal_is_for_that_language_and_model(other: Recognition) -> None:
    """English keeps the model that Hebrew does not have, and Hebrew its other ones."""
    models = RefusedModels()
    models.refuse(HEBREW)
    assert models.instead(other) is other


def test_each_refusal_is_news_once() -> None:
    """The log says it once for a business; other options do not make it new."""
    models = RefusedModels()
    assert models.refuse(HEBREW)
    assert not models.refuse(HEBREW)
    assert not models.refuse(Recognition("iw-IL", "phone_call", punctuation=False))
    assert models.refuse(Recognition("he-IL", "phone_call"))


def test_a_refusal_that_many_calls_find_at_once_is_news_to_one() -> None:
    """They began together, so they are refused together."""
    models = RefusedModels()
    with hasty_threads(), ThreadPoolExecutor(8) as pool:
        news = list(pool.map(models.refuse, [HEBREW] * 200))
    assert news.count(True) == 1
