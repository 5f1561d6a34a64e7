"""One stream to Google: a single `StreamingRecognize` call, from its first message to its end.

gRPC takes the requests in a thread of its own, which waits in the stream's feed; a thread of ours
reads the responses, or only waits for the end where the connection's reader brings them. All only
pass on: what happens to the stream is put into `events`, and the call's streaming thread decides
what follows from it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from queue import SimpleQueue
from typing import Any, NamedTuple

import grpc
from google.cloud.speech_v1.types import StreamingRecognizeRequest

from recognition import Recognition
from speech_connections import SpeechConnections
from stream_faults import Code, StreamFault
from stream_feed import StreamFeed

_Request: Any = StreamingRecognizeRequest.pb()


class What(Enum):
    """What can happen to a stream."""

    OPENED = "its first message is on its way"
    RESPONSE = "Google answered"
    ENDED = "it is over"


class StreamEvent(NamedTuple):
    """Something that happened to `stream`. ENDED has the fault, or None for a regular end."""

    stream: GoogleStream
    what: What
    response: Any = None  # a raw StreamingRecognizeResponse
    fault: StreamFault | None = None


class GoogleStream:
    """A stream that takes its audio from `feed`.

    `recognition` is what it is opened with. It holds a place on one of the `connections`
    while it lives. Times are seconds on `clock`.
    """

    def __init__(
        self,
        connections: SpeechConnections,
        recognition: Recognition,
        feed: StreamFeed,
        events: SimpleQueue[Any],
        *,
        clock: Callable[[], float] = time.monotonic,
        thread_class: type[threading.Thread] = threading.Thread,
    ) -> None:
        self.recognition = recognition
        self.feed = feed
        self.begun_at = clock()
        self.opened_at: float | None = None
        self.answered = False
        self._connections = connections
        self._first_request = recognition.first_request()
        self._events = events
        self._clock = clock
        self._connection = connections.lease()
        try:
            self._call = self._connection.streaming_recognize(self._requests())
            send_now = getattr(self._call, "send_now", None)  # gRPC's own calls have none
            if send_now is not None:
                feed.send_now = lambda audio: send_now(_head(len(audio)) + audio)
            hear = getattr(self._call, "hear", None)
            if hear is not None:  # each response would wake up a thread, only to wake up another
                hear(self._hear)
            try:
                thread_class(target=self._read, name="stt-read", daemon=True).start()
            except BaseException:  # nobody will read it, and gRPC's thread waits in the feed
                self.cancel()
                raise
        except BaseException:  # whatever it was, the place on the connection is given back
            connections.release(self._connection)
            raise

    def half_close(self) -> None:
        """Send no more audio; Google gives its last finals and ends the stream."""
        self.feed.stop()

    def cancel(self) -> None:
        """End the stream at once."""
        self._call.cancel()  # first: the end of the requests would be a half-close
        self.feed.stop()

    def distrust_connection(self) -> None:
        """This stream hangs; open the next ones over a new connection."""
        self._connections.retire(self._connection)

    def _requests(self) -> Iterator[Any]:
        yield self._first_request
        # gRPC comes back for the next message when the one before is on its way
        self.opened_at = self._clock()
        self._events.put(StreamEvent(self, What.OPENED))
        while audio := self.feed.take():
            yield _Request(audio_content=audio)

    def _hear(self, response: Any) -> None:
        self.answered = True
        self.feed.answered()
        self._events.put(StreamEvent(self, What.RESPONSE, response))

    def _read(self) -> None:
        fault = None
        try:
            for response in self._call:
                self._hear(response)
        except grpc.RpcError as error:
            fault = StreamFault.of(error)
        except Exception as error:  # whatever it is, it is no regular end of the stream
            fault = StreamFault(Code.UNKNOWN, repr(error))
        finally:
            # gRPC's thread still waits in the feed
            self.feed.stop()
            self.feed.send_now = None  # the feed may be kept for longer than the call and all of it
            self._connections.release(self._connection)
            self._events.put(StreamEvent(self, What.ENDED, fault=fault))


@functools.lru_cache
def _head(size: int) -> bytes:
    """What stands before the audio, which comes last, in a request of so many bytes of it."""
    request: bytes = _Request(audio_content=bytes(size)).SerializeToString()
    return request[:-size]
