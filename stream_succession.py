"""The stream that is to follow a call's current one: when it may be opened, when it takes over.

It is opened while the current one is healthy, which goes on until the other has stood for a
moment: Google may still refuse it. Runs in the call's streaming thread; times are seconds on its
clock.
"""

from __future__ import annotations

from google_stream import GoogleStream


class StreamSuccession:
    """Who follows; `settle_seconds` is how long an opened stream may still be refused."""

    def __init__(self, settle_seconds: float) -> None:
        self.following: GoogleStream | None = None
        self.change_at: float | None = None  # when it takes over
        self.not_before = float("-inf")  # no stream is replaced
        self.why = ""  # the current one is replaced
        self._settle_seconds = settle_seconds

    def is_free(self, now: float) -> bool:
        """Whether a stream to follow may be opened."""
        return self.following is None and now >= self.not_before

    def opened(self, stream: GoogleStream, now: float) -> None:
        """`stream` is on its way, whichever it is."""
        if stream is self.following:
            self.change_at = now + self._settle_seconds

    def is_due(self, now: float) -> bool:
        """Whether the current stream is to come to its end now."""
        return self.change_at is not None and now >= self.change_at

    def changing(self) -> None:
        """The current stream comes to its end."""
        self.change_at = None

    def refused(self, not_before: float) -> None:
        """The one that should follow is over, or could not be had; the next try is then."""
        self.following = self.change_at = None
        self.not_before = not_before

    def take(self) -> GoogleStream | None:
        """The one that follows, if there is one: it is the current one from now on."""
        following, self.following, self.change_at = self.following, None, None
        return following

    def cancel(self) -> None:
        """Nobody follows any more."""
        following = self.take()
        if following is not None:
            following.cancel()
