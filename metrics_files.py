"""Where the workers of one gunicorn leave their figures: a directory of the master's own.

Each worker writes files there (`prometheus_client`'s multi-process mode), and whichever worker is
asked adds up all of them. What a worker has counted is added to one pair of files when it has
ended, so that they do not become more with each. The master makes the directory before it starts
any worker, clears away what masters that were killed have left, and removes it at its end. It must
be there before `prometheus_client` is imported: that decides by the variable how it keeps its
values.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "tamlil-metrics-"
_LOCK = "lock"  # held while the files are read together, and while some of them are added up
_ENDED = "ended"  # in the place of a worker's number: of all that have ended
_ENTRY_BYTES = 32  # of a file's entry without its key, or fewer


def make() -> Path:
    """Make the directory of this process, readable by its user alone, and name it to workers."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    os.environ[VARIABLE] = str(path)
    return path


@contextmanager
def reading(directory: str | Path) -> Iterator[None]:
    """While the files are read together: none is added to another. In a native thread; waits."""
    with _lock_file(Path(directory)) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def forget(pid: int) -> None:
    """A worker has ended: what it had going counts no more; what it has counted stays."""
    # Imported here: the master needs none of it before. Workers that are forked after have the
    # library's locks as they are without gevent; what these guard never waits.
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # of the library
    path = Path(os.environ[VARIABLE])
    left = [file for file in path.glob(f"*_{pid}.db") if file.name.count("_") == 1]
    if not left:
        return
    with _lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in left:
                _add_to_ended(file)
        except OSError:
            # Somebody is reading, and the master waits for nobody; or there is no room on the disk.
            # Then the file stays one of its own, which counts as well.
            return


def _lock_file(path: Path) -> Any:
    return (path / _LOCK).open("ab")


def _add_to_ended(file: Path) -> None:
    """Add a counter's or histogram's file to that of the workers that have ended."""
    from prometheus_client.mmap_dict import MmapedDict

    kind = file.name.partition("_")[0]
    ended, new = (file.with_name(f"{kind}_{_ENDED}.{end}") for end in ("db", "new"))
    sums = _values(ended)
    for key, value in _values(file).items():
        sums[key] = sums.get(key, 0.0) + value
    # With its whole size at once: a mapped file that finds no room on the disk ends the process
    new.write_bytes(bytes(8 + sum(len(key.encode()) + _ENTRY_BYTES for key in sums)))
    written = MmapedDict(str(new))  # type: ignore[no-untyped-call]  # of the library
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # of the library
    written.close()  # type: ignore[no-untyped-call]  # of the library
    new.replace(ended)
    file.unlink()


def _values(file: Path) -> dict[str, float]:
    """What stands in a file, by the library's key; nothing if it cannot be read."""
    from prometheus_client.mmap_dict import MmapedDict

    try:
        values = MmapedDict.read_all_values_from_file(  # type: ignore[no-untyped-call]  # as above
            str(file)
        )
        return {key: value for key, value, _, _ in values}
    except (FileNotFoundError, RuntimeError, ValueError, struct.error):
        # Not there yet; or cut off when its worker was killed: then nobody could ever read it
        return {}


def remove(path: Path) -> None:
    """The master ends: nobody asks any more."""
    shutil.rmtree(path, ignore_errors=True)


def _is_left(path: Path) -> bool:
    """Whether it is a dead master's: of a process that is gone, or that had this one's number."""
    found = re.match(rf"{_PREFIX}(\d+)-", path.name)
    if found is None or path.is_symlink() or path.stat().st_uid != os.getuid():
        return False
    pid = int(found[1])
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # there is one, of somebody else: not this directory's
        return True
    return False
