"""What became of a placed call: what the caller heard, the streams, the webhooks, the statuses.

Pure: filled in by `twilio_placed_call` while the call goes on, and may be watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from twilio_stream import CallReport

HeardKind = Literal[
    "ring",  # until the call is answered
    "say",  # text, language
    "play",  # text: the address
    "dial",  # text: who is called; it rings
    "talk",  # with the business
    "silence",
    "audio",  # that a stream played
    "busy tone",
    "not in service",  # the network's announcement
    "application error",  # Twilio's announcement
]

# Going away, restarting, full: the TwiML must carry the call on
GOOD_RESTARTS = frozenset({1001, 1012, 1013})
# Close codes with which no trouble of ours is answered: broken off, and an internal error.
SERVICES_FAULTS = frozenset({1006, 1011})


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that the caller heard."""

    kind: HeardKind
    text: str = ""
    language: str = ""  # of `say`
    seconds: float = 0.0

    def __str__(self) -> str:
        words = [self.kind, self.language and f"({self.language})", self.text]
        if self.seconds:
            words.append(f"{self.seconds:.1f} s")
        return " ".join(filter(None, words))


class Webhook(NamedTuple):
    """A request for TwiML and its answer; status 0 if none came."""

    path: str
    status: int
    twiml: str


class Status(NamedTuple):
    """A status callback of the call or of a stream, and its answer; status 0 if none came."""

    path: str
    status: int
    form: Mapping[str, str]


@dataclass(slots=True)
class PlacedCallReport:
    """What became of one placed call."""

    call_sid: str = ""
    number: str = ""
    state: Literal["waiting", "ringing", "in progress", "ended"] = "waiting"
    call_status: str = ""  # Twilio's word for how the call ended: completed, busy, no-answer …
    seconds: float = 0.0  # from the answer to the end
    spoken_frames: int = 0  # by the caller, up to now
    unsent_seconds: float = 0.0  # of what the caller said, went into no stream
    heard: list[Heard] = field(default_factory=list)
    streams: list[CallReport] = field(default_factory=list)
    second_sockets: list[CallReport] = field(default_factory=list)  # of chaos
    webhooks: list[Webhook] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # one line each: what failed, how to mend it

    @property
    def ok(self) -> bool:
        """Whether the call went as a real one would without an error."""
        return self.state == "ended" and not self.errors

    def judge_streams(self, *, troubled: bool) -> None:
        """Add the errors of the streams; of a call that is `troubled` by us, the service's only.

        A stream that the service closed because it restarts is no error if another carried on.
        """
        for number, stream in enumerate(self.streams):
            if stream.error is None:
                continue
            carried_on = any(later.frames_sent for later in self.streams[number + 1 :])
            if stream.ended_early and stream.close_code in GOOD_RESTARTS and carried_on:
                continue
            if troubled and stream.close_code not in SERVICES_FAULTS:
                continue
            self.errors.append(f"stream {stream.stream_sid}: {stream.error}")
        for stream in self.second_sockets:
            if stream.error is not None and stream.close_code in SERVICES_FAULTS:
                self.errors.append(f"second socket {stream.stream_sid}: {stream.error}")
