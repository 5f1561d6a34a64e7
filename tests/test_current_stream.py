"""What a call knows of its current stream: whether it goes on, is taken, hangs, has heard all."""

from __future__ import annotations

import pytest
from still_stream import StillStream

from audio_ring import BYTES_PER_SECOND, AudioRing
from current_stream import CurrentStream
from relay_limits import RelayLimits
from rotation import Rotation
from rotation_slots import RotationSlots
from stream_feed import StreamFeed
from stream_results import Heard
from stream_watch import StreamWatch

CHUNK = 800


class Scene:
    """A stream that was begun at 100.0, and those that follow it; what it takes is told to it."""

    def __init__(self, *, opened: bool = True) -> None:
        self.ring = AudioRing(CHUNK, 10**6)
        self.watch = StreamWatch(RelayLimits(stall=2.0, mute=1.0))
        self.follow(opened)

    def follow(self, opened: bool = True) -> None:
        self.stream = StillStream(StreamFeed(self.ring, 100))
        self.stream.opened_at = 100.0 if opened else None
        self.stream.feed.start(0)
        rotation = Rotation(100.0, 240.0, 285.0, RotationSlots(lambda: 100.0))
        self.current = CurrentStream(self.stream.as_stream(), rotation, self.watch)

    def say(self, seconds: float) -> None:
        """The stream takes so much speech."""
        size = int(seconds * BYTES_PER_SECOND)
        self.stream.feed.sent_bytes += size
        self.stream.feed.unanswered_loud_bytes += size


def test_a_stream_is_steady_while_it_is_open_and_not_half_closed() -> None:
    """Before and after that it is neither replaced nor blamed for taking nothing."""
    assert not Scene(opened=False).current.is_steady
    scene = Scene()
    assert scene.current.is_steady
    scene.current.drained_by = 105.0
    assert not scene.current.is_steady


@pytest.mark.parametrize("steady", [True, False])
def test_only_a_steady_stream_can_be_stuck(steady: bool) -> None:
    """There is audio, and none of it is taken for two seconds."""
    scene = Scene(opened=steady)
    assert not scene.current.is_stuck(CHUNK, 100.0)
    assert scene.current.is_stuck(CHUNK, 102.0) is steady


def test_that_google_takes_a_stream_is_news_once() -> None:
    """The others of the business need not be told again."""
    current = Scene().current
    assert [current.prove() for _ in range(3)] == [True, False, False]


def test_a_stream_that_stands_for_five_seconds_is_taken() -> None:
    """Since it was opened: one that is not has not begun to stand."""
    assert not Scene().current.is_taken(104.9)
    assert Scene().current.is_taken(105.0)
    assert not Scene(opened=False).current.is_taken(200.0)


def test_speech_without_an_answer_makes_it_mute() -> None:
    """And its silence is not believed the first time, if it then ends in order."""
    scene = Scene()
    scene.say(0.9)
    assert scene.current.is_mute() == 0.0
    assert scene.current.heard_all(0)
    scene.say(0.1)
    assert scene.current.is_mute() == 1.0
    assert not scene.current.heard_all(0)


def test_nothing_of_a_stream_is_left_over_for_the_next_one() -> None:
    """But that the one before it was mute: then the next one gets longer."""
    scene = Scene()
    scene.say(1.0)
    scene.current.is_mute()
    scene.current.answered(Heard(covered=400, noticed=CHUNK))
    assert scene.current.progressed
    scene.current.prove()
    scene.follow()
    assert not scene.current.progressed
    assert scene.current.noticed == 0
    assert scene.current.prove()
    scene.say(1.0)
    assert scene.current.is_mute() == 1.0
    scene.follow()
    scene.say(1.9)
    assert scene.current.is_mute() == 0.0
    assert scene.current.heard_all(0)


def test_an_interim_without_its_final_leaves_something_to_be_heard() -> None:
    """A response that has none does not take it back."""
    current = Scene().current
    current.answered(Heard(noticed=1600))
    current.answered(Heard(boundary=True))
    assert not current.progressed
    assert not current.heard_all(1599)
    assert current.heard_all(1600)


def test_its_age_is_in_audio_and_in_time() -> None:
    """Both count for a rotation."""
    scene = Scene()
    scene.say(1.0)
    assert scene.current.age.sent_bytes == BYTES_PER_SECOND
    assert scene.current.lived(130.0) == 30.0
    assert scene.current.was_healthy(130.0)
    assert not scene.current.was_healthy(129.0)
    scene.stream.answered = True
    assert scene.current.was_healthy(110.0)
