"""The recognition sessions of a call's tracks: the caller's, and in a forwarded call both sides'.

To the registry they are one session: they are closed together, each in its own time.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Protocol

from call_records import StreamCounts
from media_clock import MediaClock
from twilio_messages import MediaBody

INBOUND, OUTBOUND = "inbound", "outbound"
# The names that Twilio has for them, in messages and in TwiML
_NAMES = {
    "": INBOUND,
    "inbound": INBOUND,
    "inbound_track": INBOUND,
    "outbound": OUTBOUND,
    "outbound_track": OUTBOUND,
}


class TrackSession(Protocol):
    """What a track needs of a recognition session."""

    def push_together(self, frames: list[bytes]) -> None: ...

    def fill_gap(self, size: int) -> None: ...

    def has_room(self, frames: int) -> bool: ...

    def wait_for_room(self, frames: int) -> bool: ...

    def counts(self) -> StreamCounts: ...

    def close(self) -> None: ...


def track_of(name: str) -> str | None:
    """The track that Twilio means by a name; None if it is none."""
    return _NAMES.get(name)


class _Track:
    """A track's session, its clock, and the frames of a burst that are for it."""

    __slots__ = ("clock", "coming", "session")

    def __init__(self, session: TrackSession) -> None:
        self.session = session
        self.clock = MediaClock()
        self.coming: list[bytes] = []

    def hand_on(self) -> None:
        coming, self.coming = self.coming, []
        self.session.push_together(coming)


class CallTracks:
    """One session a track, made by `open_session(track)`; the track is "" if it is the only one."""

    def __init__(self, tracks: list[str], open_session: Callable[[str], TrackSession]) -> None:
        found = {track for name in tracks if (track := track_of(name)) is not None}
        names = sorted(found) or [INBOUND]
        self._tracks: dict[str, _Track] = {}
        try:
            for name in names:
                self._tracks[name] = _Track(open_session(name if len(names) > 1 else ""))
        except BaseException:  # whatever it was, a session that is open must not stay so
            self.close()
            raise
        # By all names that Twilio has for them
        self._named = {
            name: self._tracks[track] for name, track in _NAMES.items() if track in self._tracks
        }

    def push(self, frames: list[MediaBody]) -> int:
        """Hand frames that came together to their tracks' sessions.

        Returns how many are of no track of this call.
        """
        foreign = 0
        for frame in frames:
            track = self._named.get(frame.track)
            if track is None:
                foreign += 1
                continue
            payload = frame.payload
            gap = track.clock.gap_before(frame.timestamp, len(payload))
            if gap:
                if track.coming:
                    track.hand_on()
                track.session.fill_gap(gap)
            track.coming.append(payload)
        for track in self._tracks.values():
            if track.coming:
                track.hand_on()
        return foreign

    def has_room(self, frames: int) -> bool:
        """Whether so many frames fit now, whichever track they are of."""
        return all([track.session.has_room(frames) for track in self._tracks.values()])

    def wait_for_room(self, frames: int) -> bool:
        """Give the streams a moment to take what is queued; False if one of them does not."""
        return all([track.session.wait_for_room(frames) for track in self._tracks.values()])

    def counts(self) -> StreamCounts:
        """What was counted on all tracks; true once they are closed."""
        counts = [track.session.counts() for track in self._tracks.values()]
        return functools.reduce(StreamCounts.joined, counts)

    def close(self) -> None:
        """Close all sessions, at once; returns when they are closed."""
        here = [track.session for track in self._tracks.values()]
        threads: list[threading.Thread] = []
        for session in here[1:]:
            thread = threading.Thread(target=session.close, name="close-track", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is shutting down
                continue
            threads.append(thread)
            here.remove(session)
        try:
            with contextlib.ExitStack() as each:  # each, whatever the one before it did
                for session in here:
                    each.callback(session.close)
        finally:
            for thread in threads:
                thread.join()
