"""Real recognition: the words of the sample calls, end-pointing, and what must stay silent."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import jiwer
import numpy as np
import pytest
from google.cloud import speech_v1 as speech
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport

import speech_messages as messages
from end_pointing import (
    CHUNK_SECONDS,
    AudioDecoder,
)
from local_recogniser import WhisperRecogniser
from speech_server_thread import SpeechServerThread

SAMPLES = Path(__file__).parent.parent / "samples"
MILLISECOND = 8  # bytes of 8 kHz mu-law
Request = speech.StreamingRecognizeRequest


def mulaw(name: str) -> bytes:
    """The audio of a sample call: the wave module does not read mu-law."""
    data = (SAMPLES / f"{name}.wav").read_bytes()
    return data[data.index(b"data") + 8 :]


def first_sentence() -> bytes:
    """The audio of the first line of the garage's sample; a pause follows it."""
    return mulaw("garage-quote")[: 4000 * MILLISECOND]


def words(text: str) -> str:
    """Text without case and punctuation."""
    return " ".join(re.sub(r"[^\w\s']", " ", text.lower()).split())


def wrong_share(name: str, text: str, lines: int | None = None) -> float:
    """The word error rate of a text against what a sample says, in its first `lines` or in all."""
    right = " ".join((SAMPLES / f"{name}.txt").read_text().splitlines()[:lines])
    return float(jiwer.wer(words(right), words(text)))


@pytest.fixture(scope="module")
def server() -> Iterator[SpeechServerThread]:
    """One server for all tests: the model takes a second to load."""
    with SpeechServerThread(WhisperRecogniser()) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: SpeechServerThread) -> Any:
    """Google's own client."""
    channel = grpc.insecure_channel(server.address)
    return speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))


def config_of(*, recognition: dict[str, Any] | None = None, **fields: Any) -> Any:
    """A streaming config for English mu-law, changed as a test needs."""
    config = {
        "encoding": "MULAW",
        "sample_rate_hertz": 8000,
        "language_code": "en-US",
        "enable_automatic_punctuation": True,
    }
    return speech.StreamingRecognitionConfig(
        config=speech.RecognitionConfig(**(config | (recognition or {}))),
        **({"interim_results": True, "enable_voice_activity_events": True} | fields),
    )


FINALS_ONLY = config_of(interim_results=False)


def messages_of(audio: bytes, size: int = 800) -> Iterator[Request]:
    """Audio as the service sends it, but faster than real time."""
    return (Request(audio_content=audio[at : at + size]) for at in range(0, len(audio), size))


@pytest.fixture(scope="module")
def garage(client: Any) -> list[Any]:
    """The responses to a stream of the garage's sample."""
    audio = messages_of(mulaw("garage-quote"))
    return list(client.streaming_recognize(config_of(), audio, retry=None))


def finals(responses: list[Any]) -> list[Any]:
    """The final results among the responses."""
    return [r.results[0] for r in responses if r.results and r.results[0].is_final]


def said(responses: list[Any]) -> str:
    """All finals, one behind the other as they came."""
    return "".join(result.alternatives[0].transcript for result in finals(responses))


# Words.


def test_words_of_the_samples(client: Any, garage: list[Any]) -> None:
    """At most one word in twenty is wrong, in both methods."""
    clinic = mulaw("clinic-appointment")
    streamed = client.streaming_recognize(FINALS_ONLY, messages_of(clinic), retry=None)
    assert wrong_share("clinic-appointment", said(list(streamed))) <= 0.05
    assert wrong_share("garage-quote", said(garage)) <= 0.05
    audio = {"content": first_sentence()}
    whole = client.recognize(config=config_of().config, audio=audio, retry=None)
    text = "".join(result.alternatives[0].transcript for result in whole.results)
    assert wrong_share("garage-quote", text, lines=1) == 0


def test_finals_of_a_stream(garage: list[Any]) -> None:
    """Finals have confidence, rising times and the spaces between them; events enclose them."""
    results = finals(garage)
    assert len(results) == 3
    for result in results:
        assert 0.5 < result.alternatives[0].confidence <= 1
        assert result.stability == 0
        assert result.language_code == "en-us"
    spaces = [result.alternatives[0].transcript[0] == " " for result in results]
    assert spaces == [False, True, True]
    settled = [r for r in garage if not r.results or r.results[0].is_final]
    kinds = ["final" if r.results else r.speech_event_type.name[16:] for r in settled]
    assert kinds == ["BEGIN", "END", "final"] * 3


def test_result_times_are_of_this_streams_audio(client: Any) -> None:
    """Silence before a call moves its finals by its length, to a chunk of the detector."""
    ends = []
    for lead in (0, 1500):
        requests = messages_of(b"\xff" * lead * MILLISECOND + first_sentence())
        responses = list(client.streaming_recognize(FINALS_ONLY, requests, retry=None))
        ends.append(finals(responses)[0].result_end_time.total_seconds())
    assert ends[1] - ends[0] == pytest.approx(1.5, abs=2 * CHUNK_SECONDS)
    assert ends[0] == pytest.approx(3.14, abs=0.1)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_linear_audio(client: Any, rate: int) -> None:
    """LINEAR16 at both rates has the same words, however the bytes are cut."""
    data = np.frombuffer(first_sentence(), np.uint8)
    decoder = AudioDecoder(messages.MULAW, rate=8000 if rate == 16000 else 16000)
    audio = (decoder.decode(data.tobytes(), last=True) * 32767).astype("<i2").tobytes()
    config = config_of(recognition={"encoding": "LINEAR16", "sample_rate_hertz": rate})
    responses = list(client.streaming_recognize(config, messages_of(audio, 801), retry=None))
    assert wrong_share("garage-quote", said(responses), lines=1) == 0


def test_without_punctuation(client: Any) -> None:
    """Unless it is asked for there is no punctuation, and all words are there."""
    config = config_of(recognition={"enable_automatic_punctuation": False})
    requests = messages_of(first_sentence())
    text = said(list(client.streaming_recognize(config, requests, retry=None)))
    assert not set(",.?!") & set(text)
    assert wrong_share("garage-quote", text, lines=1) == 0


def test_speech_without_pauses_is_cut_without_loss(client: Any) -> None:
    """Half a minute of speech without a pause comes as several finals, hardly a word wrong."""
    audio, text = b"", ""
    for name in ("clinic-appointment", "garage-quote"):
        audio += without_pauses(mulaw(name))
        text += (SAMPLES / f"{name}.txt").read_text()
    responses = list(client.streaming_recognize(FINALS_ONLY, messages_of(audio), retry=None))
    assert 2 <= len(finals(responses)) <= 4
    assert jiwer.wer(words(text), words(said(responses))) <= 0.08


def without_pauses(audio: bytes) -> bytes:
    """Mu-law without its silent stretches of more than a tenth of a second."""
    table = np.abs(AudioDecoder(messages.MULAW, 16000).decode(audio))
    frames = len(audio) // 160
    loud = table[: frames * 160].reshape(frames, 160).max(axis=1) > 0.004
    near = np.convolve(loud, np.ones(7), "same") > 0
    return b"".join(audio[n * 160 : n * 160 + 160] for n in range(frames) if near[n])


# While the speaker goes on.


def test_interims_while_the_speaker_goes_on(server: SpeechServerThread, client: Any) -> None:
    """In the middle of an utterance an interim with stability comes, without any final."""
    audio = mulaw("clinic-appointment")[: 3500 * MILLISECOND]
    sent: queue.Queue[Request | None] = queue.Queue()
    for request in messages_of(audio):
        sent.put(request)
    call = client.streaming_recognize(config_of(), iter(sent.get, None), retry=None)
    first = next(call)
    assert first.speech_event_type.name == "SPEECH_ACTIVITY_BEGIN"
    result = next(call).results[0]
    assert not result.is_final
    assert "hello" in words(result.alternatives[0].transcript)
    assert 0 < result.stability < 1
    assert result.alternatives[0].confidence == 0
    sent.put(None)
    assert finals(list(call))
    server.wait_for(lambda: server.open_streams == 0)


def test_half_close_in_the_middle_of_a_word(client: Any) -> None:
    """What was said up to the half-close comes as a final, and the stream ends OK."""
    audio = mulaw("clinic-appointment")[: 4000 * MILLISECOND]
    responses = list(client.streaming_recognize(config_of(), messages_of(audio), retry=None))
    assert words(said(responses)).startswith("hello my name is")
    assert responses[-1].results[0].is_final


def test_single_utterance(server: SpeechServerThread, client: Any) -> None:
    """After one utterance the server says so, sends one final and ends the stream by itself."""
    sent: queue.Queue[Request | None] = queue.Queue()
    for request in messages_of(mulaw("garage-quote")):
        sent.put(request)
    config = config_of(single_utterance=True, enable_voice_activity_events=False)
    responses = list(client.streaming_recognize(config, iter(sent.get, None), retry=None))
    sent.put(None)
    kinds = [r.speech_event_type.name for r in responses if not r.results]
    assert kinds == ["END_OF_SINGLE_UTTERANCE"]
    assert "good afternoon" in words(said(responses))
    assert len(finals(responses)) == 1
    assert server.streams[-1].ended == "finished"


def test_a_cancelled_stream_leaves_no_work(server: SpeechServerThread) -> None:
    """A client that goes away takes its waiting recognition with it."""
    channel = grpc.insecure_channel(server.address)
    client: Any = speech.SpeechClient(transport=SpeechGrpcTransport(channel=channel))
    sent: queue.Queue[Request | None] = queue.Queue()
    for request in messages_of(mulaw("clinic-appointment")):
        sent.put(request)
    call = client.streaming_recognize(config_of(), iter(sent.get, None), retry=None)
    next(call)
    call.cancel()
    sent.put(None)
    server.wait_for(lambda: server.streams[-1].ended == "cancelled" and server.open_streams == 0)
    channel.close()


def test_nothing_for_silence_and_noise(client: Any) -> None:
    """Silence, hiss, a tone and clicks bring no response at all."""
    dice = np.random.default_rng(3)
    length = 4 * 8000
    hiss = dice.normal(0, 0.02, length)
    tone = 0.2 * np.sin(np.arange(length) * 2 * np.pi * 440 / 8000)
    clicks = np.where(np.arange(length) % 4000 < 20, 0.7, 0.0)
    config = config_of(recognition={"encoding": "LINEAR16"})
    for sound in (np.zeros(length), hiss, tone, clicks):
        audio = (sound * 32767).astype("<i2").tobytes()
        assert list(client.streaming_recognize(config, messages_of(audio), retry=None)) == []


# What it refuses.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"language_code": "iw-IL"}, "reads English only, asked for iw-IL"),
        ({"sample_rate_hertz": 44100}, "takes 8000 and 16000, asked for 44100"),
        ({"model": "medical_dictation"}, "asked for medical_dictation"),
        ({"encoding": "FLAC"}, "bad encoding"),
    ],
)
def test_refusals_say_why(client: Any, fields: dict[str, Any], reason: str) -> None:
    """What this recogniser cannot serve is INVALID_ARGUMENT with the reason."""
    with pytest.raises(Exception, match=f"^400 Invalid recognition 'config'.*{reason}"):
        list(
            client.streaming_recognize(
                config_of(recognition=fields), messages_of(b"\xff" * 800), retry=None
            )
        )


@pytest.mark.parametrize("model", ["", "default", "phone_call", "telephony", "latest_long"])
def test_models_that_are_served(client: Any, model: str) -> None:
    """Google's models for calls and talk are all served, in any English."""
    config = config_of(recognition={"model": model, "language_code": "en-GB"})
    assert not list(client.streaming_recognize(config, messages_of(b"\xff" * 800), retry=None))
