"""The control file of the local speech server: faults ordered by writing a file.

Runs on the server's event loop; the file is read in a thread, as a disk may be slow. Each time
the file is written, even with the same words, its lines are ordered anew and all that held
before is cleared; at the start they come on top of what the command's options ordered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from speech_server import SpeechServer
from speech_server_faults import BadFault, Fault, parse_fault

POLL_SECONDS = 0.2


class ControlFile:
    """A file that may come, change and go. Its methods block; one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, str] | None = None

    def changed(self) -> str | None:
        """Its text if it was written since the last call, "" if it has gone, otherwise None.

        Raises OSError if it is there and cannot be read.
        """
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                text = file.read()
                about = os.fstat(file.fileno())
            now = (about.st_mtime_ns, about.st_ino, text)
        except FileNotFoundError:
            now = None
        if now == self._seen:
            return None
        self._seen = now
        return "" if now is None else now[2]


def read_faults(text: str) -> tuple[list[Fault], list[str]]:
    """The faults of a file's lines, and what is wrong with the others."""
    faults: list[Fault] = []
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                faults.append(parse_fault(line))
            except BadFault as error:
                wrong.append(f"line {number}: {error}")
    return faults, wrong


class FaultControl:
    """Orders what the control file says, if there is one, and tells what is in force."""

    def __init__(
        self,
        server: SpeechServer,
        path: Path | None,
        say: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self._server = server
        self._file = None if path is None else ControlFile(path)
        self._say = say
        self._complain = complain
        self._said: tuple[Fault, ...] = ()
        self._trouble = ""

    async def start(self) -> None:
        """Order what the file says now; before the server listens, so that no stream escapes."""
        self._server.order(await self._read() or [])

    async def watch(self) -> None:
        """Follow the file, and say each change of what is in force; until it is cancelled."""
        while True:
            self._tell()
            await asyncio.sleep(POLL_SECONDS)
            faults = await self._read()
            if faults is not None:
                self._server.faults.clear()
                self._server.order(faults)

    async def _read(self) -> list[Fault] | None:
        if self._file is None:
            return None
        try:
            text = await asyncio.to_thread(self._file.changed)
            self._trouble = ""
        except OSError as error:
            # Once, not at every look; what is in force stays.
            if self._trouble != (trouble := f"cannot read {self._file.path}: {error.strerror}"):
                self._trouble = trouble
                self._complain(trouble)
            return None
        if text is None:
            return None
        faults, wrong = read_faults(text)
        for line in wrong:
            self._complain(f"{self._file.path}, {line}")
        return faults

    def _tell(self) -> None:
        faults = self._server.faults.in_force(asyncio.get_running_loop().time())
        if faults != self._said:
            self._said = faults
            self._say(f"faults in force: {'; '.join(map(str, faults)) or 'none'}")
