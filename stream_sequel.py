"""What follows when a call's stream has ended and nobody here had asked for it. Pure."""

from __future__ import annotations

from enum import Enum

from stream_faults import Code, Remedy, StreamFault, classify

# A limit that is reached so soon, and without any final, is not Google's limit
_TOO_SOON_SECONDS = 10.0

ENDED = StreamFault(Code.OK, "Google ended the stream")


class Sequel(Enum):
    """What follows."""

    STREAM = "a new stream, at once"
    PAUSE = "a new stream, after a pause"
    AUDIO = "a new stream, when audio comes"
    REFUSED = "no stream that is like this one"


def sequel(fault: StreamFault, *, lived: float, progressed: bool, took_all: bool) -> Sequel:
    """What follows from `fault`, or from `ENDED`.

    `lived`: how old the stream was, in seconds; `progressed`: it has had a final; `took_all`:
    it had taken all audio that there was.
    """
    remedy = Remedy.ROTATE if fault == ENDED else classify(fault)
    if remedy is Remedy.PERMANENT:
        return Sequel.REFUSED
    if remedy is Remedy.REOPEN_ON_AUDIO and took_all:
        return Sequel.AUDIO
    if remedy in (Remedy.ROTATE, Remedy.REOPEN_ON_AUDIO):
        soon = lived < _TOO_SOON_SECONDS and not progressed
        return Sequel.PAUSE if soon else Sequel.STREAM
    return Sequel.PAUSE
