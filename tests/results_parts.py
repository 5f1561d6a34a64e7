"""A call whose results are tested without a stream: its ring, its feed, and what listeners hear."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from session_parts import Clock

import speech_messages as messages
from audio_ring import AudioRing
from speech_messages import Message
from stream_feed import StreamFeed
from stream_results import Heard, StreamResults
from utterances import Final, Interim, Utterance, UtteranceSwitch

FRAME = 160
FRAME_MS = 20


class Switch(UtteranceSwitch):
    """The call's switch, which also keeps what it was told was noticed."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(
            lambda: scene.ring.clock // 8,
            on_interim=scene.interims.append,
            on_final=lambda final, utterance: scene.finals.append((final, utterance)),
        )
        self.seen: list[int] = []

    def noticed(self, end_ms: int) -> None:
        self.seen.append(end_ms)
        super().noticed(end_ms)


class Scene:
    """A call whose frames arrive the moment they are spoken, and what its results become.

    The call begins at 100 s; `clock` is the time at which a response comes.
    """

    def __init__(self, *, debounce_ms: int = 0, frames: int = 0) -> None:
        self.clock = Clock(100.0)
        self.ring = AudioRing(5 * FRAME, 10**6)
        self.interims: list[Interim] = []
        self.finals: list[tuple[Final, Utterance]] = []
        self.guarded = 0
        self.switch = Switch(self)
        self.results = StreamResults(
            self.ring,
            self.switch,
            debounce_ms=debounce_ms,
            guard=self._guard,
            clock=self.clock,
        )
        self.feed = self.new_stream(0)
        self.push(frames)
        self.send()

    def _guard(self, callback: Callable[..., object], *arguments: object) -> None:
        self.guarded += 1
        callback(*arguments)

    def new_stream(self, position: int) -> StreamFeed:
        """Another stream, which gets the ring's audio from there on."""
        # whenever it looks, a second is over: it never waits
        self.feed = StreamFeed(self.ring, 100, clock=count(1).__next__)
        self.feed.start(position)
        self.results.begin_at(position)
        self.covered = position
        return self.feed

    def push(self, frames: int) -> None:
        for _ in range(frames):
            self.clock.now = 100 + (self.ring.clock + FRAME) / 8000
            self.ring.append(b"\x80" * FRAME, self.clock.now)

    def drop(self, frames: int) -> None:
        self.ring.skip(frames * FRAME)

    def fill(self, frames: int) -> None:
        self.ring.fill(frames * FRAME, 100 + (self.ring.clock + frames * FRAME) / 8000)

    def send(self) -> None:
        """All that is in the ring goes to Google."""
        self.ring.flush()
        while self.ring.read(self.feed.position) is not None:
            assert self.feed.take()

    def hear(self, *responses: Message) -> list[Heard]:
        """Take responses; the ring lets go of what they cover, as in a call."""
        heard = []
        for response in responses:
            heard.append(self.results.hand_on(response, self.feed))
            if (covered := heard[-1].covered) is not None:
                self.ring.release(self.covered, covered)
                self.covered = max(self.covered, covered)
        return heard

    def spans(self) -> list[tuple[str, int, int]]:
        return [(final.text, final.start_ms, final.end_ms) for final, _ in self.finals]


def without_time(response: Message) -> Message:
    for result in response.results:
        result.ClearField("result_end_time")
    return response


def plain(*responses: Message) -> list[Message]:
    """As a plain call gives them."""
    return [messages.plain_result(response.results[0]) for response in responses]
