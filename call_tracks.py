"""The recognition sessions of a call's tracks: the caller's, and in a forwarded call both sides'.

To the registry they are one session: they are closed together, each in its own time.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

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

    def wait_for_room(self, frames: int) -> bool: ...

    def close(self) -> None: ...


def track_of(name: str) -> str | None:
    """The track that Twilio means by a name; None if it is none."""
    return _NAMES.get(name)


class CallTracks:
    """One session a track, made by `open_session(track)`; the track is "" if it is the only one."""

    def __init__(self, tracks: list[str], open_session: Callable[[str], TrackSession]) -> None:
        found = {track for name in tracks if (track := track_of(name)) is not None}
        names = sorted(found) or [INBOUND]
        self._sessions: dict[str, TrackSession] = {}
        try:
            for name in names:
                self._sessions[name] = open_session(name if len(names) > 1 else "")
        except BaseException:  # whatever it was, a session that is open must not stay so
            self.close()
            raise
        self._clocks = {name: MediaClock() for name in names}

    def push(self, frames: list[MediaBody]) -> int:
        """Hand frames that came together to their tracks' sessions.

        Returns how many are of no track of this call.
        """
        foreign = 0
        coming: dict[str, list[bytes]] = {}
        for frame in frames:
            name = track_of(frame.track)
            session = self._sessions.get(name) if name is not None else None
            if name is None or session is None:
                foreign += 1
                continue
            gap = self._clocks[name].gap_before(frame.timestamp, len(frame.payload))
            if gap:
                if name in coming:
                    session.push_together(coming.pop(name))
                session.fill_gap(gap)
            if name in coming:
                coming[name].append(frame.payload)
            else:
                coming[name] = [frame.payload]
        for name, payloads in coming.items():
            self._sessions[name].push_together(payloads)
        return foreign

    def wait_for_room(self, frames: int) -> bool:
        """Give the streams a moment to take what is queued; False if one of them does not."""
        return all(session.wait_for_room(frames) for session in self._sessions.values())

    def close(self) -> None:
        """Close all sessions, at once; returns when they are closed."""
        here = list(self._sessions.values())
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
