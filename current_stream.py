"""The stream that is responsible for a call's audio: what it has done, and how it ended.

Runs in the call's streaming thread. It decides nothing; a fresh one comes with each stream, so
that nothing of the one before is left over.
"""

from __future__ import annotations

from google_stream import GoogleStream
from rotation import Rotation, StreamAge
from stream_results import Heard
from stream_trouble import is_healthy
from stream_watch import StreamWatch

# A stream that is refused is refused sooner
_PROOF_SECONDS = 5.0


class CurrentStream:
    """`stream` as the current one of its call.

    `rotation` has the stream's limits. `watch` is the call's: it goes from stream to stream. Times
    are seconds on the stream's clock, positions the ring's.
    """

    def __init__(self, stream: GoogleStream, rotation: Rotation, watch: StreamWatch) -> None:
        self.stream = stream
        self.rotation = rotation
        self.progressed = False  # it has had a final
        self.noticed = 0  # its interims go up to here
        self.drained_by: float | None = None  # no more audio comes: it must have ended by then
        self._watch = watch
        self._proved = False
        watch.follow()

    @property
    def is_steady(self) -> bool:
        """Whether it is open, and nothing is asked of it but to go on."""
        return self.drained_by is None and self.stream.opened_at is not None

    @property
    def age(self) -> StreamAge:
        """How much audio it has had."""
        return StreamAge(self.stream.feed.sent_bytes, self.stream.feed.quiet_bytes)

    def prove(self) -> bool:
        """Google takes it. Whether that is news."""
        news, self._proved = not self._proved, True
        return news

    def is_taken(self, now: float) -> bool:
        """Whether Google takes it, to judge by its time alone: where nobody speaks is no answer."""
        opened_at = self.stream.opened_at
        return opened_at is not None and now - opened_at >= _PROOF_SECONDS

    def answered(self, heard: Heard) -> None:
        """Google answered, and this was heard."""
        self._watch.answered()
        self.noticed = heard.noticed or self.noticed
        if heard.covered is not None:
            self.progressed = True

    def is_stuck(self, end: int, now: float) -> bool:
        """Whether it takes none of the audio that there is, up to the position `end`."""
        return self.is_steady and self._watch.is_stuck(self.stream.feed.position, end, now)

    def is_mute(self) -> float:
        """The seconds of speech that it should have answered; 0 if it is not to blame."""
        return self._watch.is_mute(self.stream.feed.unanswered_loud_bytes)

    def lived(self, now: float) -> float:
        """How old it is."""
        return now - self.stream.begun_at

    def was_healthy(self, now: float) -> bool:
        """Whether it was a healthy one, now that it is over."""
        opened = self.stream.opened_at is not None
        return is_healthy(self.lived(now), opened=opened, answered=self.stream.answered)

    def heard_all(self, covered: int) -> bool:
        """Whether no words were in what its finals do not cover, now that it ended in order.

        Not if an interim goes beyond `covered` and had no final, nor if speech had no answer.
        """
        return self.noticed <= covered and not self._watch.is_doubtful
