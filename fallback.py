"""Recognition after the fact: audio for which no stream could be had goes through plain calls.

The audio stays in the call's ring. It is cut into pieces of at most 55 s (Google takes 60), at a
breath if there is one, and each goes through one `Recognize` call, one after the other, in a
thread of its own; what Google says to it is put into `events`, as that of the streams is. A piece
is tried until Google takes it, refuses it for good, or the call is over.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
from google.cloud.speech_v1.types import RecognitionAudio, RecognizeRequest

from audio_ring import BYTES_PER_SECOND, AudioRing, Chunk
from loudness import is_loud
from recognition import Recognition
from recovery import LONGEST_BREAK_SECONDS, Recovery
from speech_connections import SpeechConnections
from stream_faults import Code, Remedy, StreamFault, classify

PIECE_BYTES = 55 * BYTES_PER_SECOND
# A breath is looked for in so much of a piece's end
_BREATH_BYTES = 5 * BYTES_PER_SECOND
_CALL_SECONDS = 60.0
_EXHAUSTED_SECONDS = 15.0
_STOP_SECONDS = 0.5  # a call that is cancelled ends as soon as its thread gets its turn


class Piece(NamedTuple):
    """A piece of the ring's audio, by its positions."""

    start: int
    end: int


class Recorded(NamedTuple):
    """What became of a piece: its raw results, or None if it was given up, and for which fault.

    `sent_from`: what lay before this position had been evicted and was not sent.
    """

    piece: Piece
    sent_from: int
    results: list[Any] | None
    fault: StreamFault | None = None


def cut(chunks: list[Chunk], start: int, end: int) -> list[Piece]:
    """Cut the audio from `start` to `end`, which is kept in `chunks`, into pieces."""
    pieces: list[Piece] = []
    began = start
    breath = start
    for chunk in chunks:
        if chunk.end - began > PIECE_BYTES:
            at = breath if breath > began + PIECE_BYTES - _BREATH_BYTES else chunk.start
            if at > began:
                pieces.append(Piece(began, at))
                began = at
        if not is_loud(chunk.audio):
            breath = chunk.end
    if end > began:
        pieces.append(Piece(began, end))
    return pieces


def last_breath(chunks: list[Chunk]) -> int:
    """Where to cut this audio: at its last breath, or else soon after its start.

    Between two chunks, because the outer ones may be parts that are cut anywhere.
    """
    quiet = [chunk.end for chunk in chunks if not is_loud(chunk.audio)]
    return quiet[-1] if quiet else chunks[0].end


class Fallback:
    """The pieces of one call, in order, and the thread that has them recognised.

    `recognition()` is asked for each call; `refused(fault, recognition)` is told of a permanent
    fault of one and says whether another recognition is worth a try.
    """

    def __init__(
        self,
        ring: AudioRing,
        connections: SpeechConnections,
        recovery: Recovery,
        events: SimpleQueue[Any],
        *,
        recognition: Callable[[], Recognition],
        refused: Callable[[StreamFault, Recognition], bool],
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self._ring = ring
        self._connections = connections
        self._recovery = recovery
        self._events = events
        self._recognition = recognition
        self._refused = refused
        self._thread_class = thread_class
        self._lock = threading.Lock()
        self._pieces: deque[Piece] = deque()
        self._working = False
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._call: Any = None
        self.sent_bytes = 0  # of audio, in all calls
        self.unfinished = 0  # pieces of which the streaming thread has not heard yet

    # The streaming thread

    def add(self, start: int, end: int) -> None:
        """Have the ring's audio from `start` to `end` recognised."""
        pieces = cut(self._ring.chunks(start, end), start, end)
        self.unfinished += len(pieces)
        with self._lock:
            self._pieces.extend(pieces)
            idle, self._working = not self._working, True
        if idle:
            self._thread = self._thread_class(target=self._work, name="stt-fallback", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Try no more; what has no result yet gets none."""
        self._over.set()
        call = self._call
        if call is not None:
            call.cancel()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    # Its own thread

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._pieces or self._over.is_set():
                    self._working = False
                    return
                piece = self._pieces.popleft()
            self._events.put(self._recognise(piece))

    def _recognise(self, piece: Piece) -> Recorded:
        attempt = 0
        fault: StreamFault | None = None
        while not self._over.is_set():
            chunks = self._ring.chunks(*piece)
            if not chunks:
                break
            recognition = self._recognition()
            try:
                results = self._ask(recognition, b"".join(chunk.audio for chunk in chunks))
                return Recorded(piece, chunks[0].start, results)
            except grpc.FutureCancelledError:  # by stop()
                break
            except grpc.RpcError as error:
                fault = StreamFault.of(error)
            except Exception as error:  # no connection: the next try may have one
                fault = StreamFault(Code.UNKNOWN, repr(error))
            remedy = classify(fault)
            if remedy is Remedy.PERMANENT:
                if not self._refused(fault, recognition):
                    break
            elif remedy is Remedy.LONG_BACK_OFF:
                self._over.wait(self._long_pause(attempt))
            else:
                self._over.wait(self._recovery.pause(attempt))
            attempt += 1
        return Recorded(piece, piece.end, None, fault)

    def _long_pause(self, attempt: int) -> float:
        """A quota is used up: calls that wait for it must not all come back at once."""
        longest = min(LONGEST_BREAK_SECONDS, _EXHAUSTED_SECONDS * 2.0 ** min(attempt, 10))
        return max(self._recovery.broken_for(), longest) * random.uniform(0.75, 1.25)

    def _ask(self, recognition: Recognition, audio: bytes) -> list[Any]:
        request = RecognizeRequest.pb(
            RecognizeRequest(config=recognition.config(), audio=RecognitionAudio(content=audio))
        )
        connection = self._connections.lease()
        self.sent_bytes += len(audio)
        try:
            self._call = connection.recognize(request, _CALL_SECONDS)
            if self._over.is_set():  # stopped meanwhile, without this call to cancel
                self._call.cancel()
            return list(self._call.result().results)
        finally:
            self._call = None
            self._connections.release(connection)
