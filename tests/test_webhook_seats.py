"""Who may send: how many seats are free, for whom, and who counts as slow."""

from __future__ import annotations

from webhook_seats import MOST_SEATS, SEATS, SLOW_SEATS, SLOW_SECONDS, Seats


class Scene:
    def __init__(self) -> None:
        self.now = 100.0
        self.seats = Seats(lambda: self.now)

    def post(self, tenant_id: str, seconds: float) -> bool:
        """A whole post that takes so long; whether that was soon."""
        seat = self.seats.take(tenant_id)
        self.seats.begin_post(seat)
        self.now += seconds
        soon = self.seats.end_post(seat)
        self.seats.leave(seat)
        return soon


def test_each_takes_one_of_the_seats() -> None:
    """And gives it back."""
    scene = Scene()
    seat = scene.seats.take("clinic")
    room = scene.seats.room()
    assert (room.seats, room.busy, room.slow) == (SEATS - 1, {"clinic": 1}, {})
    assert not scene.seats.wait_until_empty(0)
    scene.seats.leave(seat)
    assert scene.seats.room().seats == SEATS
    assert scene.seats.wait_until_empty(0)


def test_a_post_that_takes_long_frees_its_seat_for_others() -> None:
    """While it still waits for its answer; its business has no more of the others' seats."""
    scene = Scene()
    for _ in range(2):
        scene.seats.begin_post(scene.seats.take("slow"))
    assert scene.seats.room().seats == SEATS - 2
    scene.now += SLOW_SECONDS + 0.1
    room = scene.seats.room()
    assert (room.seats, room.busy) == (SEATS, {})
    assert (room.slow_seats, room.slow) == (SLOW_SEATS - 2, {"slow": 2})


def test_who_was_slow_is_so_until_an_answer_comes_soon() -> None:
    """Whatever the answer is, and also while nothing is on its way."""
    scene = Scene()
    assert not scene.post("shop", SLOW_SECONDS * 2)
    assert scene.seats.room().slow == {"shop": 0}
    assert scene.post("shop", SLOW_SECONDS / 2)
    assert scene.seats.room().slow == {}


def test_a_wait_for_the_database_makes_nobody_slow() -> None:
    """Between its posts a seat's time is ours."""
    scene = Scene()
    scene.seats.take("clinic")
    scene.now += SLOW_SECONDS * 5
    assert scene.seats.room().slow == {}


def test_all_seats_together_have_a_limit() -> None:
    """However many became slow at once."""
    scene = Scene()
    for n in range(MOST_SEATS - 3):
        scene.seats.begin_post(scene.seats.take(f"t{n}"))
    scene.now += SLOW_SECONDS + 0.1
    room = scene.seats.room()
    assert (room.seats, room.slow_seats) == (3, 0)
