"""Native threads where threads are threads, and beside gevent's loop."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from running_service import PROJECT

import native_threads
from native_threads import Bell, NativeThreads


def test_a_bell_wakes_who_waits_and_who_will() -> None:
    """Rung twice it wakes once; without it a wait has an end."""
    bell = Bell(NativeThreads())
    assert not bell.wait(0.0)
    bell.ring()
    bell.ring()
    assert bell.wait(0.0)
    assert not bell.wait(0.01)
    threading.Timer(0.01, bell.ring).start()
    assert bell.wait(20)


def test_a_plain_call_is_made_here() -> None:
    """Under `flask run` the request's own thread may wait."""
    native = native_threads.here()
    assert native.call(threading.get_ident) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        native.call(lambda: 1 // 0)
    assert native.place() is None
    heard: list[int] = []
    native.tell(heard.append, 1)
    assert heard == [1]


def test_a_started_thread_runs_beside() -> None:
    """And does not keep the process alive."""
    ran = threading.Event()
    daemon: list[bool] = []

    def run() -> None:
        daemon.append(threading.current_thread().daemon)
        ran.set()

    NativeThreads().start(run, "beside")
    assert ran.wait(20)
    assert daemon == [True]


# In a process of its own: gevent patches all of it
UNDER_GEVENT = """
import gevent.monkey
gevent.monkey.patch_all()
import time, gevent
import native_threads
from gevent.monkey import get_original
from gevent_threads import GeventNativeThreads
from native_threads import Bell

sleep = get_original("time", "sleep")
native = GeventNativeThreads()
turns = []

# a brief lock is the system's own, and not one of gevent's
native_threads.settle(native)
assert type(native_threads.brief_lock()) is type(get_original("_thread", "allocate_lock")())

def tick():
    while True:
        turns.append(time.monotonic())
        gevent.sleep(0.005)

gevent.spawn(tick)

# a call that waits in the kernel holds up nobody but its caller
before = len(turns)
assert native.call(lambda: (sleep(0.3), 7)[1]) == 7
assert len(turns) - before > 20, turns

# an error comes back
try:
    native.call(lambda: 1 // 0)
except ZeroDivisionError:
    pass
else:
    raise AssertionError("no error")

# each thread is a place of its own, and none is the loop's
places = {native.call(native.place) for _ in range(3)}
assert native.place() not in places

# nor does a wait for a pipe to have room; it ends when there is, or in time
import os
reading, writing = os.pipe()
os.set_blocking(writing, False)
try:
    while True:
        os.write(writing, bytes(4096))
except BlockingIOError:
    pass
before = len(turns)
assert not native.call(native.wait_for_room, writing, 0.3)
assert len(turns) - before > 20, turns
os.read(reading, 1 << 20)
assert native.call(native.wait_for_room, writing, 10)

# a child is started, and its end waited for, without the loop, which has its own idea of children
import sys
pid = native.call(native.spawn, [sys.executable, "-c", ""])
native.call(native.reap, pid)
try:
    os.kill(pid, 0)
except ProcessLookupError:
    pass
else:
    raise AssertionError("not reaped")

# what a native thread tells arrives where it may wait, in a greenlet of the loop's thread
bell, told = Bell(native), []

def heard(text):
    gevent.sleep(0.01)
    told.append((text, native.place()))

def run():
    if bell.wait(10):
        native.tell(heard, "hello")

native.start(run, "beside")
before = len(turns)
gevent.sleep(0.1)
bell.ring()
deadline = time.monotonic() + 10
while not told and time.monotonic() < deadline:
    gevent.sleep(0.01)
assert told == [("hello", native.place())], told
assert len(turns) - before > 10
print("well")
"""


def test_beside_gevents_loop() -> None:
    """Native threads wait without the loop; what they tell is told in it."""
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr
