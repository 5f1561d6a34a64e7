"""HTTP/2's frames, told apart just enough to keep GOAWAY from `h2`. Pure.

A server that wants a connection to end sends GOAWAY, and its streams go on to their end: Google
does so every hour or so. `h2` takes a connection for dead from there on and refuses every frame
that follows, which would cost all of its calls their last words.

Source: RFC 9113, 4.1 and 6.8.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_HEADER_BYTES = 9
_GOAWAY = 7
_MAX_BYTES = 2**14  # of a frame, as long as a client does not set more
_FIXED = struct.Struct(">II")  # last stream, error code


class GoAway(NamedTuple):
    """What the other side says: it has not taken, and will not take, streams after this one."""

    last_stream: int
    code: int
    text: str


class WholeFrames:
    """Cuts a connection's bytes at the frames' ends."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, data: bytes) -> tuple[bytes, list[GoAway]]:
        """The frames that are whole by now but for GOAWAYs, and those."""
        data = self._rest + data if self._rest else data
        kept: list[bytes] = []
        goaways: list[GoAway] = []
        begin = at = 0
        while len(data) - at >= _HEADER_BYTES:
            size = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEADER_BYTES + size
            if size > _MAX_BYTES:  # no frame that we allow, if it is one at all
                at = len(data)
                break
            if end > len(data):
                break
            if data[at + 3] == _GOAWAY and end - at >= _HEADER_BYTES + _FIXED.size:
                kept.append(data[begin:at])
                goaways.append(_goaway(data[at + _HEADER_BYTES : end]))
                begin = end
            at = end
        kept.append(data[begin:at])
        self._rest = data[at:]
        return b"".join(kept) if goaways else kept[0], goaways


def _goaway(payload: bytes) -> GoAway:
    last, code = _FIXED.unpack_from(payload)
    return GoAway(last & 0x7FFFFFFF, code, payload[_FIXED.size :].decode(errors="replace")[:200])
