"""How much room the workers of one gunicorn have, so that each knows of the others.

A webhook comes to any worker, and the call's stream to any other. A worker that is full must not
turn a caller away while there is room beside it. The figures lie in memory that the master shares
with its workers, one place each; nobody waits for anybody. Other machines are not known here.
"""

from __future__ import annotations

import mmap
import struct

# Old workers drain beside the new ones
PLACES = 256

_ROW = struct.Struct("i")  # calls that this worker can still take


class RoomBoard:
    """The places, in memory that outlives a fork."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._memory = mmap.mmap(-1, places * _ROW.size)
        self._free = set(range(places))

    def claim(self) -> int:
        """A place for a worker that is about to be forked; for the master alone."""
        place = min(self._free)
        self._free.discard(place)
        self.note(place, 0)
        return place

    def give_back(self, place: int) -> None:
        """Its worker has ended; for the master alone."""
        self.note(place, 0)
        self._free.add(place)

    def note(self, place: int, room: int) -> None:
        """The worker of this place can take so many more calls."""
        _ROW.pack_into(self._memory, place * _ROW.size, room)

    def has_room_beside(self, place: int) -> bool:
        """Whether a worker of another place can take a call."""
        rooms = _ROW.iter_unpack(self._memory[:])
        return any(room > 0 and other != place for other, (room,) in enumerate(rooms))


class WorkerRoom:
    """One worker's place on the board; without a board, it is the only worker."""

    def __init__(self, board: RoomBoard | None = None, place: int = 0) -> None:
        self._board = board
        self._place = place

    def note(self, room: int) -> None:
        """This worker can take so many more calls."""
        if self._board is not None:
            self._board.note(self._place, room)

    @property
    def beside(self) -> bool:
        """Whether another worker can take a call."""
        return self._board is not None and self._board.has_room_beside(self._place)


_here = WorkerRoom()


def here() -> WorkerRoom:
    """The place of this process."""
    return _here


def settle(board: RoomBoard, place: int) -> None:
    """This process, just forked, has this place."""
    global _here
    _here = WorkerRoom(board, place)
