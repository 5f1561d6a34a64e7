"""A stream of which the test decides what happens to it, for the parts that only keep streams."""

from __future__ import annotations

from typing import cast

from google_stream import GoogleStream
from stream_feed import StreamFeed


class StillStream:
    """What a `GoogleStream` is to whoever keeps it; `told` is what it was told to do."""

    def __init__(self, feed: StreamFeed, begun_at: float = 100.0) -> None:
        self.feed = feed
        self.begun_at = begun_at
        self.opened_at: float | None = None
        self.answered = False
        self.told: list[str] = []

    def as_stream(self) -> GoogleStream:
        return cast(GoogleStream, self)

    def half_close(self) -> None:
        self.told.append("half-close")

    def cancel(self) -> None:
        self.told.append("cancel")

    def distrust_connection(self) -> None:
        self.told.append("distrust")
