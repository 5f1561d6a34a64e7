"""Rotation: when a stream is replaced, and that fifty streams are not replaced at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from audio_ring import BYTES_PER_SECOND
from rotation import Rotation, StreamAge
from rotation_slots import SLOT_SECONDS, RotationSlots

SOFT, HARD = 240.0, 285.0
BREATH = BYTES_PER_SECOND // 5


class Scene:
    """A stream that began with a slot, and when it is asked whether it is to be replaced."""

    def __init__(self, soft: float = SOFT, hard: float = HARD) -> None:
        self.begun = self.now = 4000 * SLOT_SECONDS
        self.slots = RotationSlots(lambda: self.now)
        self.rotation = Rotation(self.begun, soft, hard, self.slots)

    def due(
        self, after: float, *, boundary: bool = False, sent: float | None = None, quiet: int = 0
    ) -> str | None:
        """So many seconds after its beginning; `sent`: seconds of audio, where it is not that."""
        self.now = self.begun + after
        seconds = after if sent is None else sent
        age = StreamAge(int(seconds * BYTES_PER_SECOND), quiet)
        return self.rotation.due(self.now, age, boundary)


@pytest.mark.parametrize("after", [0.0, 100.0, 239.9])
def test_a_young_stream_is_never_replaced(after: float) -> None:
    """Not at a boundary, not in silence."""
    assert Scene().due(after, boundary=True, quiet=10**6) is None


@pytest.mark.parametrize("after", [240.0, 260.0, 279.9])
def test_from_the_soft_limit_on_at_a_boundary_only(after: float) -> None:
    """Nobody is cut in mid-word while there is time; a breath is no boundary yet."""
    scene = Scene()
    assert scene.due(after, quiet=10**6) is None
    assert scene.due(after, boundary=True) == "at a pause"


def test_the_audio_counts_as_the_time_does() -> None:
    """A replay brings more audio than time, and a silent line's stream less."""
    scene = Scene()
    assert scene.due(200.0, boundary=True, sent=239.9) is None
    assert scene.due(200.0, boundary=True, sent=240.0) == "at a pause"
    assert scene.due(200.0, sent=284.9) is None
    assert scene.due(200.0, sent=285.0) == "at its hard limit"
    assert Scene().due(240.0, boundary=True, sent=0.0) == "at a pause"


def test_shortly_before_the_hard_limit_a_breath_will_do() -> None:
    """The last five seconds; 200 ms of quiet are a breath, less is a gap between two words."""
    scene = Scene()
    assert scene.rotation.breath_at == pytest.approx(scene.begun + 280.0, abs=1e-6)
    assert scene.due(279.99, quiet=BREATH) is None
    assert scene.due(280.0, quiet=BREATH - 1) is None
    assert scene.due(280.0, quiet=BREATH) == "at a pause"


@pytest.mark.parametrize(
    ("soft", "hard", "breath"), [(240.0, 252.0, 249.0), (12.0, 102.0, 97.0), (3.0, 6.0, 5.25)]
)
def test_the_time_for_a_breath_is_part_of_what_there_is(
    soft: float, hard: float, breath: float
) -> None:
    """Limits that lie close together leave a boundary its time as well."""
    scene = Scene(soft, hard)
    assert scene.rotation.breath_at == pytest.approx(scene.begun + breath)


def test_a_breath_is_never_looked_for_before_the_soft_limit() -> None:
    """Also where the stream's slot is so early that the window would begin before it."""
    scene = Scene(280.0, 285.0)
    for _ in range(40):
        rotation = Rotation(scene.begun, 280.0, 285.0, scene.slots)
    assert rotation.hard_at < scene.begun + 280.0
    assert rotation.breath_at == scene.begun + 280.0


def test_at_the_hard_limit_it_is_replaced_anyway() -> None:
    """In mid-word, and also when another stream has the slot that it is now."""
    scene = Scene()
    assert scene.due(284.99) is None
    scene.now = scene.begun + 285.3
    scene.slots.take(1.0)
    assert scene.due(285.3) == "at its hard limit"


def test_the_hard_limit_is_that_of_its_slot() -> None:
    """The second stream of one instant goes a slot earlier, the third two."""
    scene = Scene()
    others = [Rotation(scene.begun, SOFT, HARD, scene.slots) for _ in range(2)]
    limits = [one.hard_at - scene.begun for one in (scene.rotation, *others)]
    assert limits == pytest.approx([HARD, HARD - SLOT_SECONDS, HARD - 2 * SLOT_SECONDS])


def test_a_boundary_in_anothers_slot_is_not_used() -> None:
    """The next one will do."""
    scene = Scene()
    other = Rotation(scene.begun, SOFT, HARD, scene.slots)
    age = StreamAge(0, 0)
    assert scene.due(250.0, boundary=True) == "at a pause"
    assert other.due(scene.now, age, boundary=True) is None
    scene.now += SLOT_SECONDS
    assert other.due(scene.now, age, boundary=True) == "at a pause"


def test_a_stream_at_the_limit_of_its_audio_uses_up_a_slot() -> None:
    """Who has a boundary at that moment waits for the next slot."""
    scene = Scene()
    other = Rotation(scene.begun - 100.0, SOFT, HARD, scene.slots)
    age = StreamAge(0, 0)
    assert scene.due(150.0, sent=HARD) == "at its hard limit"
    assert other.due(scene.now, age, boundary=True) is None
    scene.now += SLOT_SECONDS
    assert other.due(scene.now, age, boundary=True) == "at a pause"


def test_a_stream_that_is_gone_gives_its_slot_back() -> None:
    """And no slot that has become another stream's meanwhile."""
    scene = Scene()
    scene.due(250.0, boundary=True)
    scene.rotation.over()
    again = Rotation(scene.begun, SOFT, HARD, scene.slots)
    assert again.hard_at == pytest.approx(scene.begun + HARD)
    third = Rotation(scene.begun, SOFT, HARD, scene.slots)
    assert third.hard_at == pytest.approx(scene.begun + HARD - SLOT_SECONDS)


def never(number: int, now: float) -> tuple[bool, int]:
    return False, 0


def always(number: int, now: float) -> tuple[bool, int]:
    return True, 0


def breaths(number: int, now: float) -> tuple[bool, int]:
    return False, BREATH


def all_together(number: int, now: float) -> tuple[bool, int]:
    return now % 7.0 < 0.2, 0


def talk(number: int, now: float) -> tuple[bool, int]:
    chance = hash((number, int(now * 10))) % 1000
    return chance < 10, 2 * BREATH if chance > 980 else 0


@pytest.mark.parametrize("speech", [never, always, breaths, all_together, talk])
def test_fifty_calls_that_began_together(speech: Callable[[int, float], tuple[bool, int]]) -> None:
    """However they speak: never more than five rotations in a second, none after its hard limit."""
    step, calls = 0.1, 50
    now = 1000.0
    slots = RotationSlots(lambda: now)
    begun = [now] * calls
    streams = [Rotation(now, SOFT, HARD, slots) for _ in range(calls)]
    rotated: list[float] = []
    for tick in range(1, int(900 / step)):
        now = 1000.0 + tick * step
        for number, stream in enumerate(streams):
            boundary, quiet = speech(number, now)
            age = StreamAge(int((now - begun[number]) * BYTES_PER_SECOND), quiet)
            if stream.due(now, age, boundary):
                assert SOFT <= now - begun[number] <= HARD + step
                rotated.append(now)
                stream.over()
                begun[number], streams[number] = now, Rotation(now, SOFT, HARD, slots)
    assert len(rotated) >= 3 * calls
    assert all(later - now > 1.0 - 1e-6 for now, later in zip(rotated, rotated[5:], strict=False))
