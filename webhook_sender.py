"""Sends the events of the businesses to their webhooks: at least once, in order for each call.

It lives in the records' process (`record_process.py`), beside the worker that carries calls, never
in it. A thread looks into the database once a second, and at once again while there is work; each
post has a thread of its own, a bounded number at a time (`webhook_seats.py`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from call_log import logger, one_line, worth_saying
from errors import BadWebhook
from record_messages import EventCounts
from webhook_client import PostFailed, WebhookClient
from webhook_queue import LEASE_SECONDS, TRIED_FOR, Delivery, WebhookQueue
from webhook_seats import Seat, Seats
from webhook_signing import signed_headers

Result = TypeVar("Result")

_LOOK_SECONDS = 1.0
_NO_WEBHOOKS_SECONDS = 5.0
_AWAY_SECONDS = 2.0
_COUNT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 3600.0
_GONE = 410
# With the database, each by a connection; the records' own writing has others
_STEPS_AT_ONCE = 2
# Events of one call that are sent in a row before others have their turn, and for how long
_IN_A_ROW = 16
_ROW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a post: `error` is None if it was taken. `gone`: it never will be."""

    error: str | None = None
    gone: bool = False


def pause_after(tries: int) -> float:
    """How many seconds to wait after so many tries in vain: 5, 10, 20 … an hour, or a bit less.

    The bit is chance: what failed together shall not come back together.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(tries - 1, 20))
    return random.uniform(0.5, 1.0) * longest


def post_event(
    client: WebhookClient, url: str, secrets: Sequence[str], uid: str, at: datetime, body: str
) -> Sent:
    """Sign the event `uid` with the text `body`, and post it. Waits for the network."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Tamlil",
        **signed_headers(secrets, uid, at, body),
    }
    try:
        status = client.post(url, body.encode(), headers)
    except (PostFailed, BadWebhook) as fault:
        return Sent(one_line(str(fault)))
    if 200 <= status < 300:
        return Sent()
    if status == _GONE:
        return Sent("answered 410: it wants no more of it", gone=True)
    return Sent(f"answered {status}")


class WebhookSender:
    """Sends what `queue` has through `client`. `pause` tells the back-off, by tries so far.

    `on_counts` is told now and then how the events stand.
    """

    def __init__(
        self,
        queue: WebhookQueue,
        client: WebhookClient,
        *,
        pause: Callable[[int], float] = pause_after,
        on_counts: Callable[[EventCounts], object] = lambda counts: None,
    ) -> None:
        self._queue = queue
        self._client = client
        self._pause = pause
        self._steps = threading.BoundedSemaphore(_STEPS_AT_ONCE)
        self._seats = Seats()
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._on_counts = on_counts
        self._count_at = float("-inf")
        self._failures = 0  # of the database, in a row
        self.delivered = 0
        self.failed = 0
        self.given_up = 0

    def start(self) -> None:
        """Begin to send; once, after any fork."""
        threading.Thread(target=self._run, name="webhook-sender", daemon=True).start()

    def stop(self, seconds: float = 1.0) -> None:
        """Begin nothing more; what is on its way after so many seconds will be sent again."""
        self._stopping.set()
        self._awake.set()
        if not self.wait_until_idle(seconds):
            logger.info("[WEBHOOK] stopped: what was on its way will be sent again")
        self._client.close()

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing is on its way; False after so many seconds."""
        return self._seats.wait_until_empty(seconds)

    def turn(self) -> float:
        """Take what is due and begin to send it; returns when to look again, in seconds."""
        try:
            self.tell_counts()
            room = self._seats.room()
            if not room.seats and not room.slow_seats:
                return _LOOK_SECONDS  # or as soon as there is one
            taken = self._step(self._queue.take, room)
        except SQLAlchemyError as error:
            return self._say_away(error)
        if self._failures:
            logger.info("[WEBHOOK] the database is back: events are sent again")
            self._failures = 0
        if taken is None:
            return _NO_WEBHOOKS_SECONDS
        for delivery in taken:
            seat = self._seats.take(delivery.tenant_id)
            threading.Thread(target=self._deliver, args=(delivery, seat), daemon=True).start()
        return _LOOK_SECONDS

    # The sender's threads

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                pause = self.turn()
            except Exception:  # a fault of our own: events wait, and are not to wait for ever
                logger.exception("[WEBHOOK] internal error")
                pause = _AWAY_SECONDS
            self._awake.wait(pause)
            self._awake.clear()

    def tell_counts(self) -> None:
        """Say how the events stand, if it is time to. Raises SQLAlchemy's errors."""
        now = time.monotonic()
        if now < self._count_at:
            return
        self._count_at = now + _COUNT_SECONDS
        waiting, oldest_seconds = self._step(self._queue.waiting)
        self._on_counts(
            EventCounts(waiting, oldest_seconds, self.delivered, self.failed, self.given_up)
        )

    def _deliver(self, delivery: Delivery, seat: Seat) -> None:
        following: Delivery | None = delivery
        left = _IN_A_ROW
        until = time.monotonic() + _ROW_SECONDS
        try:
            while following is not None:
                left -= 1
                self._seats.begin_post(seat)
                sent = self._send(following)
                soon = self._seats.end_post(seat)
                in_time = soon and time.monotonic() < until
                go_on = in_time and left > 0 and not self._stopping.is_set()
                following = self._settle(following, sent, go_on)
        finally:
            self._seats.leave(seat)
            self._awake.set()

    def _send(self, delivery: Delivery) -> Sent:
        if delivery.url is None:
            return Sent("the business has no webhook", gone=True)
        at = self._queue.now()
        try:
            return post_event(
                self._client, delivery.url, delivery.secrets, delivery.uid, at, delivery.body
            )
        except Exception:  # a fault of our own must not hold up the call for ever
            logger.exception("[WEBHOOK] internal error %s", _end(delivery))
            return Sent("internal error: see the service's log")

    def _settle(self, delivery: Delivery, sent: Sent, go_on: bool) -> Delivery | None:
        """Note what became of it, as long as it is ours to note; returns what follows."""
        give_up_at = time.monotonic() + LEASE_SECONDS / 2
        while True:
            try:
                return self._note(delivery, sent, go_on)
            except SQLAlchemyError as error:
                self._say_away(error)
                if time.monotonic() > give_up_at or self._stopping.wait(_AWAY_SECONDS):
                    return None

    def _note(self, delivery: Delivery, sent: Sent, go_on: bool) -> Delivery | None:
        if sent.error is None:
            self.delivered += 1
            if go_on:
                return self._step(self._queue.delivered_take_next, delivery)
            self._step(self._queue.delivered, delivery)
            return None
        self._note_failure(delivery, sent, sent.error)
        return None

    def _note_failure(self, delivery: Delivery, sent: Sent, error: str) -> None:
        next_try_at = None if sent.gone else self._next_try(delivery)
        noted = self._step(self._queue.failed, delivery, error, next_try_at)
        self.failed += 1
        if noted and next_try_at is None:
            self.given_up += 1
            logger.warning(
                "[WEBHOOK] given up: %s tries=%d %s count=%d",
                error,
                delivery.tries + 1,
                _end(delivery),
                self.given_up,
            )
        elif worth_saying(delivery.tries + 1):
            logger.warning(
                "[WEBHOOK] not delivered, tried again: %s tries=%d %s",
                error,
                delivery.tries + 1,
                _end(delivery),
            )

    def _next_try(self, delivery: Delivery) -> datetime | None:
        """When to try again, the last time when its time is over; None: it is."""
        at, last = self._queue.now(), delivery.since + TRIED_FOR
        if at >= last:
            return None
        return min(at + timedelta(seconds=self._pause(delivery.tries + 1)), last)

    def _step(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """A step with the database."""
        with self._steps:
            return function(*arguments)

    def _say_away(self, error: SQLAlchemyError) -> float:
        self._failures += 1
        if worth_saying(self._failures):
            cause = getattr(error, "orig", None) or error
            told = one_line(f"{type(cause).__name__}: {cause}")[:200]
            logger.error("[WEBHOOK] the database is away: %s count=%d", told, self._failures)
        return _AWAY_SECONDS


def _end(delivery: Delivery) -> str:
    return f"event={delivery.uid} type={delivery.type} tenant={delivery.tenant_id}"
