"""Faults on order for the local speech server: what can be ordered, how it is written, who gets it.

Pure: no gRPC, no event loop, the time is handed in. A fault is one line, a kind and then words:

    die          ends the stream with a status (UNAVAILABLE)          status= text= MOMENT SCOPE
    cut          ends it as Google ends a long one, after 305 s       v1|v2 MOMENT SCOPE
    mute         takes audio, answers nothing more, never ends        MOMENT SCOPE
    in-band      one response with an error in it, then mute          status= text= MOMENT SCOPE
    slow         reads at a fraction of real time (rate=0.5)          rate= MOMENT SCOPE
    reset        resets the stream's TCP connection                   MOMENT SCOPE
    unavailable  ends live streams, refuses new ones and Recognize    text= for=
    exhausted    RESOURCE_EXHAUSTED for new ones and Recognize        text= for=
    recognize    a status for plain Recognize calls (UNAVAILABLE)     status= text= SCOPE

    MOMENT  at=open       when the config was read, before any response (the usual moment)
            at=N          N seconds after the stream opened, config or not
            audio=N       when N seconds of audio have come
            at=half-close instead of the last finals
    SCOPE   next=K        only the next K streams (or Recognize calls)
            for=N         only for N seconds from now on; without either: until it is cleared

    die at=5                                    cut at=3 v2 next=1
    status=PERMISSION_DENIED text="not yours"   unavailable for=20
    status=INTERNAL at=half-close next=3        in-band status=14 audio=2.5

`status=` takes a gRPC code by name or number; a line that begins with it is a `die`.
The first fault in force that is for a stream when it opens is that stream's, until it ends,
whatever is ordered or cleared later. Only `unavailable` strikes live streams too.

    SpeechServerError
    └── BadFault(text)      what is not a fault, with a word on what would be
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from speech_server_rules import TOO_LONG, SpeechServerError, StreamEnded

OPEN = "open"
HALF_CLOSE = "half-close"
UNAVAILABLE = "unavailable"
RECOGNIZE = "recognize"

TOO_LONG_V2 = "Max duration of 5 minutes reached for stream."
# gRPC's codes, each at its number.
STATUS_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
# What the service says with a code, where the order names no text.
_WORDS = {
    "UNAVAILABLE": "The service is currently unavailable.",
    "INTERNAL": "Internal error encountered.",
    "RESOURCE_EXHAUSTED": "Quota exceeded for quota metric 'Requests' and limit 'Requests per "
    "minute' of service 'speech.googleapis.com'.",
    "PERMISSION_DENIED": "The caller does not have permission",
}
_CUTS = {"v1": ("OUT_OF_RANGE", TOO_LONG), "v2": ("ABORTED", TOO_LONG_V2)}

_STATUS = frozenset({"status", "text"})
_MOMENT = frozenset({"at", "audio"})
_SCOPE = frozenset({"next", "for"})
# The words that each kind takes besides its name.
KINDS: dict[str, frozenset[str]] = {
    "die": _STATUS | _MOMENT | _SCOPE,
    "cut": frozenset({"version"}) | _MOMENT | _SCOPE,
    "mute": _MOMENT | _SCOPE,
    "in-band": _STATUS | _MOMENT | _SCOPE,
    "slow": frozenset({"rate"}) | _MOMENT | _SCOPE,
    "reset": _MOMENT | _SCOPE,
    UNAVAILABLE: frozenset({"text", "for"}),
    "exhausted": frozenset({"text", "for"}),
    RECOGNIZE: _STATUS | _SCOPE,
}


class BadFault(SpeechServerError):
    """A fault that cannot be ordered."""


@dataclass(frozen=True)
class Fault:
    """One order, as `parse_fault` makes it of a line; raises `BadFault` for what makes no sense.

    `at` is "open", "half-close" or seconds of the stream's life; `audio` is seconds of audio
    and then `at` is "". `count` is the order's next=, `seconds` its for=; None is no end.
    `status` is the name of a code. What is left out is the kind's own (see the module).
    """

    kind: str
    at: float | str | None = None
    audio: float | None = None
    status: str | None = None
    text: str | None = None
    version: str | None = None
    rate: float | None = None
    count: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        self._check_words()
        self._check_values()
        for name, value in self._own().items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @property
    def verdict(self) -> StreamEnded:
        """The status that it ends a stream or a call with, or puts into a response."""
        assert self.status is not None
        assert self.text is not None
        return StreamEnded(self.status, self.text)

    @property
    def refuses(self) -> bool:
        """Whether a new stream is refused unread: the service behind the address is away."""
        return self.kind in (UNAVAILABLE, "exhausted")

    @property
    def on_streams(self) -> bool:
        """Whether streams can get it."""
        return self.kind != RECOGNIZE

    @property
    def on_recognize(self) -> bool:
        """Whether plain Recognize calls can get it."""
        return self.kind == RECOGNIZE or self.refuses

    def __str__(self) -> str:
        """The line that orders it; what is the kind's own anyway is left out."""
        words = [self.kind]
        own = self._own()
        for name, value in self._given().items():
            field_name = _FIELDS.get(name, name)
            if value == own.get(field_name):
                continue
            if name == "version":
                words.append(str(value))
            elif not (name == "at" and self.audio is not None):
                words.append(f"{name}={shlex.quote(str(value).removesuffix('.0'))}")
        return " ".join(words)

    def _given(self) -> dict[str, object]:
        """What is set, by the words of the line."""
        names = ("rate", "status", "text", "at", "audio", "version", "next", "for")
        values = {name: getattr(self, _FIELDS.get(name, name)) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _own(self) -> dict[str, object]:
        """What the kind does where the order does not say."""
        words = KINDS[self.kind]
        own: dict[str, object] = {}
        if "at" in words:
            own["at"] = "" if self.audio is not None else (305.0 if self.kind == "cut" else OPEN)
        if "rate" in words:
            own["rate"] = 0.5
        if self.kind == "cut":
            own["version"] = "v1"
            own["status"], own["text"] = _CUTS[self.version or "v1"]
        elif "text" in words:
            own["status"] = "RESOURCE_EXHAUSTED" if self.kind == "exhausted" else "UNAVAILABLE"
            status = str(self.status or own["status"])
            own["text"] = _WORDS.get(status, f"{status} on order.")
        return own

    def _check_words(self) -> None:
        takes = KINDS[self.kind]
        for name in self._given():
            if name not in takes:
                can = f"{_listed(sorted(takes - {'version'}))}{' v1 v2' * ('version' in takes)}"
                raise BadFault(f"{self.kind} takes no {name}; it takes {can}")
        if self.at is not None and self.audio is not None:
            raise BadFault("a fault has one moment: at= or audio=")

    def _check_values(self) -> None:
        if isinstance(self.at, str) and self.at not in (OPEN, HALF_CLOSE):
            raise BadFault(f"at={self.at} is no moment; it is open, half-close or seconds")
        if isinstance(self.at, float | int) and not 0 <= self.at < math.inf:
            raise BadFault(f"at={self.at} is no moment; seconds begin at 0")
        if self.at == HALF_CLOSE and self.kind == "slow":
            raise BadFault("slow has nothing left to read at=half-close")
        for name, value in (("audio", self.audio), ("rate", self.rate), ("for", self.seconds)):
            if value is not None and not 0 < value < math.inf:
                raise BadFault(f"{name}={value:g} must be above 0")
        if self.count is not None and self.count < 1:
            raise BadFault(f"next={self.count} must be 1 or more")
        if self.version is not None and self.version not in _CUTS:
            raise BadFault(f"{self.version!r} is no version; it is v1 or v2")
        if self.status is not None and self.status not in STATUS_CODES:
            raise BadFault(f"status={self.status} is no gRPC status; {_listed(STATUS_CODES)} are")
        if self.status == "OK" and self.kind != "die":
            raise BadFault(f"{self.kind} cannot be OK; only die can")


# The words of a line that are not their fields' names, as Python keeps those to itself.
_FIELDS = {"next": "count", "for": "seconds"}


def parse_fault(text: str) -> Fault:
    """The fault that a line orders; raises `BadFault`, which says what is wrong and what is not."""
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise BadFault(f"{text.strip()!r}: {str(error).lower()}") from error
    if not words:
        raise BadFault(f"an empty line is no fault; it begins with {_listed(KINDS)}")
    kind = "die" if words[0].startswith("status=") else words.pop(0)
    _check_kind(kind)
    values: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if word in _CUTS:
            name, value = "version", word
        elif not equals or name not in _READERS:
            raise BadFault(f"cannot read {word!r} in a fault; its words are {_listed(_READERS)}")
        if name in values:
            raise BadFault(f"{name} is there twice")
        values[name] = _READERS[name](name, value)
    fields: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in values.items()}
    return Fault(kind, **fields)  # each has gone through the reader of its own kind


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise BadFault(f"no kind of fault is called {kind!r}; there are {_listed(KINDS)}")


def _text(_name: str, value: str) -> str:
    return value


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadFault(f"{name}={value} is not a number") from None


def _whole(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise BadFault(f"{name}={value} is not a whole number") from None


def _moment(name: str, value: str) -> float | str:
    if value in (OPEN, HALF_CLOSE):
        return value
    try:
        return float(value)
    except ValueError:
        raise BadFault(f"at={value} is no moment; it is open, half-close or seconds") from None


def _status(name: str, value: str) -> str:
    if value.isdecimal() and int(value) < len(STATUS_CODES):
        return STATUS_CODES[int(value)]
    return value


_READERS: dict[str, Callable[[str, str], object]] = {
    "status": _status,
    "text": _text,
    "at": _moment,
    "audio": _number,
    "rate": _number,
    "next": _whole,
    "for": _number,
    "version": _text,
}


def _listed(words: Iterable[str]) -> str:
    return " ".join(words)


@dataclass
class _Order:
    fault: Fault
    left: int | None
    until: float = field(default=math.inf)


class Faults:
    """The faults in force, in the order in which they were ordered. `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []

    def order(self, *faults: Fault, now: float) -> None:
        """From now on these hold as well, behind those that hold already."""
        for fault in faults:
            until = math.inf if fault.seconds is None else now + fault.seconds
            self._orders.append(_Order(fault, fault.count, until))

    def clear(self) -> None:
        """Nothing holds any more; a stream keeps the fault that it got."""
        self._orders.clear()

    def for_stream(self, now: float) -> Fault | None:
        """The fault of the stream that opens now; takes one off its next=."""
        return self._take(now, lambda fault: fault.on_streams)

    def for_recognize(self, now: float) -> Fault | None:
        """The fault of the plain Recognize call that comes now; takes one off its next=."""
        return self._take(now, lambda fault: fault.on_recognize)

    def in_force(self, now: float) -> tuple[Fault, ...]:
        """What a stream or a call can still get."""
        self._orders = [o for o in self._orders if now < o.until and o.left != 0]
        return tuple(order.fault for order in self._orders)

    def _take(self, now: float, suits: Callable[[Fault], bool]) -> Fault | None:
        self.in_force(now)
        for order in self._orders:
            if suits(order.fault):
                if order.left is not None:
                    order.left -= 1
                return order.fault
        return None
