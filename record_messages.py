"""What a worker and its records' process say to each other, over a pair of pipes. Pure.

Messages are MessagePack behind their length (4 bytes, big-endian). The process also says by the
pipe's end that it is gone; and so does the worker.
"""

from __future__ import annotations

import os
import struct

import msgspec

from businesses import Business
from call_records import Record

_LENGTH = struct.Struct(">I")
MOST_BYTES = 64 * 1024 * 1024


class Refused(msgspec.Struct, frozen=True):
    """A record that was not written, and never will be: its number in the batch, and why."""

    number: int
    why: str


# From the worker


class Write(msgspec.Struct, frozen=True, tag=True):
    """Write all of these, in order."""

    number: int
    records: list[Record]


class Leave(msgspec.Struct, frozen=True, tag=True):
    """The worker has ended in order: end as well."""


# From the process


class Written(msgspec.Struct, frozen=True, tag=True):
    """The batch of this number is written, but for these."""

    number: int
    refused: list[Refused]


class NotWritten(msgspec.Struct, frozen=True, tag=True):
    """Nothing of the batch is written. `of_record`: trying again would not help."""

    number: int
    why: str
    of_record: bool


class Known(msgspec.Struct, frozen=True, tag=True):
    """The businesses, as they are now."""

    businesses: list[Business]


class EndCall(msgspec.Struct, frozen=True, tag=True):
    """End this call, if you have it."""

    call_sid: str
    reason: str


class EventCounts(msgspec.Struct, frozen=True, tag=True):
    """How the events on their way out stand: those that wait, in the whole database.

    `oldest_seconds`: the age of the oldest of them. What this process has sent since its start is
    `delivered`; posts of it that `failed`, events that were `given_up`.
    """

    waiting: int = 0
    oldest_seconds: float = 0.0
    delivered: int = 0
    failed: int = 0
    given_up: int = 0


ToProcess = Write | Leave
ToWorker = Written | NotWritten | Known | EndCall | EventCounts

_to_process = msgspec.msgpack.Decoder(ToProcess)
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_encoder = msgspec.msgpack.Encoder()


def packed(message: ToProcess | ToWorker) -> bytes:
    """A message as it goes through a pipe."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def send(descriptor: int, message: ToWorker) -> None:
    """Write a message to a pipe; waits for room. Raises `OSError`."""
    data = memoryview(packed(message))
    while data:
        data = data[os.write(descriptor, data) :]


def read_to_process(descriptor: int) -> ToProcess | None:
    """The next message of the worker's; None at the pipe's end. Waits."""
    body = _read(descriptor)
    return None if body is None else _to_process.decode(body)


def read_to_worker(descriptor: int) -> ToWorker | None:
    """The next message of the process's; None at the pipe's end. Waits."""
    body = _read(descriptor)
    return None if body is None else _to_worker.decode(body)


def _read(descriptor: int) -> bytes | None:
    head = _exactly(descriptor, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MOST_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return _exactly(descriptor, length)


def _exactly(descriptor: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
