"""Where the workers of one gunicorn leave their figures: a directory of the master's own.

Each worker writes files there (`prometheus_client`'s multi-process mode), and whichever worker is
asked adds up all of them. The master makes the directory before it starts any worker, clears away
what masters that were killed have left, and removes it at its end. It must be there before
`prometheus_client` is imported: that decides by the variable how it keeps its values.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "tamlil-metrics-"


def make() -> Path:
    """Make the directory of this process, readable by its user alone, and name it to workers."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if _is_left(left):
            shutil.rmtree(left, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    os.environ[VARIABLE] = str(path)
    return path


def forget(pid: int) -> None:
    """A worker has ended: what it had going counts no more; what it has counted stays."""
    # Imported here: the master needs none of it before. Workers that are forked after have the
    # library's locks as they are without gevent; what these guard never waits.
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # of the library


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
