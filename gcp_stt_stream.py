"""The Google side of a live call: one recognition session for the whole call.

Audio comes in by `push_audio()` from the call's handler, which never waits. While the stream to
Google keeps up, few frames wait, and one that finds the queue full is dropped: a late frame is
worth less than a late caption. While there is no stream, or a replay goes on, audio waits in the
call's ring. One streaming thread (a greenlet in a gevent worker) runs the streams, which come and
go (`stream_relay`), and hands on what they say.

Nothing on the way of the audio waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from audio_ring import BYTES_PER_MS, BYTES_PER_SECOND
from audio_tick import LONGEST_MS
from call_log import FRAME_SECONDS, CallLog
from call_records import StreamCounts
from fallback import Fallback
from google_stream import GoogleStream
from queue_depth import SAMPLE_SECONDS, QueueDepth
from recognition import DEFAULT_MODEL, Recognition
from relay_limits import RelayLimits
from session_sample import SessionSample
from shared_speech import SharedSpeech
from speech_connections import SpeechConnections
from stream_faults import StreamFault, is_about_model
from stream_feed import StreamFeed
from stream_relay import StreamRelay
from stream_results import StreamResults
from utterances import Final, Interim, Utterance, UtteranceSwitch

# A healthy stream takes a message in a few milliseconds; on a busy machine its turn may take longer
_BURST_SECONDS = 0.3

# What ends itself at its deadline needs its turn to do so; and a cancelled stream as well
_LAST_SECONDS = 0.5

# Silence that is put into one gap, at the most
_FILLED_BYTES = 5 * BYTES_PER_SECOND


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """The limits of a session; the settings that they come from stand in `README.md`."""

    queue_frames: int = 16
    batch_ms: int = 100
    partial_debounce_ms: int = 200
    close_seconds: float = 5.0
    waiting_seconds: float = 300.0  # audio without a final that is kept
    relay: RelayLimits = field(default_factory=RelayLimits)


class StreamingSTTSession:
    """Recognition of one call, from its start to its end.

    `on_partial(Interim)` and `on_final(Final, Utterance)` are fixed for the call; they run in the
    streaming thread and must not block. `utterances` is the call's switch. `shared` is what it
    has in common with the other sessions of its process, `tenant_id` its business. `clock` (of
    arrivals and delays) and `thread_class` are handed in by tests.
    """

    def __init__(
        self,
        connections: SpeechConnections,
        recognition: Recognition,
        *,
        log: CallLog,
        on_partial: Callable[[Interim], None],
        on_final: Callable[[Final, Utterance], None],
        shared: SharedSpeech | None = None,
        tenant_id: str = "default",
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        shared = shared or SharedSpeech()
        self._tenant = shared.tenant(tenant_id)
        self._waiting = shared.waiting
        self._connections = connections
        self._recognition = recognition
        self._log = log
        self.utterances = UtteranceSwitch(self.now_ms, on_interim=on_partial, on_final=on_final)
        self._limits = limits or SessionLimits()
        self._whole = self._limits.batch_ms <= LONGEST_MS  # what one read brings is a message
        self._clock = clock
        self._thread_class = thread_class

        # Written by the call's handler alone until the close, and read by anybody
        self.frames = 0
        self.dropped = 0  # found the queue full
        self._unheard = 0  # came after Google had refused the call
        self.filled_bytes = 0  # silence in gaps
        self.gaps = 0
        self.lost = 0  # frames without text: refused, or waited in vain; known at the close
        self._depth = QueueDepth(self._limits.queue_frames)
        self._next_sample = clock() + SAMPLE_SECONDS

        self._ring = shared.waiting.new_ring(
            self._limits.batch_ms * BYTES_PER_MS,
            int(self._limits.waiting_seconds * BYTES_PER_SECOND),
        )
        self._relay = self._make_relay(shared)
        self._taken = threading.Event()
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._closed = False

        log.session_started()
        self._thread = thread_class(target=self._run, name="stt", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads: the call is refused, and nothing of it stays
            self._waiting.discard(self._ring)
            raise

    def _make_relay(self, shared: SharedSpeech) -> StreamRelay:
        events: SimpleQueue[Any] = SimpleQueue()
        results = StreamResults(
            self._ring,
            self.utterances,
            debounce_ms=self._limits.partial_debounce_ms,
            guard=self._call_back,
            clock=self._clock,
        )
        # What Google got by streams that are over, in bytes; and the feeds of the others
        self._fed: tuple[int, list[StreamFeed]] = (0, [])
        self._fallback = fallback = Fallback(
            self._ring,
            self._connections,
            self._tenant.recovery,
            events,
            recognition=self._recognised_with,
            refused=self._refused,
            thread_class=self._thread_class,
        )

        def new_feed() -> StreamFeed:
            feed = StreamFeed(self._ring, self._limits.batch_ms, on_taken=self._taken_some)
            before, feeds = self._fed
            over = [feed for feed in feeds if feed.is_over]
            live = [feed for feed in feeds if feed not in over]
            self._fed = before + sum([feed.sent_bytes for feed in over]), [*live, feed]
            return feed

        def new_stream(feed: StreamFeed) -> GoogleStream:
            recognition = self._recognised_with()
            return GoogleStream(
                self._connections, recognition, feed, events, thread_class=self._thread_class
            )

        return StreamRelay(
            self._ring,
            results,
            fallback,
            events,
            new_feed=new_feed,
            new_stream=new_stream,
            refused=self._refused,
            recovery=self._tenant.recovery,
            slots=shared.slots,
            limits=self._limits.relay,
            log=self._log,
        )

    # The call's side

    def push_audio(self, frame: bytes) -> bool:
        """Take a frame of 8 kHz mu-law (nominally 160 bytes, 20 ms). Never blocks.

        False if the queue was full, and the frame is dropped and counted; or if the session is
        closed. Only one thread at a time may call it, the call's handler.
        """
        if self._closing.is_set():
            return False
        if not frame:
            return True
        now = self._clock()
        taken = self._take(frame, now)
        self._sample_depth(now)
        return taken

    def push_together(self, frames: list[bytes]) -> None:
        """Take the frames, none of them empty, that one read of the call's socket brought.

        As `push_audio()` takes one; but they go to Google as one message, without waiting for it
        to be full: the next read comes when the next message is due.
        """
        relay, now = self._relay, self._clock()
        room = self._limits.queue_frames - self._waiting_live()
        if len(frames) > room or relay.deaf or self._closing.is_set():
            for frame in frames:
                self.push_audio(frame)
            if self._whole:
                self._ring.flush()  # what came together waits for no more
            return
        if self._ring.extend(frames, now, whole=self._whole):
            self.frames += len(frames)
            if relay.awaiting_audio:
                relay.audio_came()
            self._sample_depth(now)

    def _sample_depth(self, now: float) -> None:
        if now >= self._next_sample:
            self._next_sample = now + SAMPLE_SECONDS
            overload = self._depth.sample(self._waiting_live())
            if overload is not None:
                self._log.overload(overload)

    def _take(self, frame: bytes, now: float) -> bool:
        relay = self._relay
        full = self._waiting_live() >= self._limits.queue_frames
        if not full and not relay.deaf:
            if not self._ring.append(frame, now):
                return False  # closed meanwhile
            self.frames += 1
            if relay.awaiting_audio:
                relay.audio_came()
            return True
        self.frames += 1
        self._ring.skip(len(frame))
        if relay.deaf:
            self._unheard += 1
        else:
            self.dropped += 1
            self._log.frame_dropped(self.dropped)
        return False

    def fill_gap(self, size: int) -> None:
        """So many bytes of audio are missing here: fill the gap with silence, 5 s at most.

        What is more only moves the call's clock, as does what is missing at its start.
        """
        if self._closing.is_set() or self._relay.deaf:
            return
        filled = min(size, _FILLED_BYTES) if self.frames else 0
        self._ring.skip(size - filled)
        if filled:
            self.gaps += 1
            self.filled_bytes += filled
            self._log.gap_filled(filled / BYTES_PER_SECOND, self.gaps)
            self._ring.fill(filled, self._clock())
            feed = self._relay.feed
            if feed is not None:
                feed.expect_burst()

    def has_room(self, frames: int) -> bool:
        """Whether so many frames more fit into the queue now. Never waits."""
        return self._waiting_live() + frames <= self._limits.queue_frames

    def wait_for_room(self, frames: int) -> bool:
        """Give the stream a moment to take what is queued, until so many frames more fit.

        For a burst, audio that the network held up and brought at once: Google takes it faster
        than it is spoken, so nothing need be dropped. False at once or after 0.3 s if it does not.
        """
        most = max(0, self._limits.queue_frames - frames)
        if self._waiting_live() <= most:  # nearly always
            return not self._relay.deaf
        until = time.monotonic() + _BURST_SECONDS
        while self._waiting_live() > most:
            self._taken.clear()
            if self._waiting_live() <= most:
                break  # taken between the look and the clearing
            left = until - time.monotonic()
            if self._closing.is_set() or left <= 0 or not self._taken.wait(left):
                return False
        return not self._relay.deaf

    def _waiting_live(self) -> int:
        """How many frames wait in the queue of a live stream; what waits for one is no queue."""
        feed = self._relay.feed
        return 0 if feed is None or feed.behind else feed.waiting

    def _taken_some(self) -> None:
        if not self._taken.is_set():  # cheaper than to set it again
            self._taken.set()

    def now_ms(self) -> int:
        """How much audio the call has brought, in milliseconds."""
        return self._ring.clock // BYTES_PER_MS

    @property
    def transcribed(self) -> bool:
        """False once Google has refused this call for good."""
        return not self._relay.deaf

    def close(self) -> None:
        """Send what waits, take the last finals and end the thread, within the deadline.

        May be called twice and from any thread; a second caller waits for the end as well.
        """
        with self._close_lock:
            first = not self._closing.is_set()
            self._closing.set()
        if first:
            self._ring.close()
            self._taken.set()
            self._relay.close(self._limits.close_seconds)
        if threading.current_thread() is self._thread:
            if first:  # called by a callback, which cannot wait for its own thread
                self._thread_class(target=self.close, name="stt-close", daemon=True).start()
            return
        self._thread.join(self._limits.close_seconds + _LAST_SECONDS)
        if self._thread.is_alive():  # a listener holds it
            self._relay.abandon()
        with self._close_lock:
            if self._closed:
                return
            left = self._ring.lose(0, self._ring.end)
            self.lost = self._unheard + self._relay.lost_frames + left
            self._closed = True
            self._waiting.discard(self._ring)
        if self.lost:
            self._log.lost(self.lost)
        self._log.session_closed(self.frames, self.dropped, self._ring.clock / BYTES_PER_SECOND)

    def counts(self) -> StreamCounts:
        """What was counted in this session; true once it is closed."""
        return StreamCounts(
            self.frames,
            self.dropped,
            self.lost * FRAME_SECONDS,
            self._relay.rotations,
            self._ring.clock / BYTES_PER_SECOND,
            self._sent_bytes / BYTES_PER_SECOND,
        )

    @property
    def ended(self) -> bool:
        """Whether the session is closed, and its counts are final."""
        return self._closed

    def sample(self) -> SessionSample:
        """How it stands at this moment. Any thread; never waits."""
        relay = self._relay
        feed = relay.feed
        live = feed if feed is not None and not feed.behind else None
        return SessionSample(
            self.frames,
            self.dropped,
            max(self.lost, self._unheard + relay.lost_frames),
            self.gaps,
            self.filled_bytes,
            self._sent_bytes,
            relay.rotations,
            relay.streams,
            0 if live is None else live.waiting,
            None if live is None else live.delay_seconds,
        )

    @property
    def _sent_bytes(self) -> int:
        """How much audio Google got, replays and plain calls included."""
        before, feeds = self._fed
        return before + sum([feed.sent_bytes for feed in feeds]) + self._fallback.sent_bytes

    # The streaming thread

    def _run(self) -> None:
        try:
            self._relay.run()
        except Exception:  # a fault of our own must end in the log, not in a thread that is gone
            self._relay.deaf = True
            self._log.crashed("STT")
        finally:
            self.utterances.closed()

    def _recognised_with(self) -> Recognition:
        return self._tenant.refused_models.instead(self._recognition)

    def _refused(self, fault: StreamFault, used: Recognition) -> bool:
        """Whether another model is worth a try: the one that was used is refused."""
        if used.model == DEFAULT_MODEL or not is_about_model(fault):
            return False
        if self._tenant.refused_models.refuse(used):
            self._log.model_refused(used.model, used.language, str(fault))
        return True

    def _call_back(self, callback: Callable[..., object], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # a listener's fault must not end the recognition of the call
            self._log.crashed("STT")
