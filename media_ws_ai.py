"""The Twilio side of a live call: reads a media stream's messages, hands its frames to the session.

One `MediaCall` is one WebSocket, run from its first message to its end by the thread (in a gevent
worker: greenlet) that flask-sock has for the request. It must never block on anything but its
socket while the call lives, and never let an exception out: flask-sock would write an HTTP error
into the open WebSocket.

Source of the messages: Twilio's documentation, "Media Streams: WebSocket messages".
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from flask import Blueprint, abort, g, request
from flask_sock import ConnectionClosed, Sock

import tallies
import twilio_messages
from call_log import CallLog, logger
from call_records import CallParties
from call_tracks import CallTracks, TrackSession
from errors import BadConversation, BadMessage, CallRefused, CallReplaced, Draining
from half_open import HalfOpen, Place
from media_socket import BinaryMessage, MediaSocket
from registry import CallRegistry, LiveCall, Record
from stream_admission import StreamAdmission
from trust import Door
from twilio_messages import Media, MediaBody, Message, Start, Stop, parse

# Media may come before the `start` that says whose it is: 5 s of it are kept.
EARLY_FRAMES = 250
EARLY_BYTES = EARLY_FRAMES * 160

# A read brings the frames since the last tick, or many after the network or this process was held
# up. They are handed on by so many at a time, each time once the stream has made room, while TCP
# keeps the rest.
BURST_FRAMES = 10

# How long whoever ends a call from outside waits for what its caller had said by then
HEAR_OUT_SECONDS = 1.0


# A track's session, for the slot of its call; the track is "" if there is only one
OpenSession = Callable[[LiveCall, str], TrackSession]
# The record of a stream that has taken its slot
BeginRecord = Callable[[LiveCall, CallParties], Record]
MakeLog = Callable[[str, str], CallLog]


class MediaCall:
    """One media stream.

    `asked`: the business as the request names it, by where it does ("path", "query", "header").
    `admission` decides on it at the `start`, which must come within `start_seconds`.
    `open_session(slot, track)` makes the session of a track, `begin_record(slot, parties)` what
    notes the call from then on. `place` is the socket's among those whose call is not known.
    """

    def __init__(
        self,
        socket: MediaSocket,
        registry: CallRegistry,
        admission: StreamAdmission,
        open_session: OpenSession,
        begin_record: BeginRecord,
        make_log: MakeLog,
        asked: dict[str, str | None],
        *,
        place: Place | None = None,
        start_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = socket
        self._registry = registry
        self._admission = admission
        self._open_session = open_session
        self._begin_record = begin_record
        self._make_log = make_log
        self._asked = asked
        self._place = place
        self._start_by = clock() + start_seconds
        self._clock = clock
        self._log = make_log("-", "-")
        self._slot: LiveCall | None = None
        self._tracks: CallTracks | None = None
        self._start: Start | None = None
        self._stream_sids: tuple[str, ...] = ("",)  # that its media may carry: its own, or none
        self._refused = False
        self._heard_out = threading.Event()
        self._read_at = clock()
        self._frames: list[MediaBody] = []  # of this burst, for the tracks
        self._early: list[Media] = []
        self._early_bytes = 0
        self.faults: Counter[str] = Counter()  # skipped messages, by fault
        self.ignored: Counter[str] = Counter()  # unknown events and other tracks' frames

    def run(self) -> None:
        """Serve the stream to its end; returns when the call is closed and its slot given back."""
        code, reason = 1011, "internal error"
        try:
            self._converse()
            code, reason = 1000, "the call has ended"
        except ConnectionClosed as end:
            code, reason = int(end.reason), end.message or ""
        except BadConversation as fault:
            code, reason = fault.code, str(fault)
            self._refuse(code, reason)
        except CallRefused as refusal:
            code, reason = refusal.close_code, str(refusal)
            self._refuse(code, reason)
        except CallReplaced as replaced:
            code, reason = 1000, str(replaced)
        except Exception:  # flask-sock would write its HTTP 500 into the open WebSocket
            self._log.crashed("WS")
        finally:
            self._known()
            self._end(code, reason)

    def _known(self) -> None:
        """It has been said whose the socket is, or it will not be said any more."""
        if self._place is not None:
            self._place.give_back()

    def _converse(self) -> None:
        while True:
            messages = self._socket.receive(
                self._check_wanted, at_tick=self._take_at_tick if self._tracks is not None else None
            )
            self._read_at = self._clock()
            self._check_start()
            if not self._take_bursts(messages):
                return
            del messages  # while it waits for others, they would be kept

    def _take_bursts(self, messages: list[bytes | BinaryMessage]) -> bool:
        """Act on what one read brought; False for the `stop` that ends the call."""
        patient = True
        for first in range(0, len(messages), BURST_FRAMES):
            burst = messages[first : first + BURST_FRAMES]
            if patient and self._tracks is not None:
                patient = self._tracks.wait_for_room(len(burst))
            if not self._take_burst(burst):
                return False
        return True

    def _take_burst(self, burst: list[bytes | BinaryMessage]) -> bool:
        """Act on messages that came together; False for the `stop` that ends the call."""
        try:
            for text in burst:
                try:
                    if isinstance(text, BinaryMessage):
                        raise BadMessage("a binary message")
                    if not self._take(parse(text)):
                        return False
                except BadMessage as fault:
                    self._skip(str(fault))
        finally:
            self._hand_on()
        return True

    def _take_at_tick(self, texts: list[bytes]) -> bool:
        """What a tick brought, if it is frames for which there is room; else False: not touched.

        In the ticks' thread, while the handler waits. Nearly all that a call ever brings.
        """
        tracks, stream_sids = self._tracks, self._stream_sids
        if tracks is None or len(texts) > BURST_FRAMES or not tracks.has_room(len(texts)):
            return False
        frames: list[MediaBody] = []
        for text in texts:
            try:
                message = parse(text)
            except BadMessage:
                return False
            if type(message) is not Media or message.stream_sid not in stream_sids:
                return False
            if not message.media.payload:
                return False
            frames.append(message.media)
        self._read_at = self._clock()
        self._frames = frames
        self._hand_on()
        return True

    def _hand_on(self) -> None:
        """Give the tracks the frames that came together."""
        if self._frames and self._tracks is not None:
            if self._slot is not None:
                self._slot.last_audio = self._read_at
            frames, self._frames = self._frames, []
            foreign = self._tracks.push(frames)
            if foreign:
                self.ignored["frame of another track"] += foreign

    def _check_wanted(self) -> None:
        """End a wait for `start` in a drain, which knows only of the calls that have a slot."""
        if self._slot is None and self._registry.draining:
            raise Draining("this worker is shutting down")
        self._check_start()

    def _check_start(self) -> None:
        if self._start is None and self._clock() >= self._start_by:
            raise BadConversation(1008, "no start came in time")

    def _take(self, message: Message) -> bool:
        """Act on one message; False for the `stop` that ends the call."""
        if isinstance(message, Media):
            if self._start is None:
                self._keep_early(message)
            else:
                self._take_media(message)
        elif isinstance(message, Start):
            self._take_start(message)
        elif isinstance(message, Stop):
            if self._start is None:
                raise BadConversation(1002, "stop came before start")
            return False
        elif isinstance(message, twilio_messages.Unknown):
            self.ignored["unknown event"] += 1
        return True

    def _take_media(self, message: Media) -> None:
        media = message.media
        if self._slot is not None:
            self._slot.last_audio = self._read_at
        if not media.payload:
            raise BadMessage("media without audio: the payload is empty")
        if message.stream_sid not in self._stream_sids:
            raise BadMessage("media of another stream: its streamSid is not this one's")
        self._frames.append(media)

    def _keep_early(self, message: Media) -> None:
        self._early.append(message)
        self._early_bytes += len(message.media.payload)
        if len(self._early) > EARLY_FRAMES or self._early_bytes > EARLY_BYTES:
            raise BadConversation(1002, "5 s of media came, but no start")

    def _take_start(self, message: Start) -> None:
        if self._start is not None:
            if message.start.call_sid == self._start.start.call_sid:
                raise BadMessage("a second start")
            raise BadConversation(1002, "a second start, for another call")
        twilio_messages.check_start(message)
        call_sid = message.start.call_sid
        self._log = self._make_log(call_sid, "-")  # whose it is, if it is refused
        tenant, most, parties = self._admission.admit(message, self._asked)
        self._log = self._make_log(call_sid, tenant)
        slot = self._slot = self._registry.take_slot(
            call_sid, tenant, hang_up=self._hang_up, log=self._log, tenant_calls=most
        )
        slot.record = self._begin_record(slot, parties)
        self._known()
        self._log.connected()
        self._start = message
        self._stream_sids = (message.stream_sid or message.start.stream_sid, "")
        self._tracks = CallTracks(
            message.start.tracks, lambda track: self._open_session(slot, track)
        )
        self._registry.register_session(call_sid, self._tracks, tenant, slot=self._slot)
        early, self._early = self._early, []
        for media in early:
            try:
                self._take_media(media)
            except BadMessage as fault:
                self._skip(str(fault))

    def _skip(self, fault: str) -> None:
        kind = fault.split(":", 1)[0]
        self.faults[kind] += 1
        self._log.fault(fault, self.faults[kind])

    def _refuse(self, code: int, reason: str) -> None:
        self._refused = True
        tallies.refused_stream(code)
        self._log.refused(code, reason)

    def _hang_up(self, code: int, reason: str) -> None:
        """End the stream from another thread; what is on its way is heard before this returns."""
        self._socket.close(code, reason)
        self._heard_out.wait(HEAR_OUT_SECONDS)

    def _end(self, code: int, reason: str) -> None:
        """Close what there is to close; each step comes whatever the one before did."""
        self._heard_out.set()
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._socket.close(code, reason),
            lambda: self._give_back(code, reason),
            lambda: self._say_end(code, reason),
            self._socket.linger,
        )
        for step in steps:
            try:
                step()
            except Exception:  # see run()
                self._log.crashed("WS")

    def _give_back(self, code: int, reason: str) -> None:
        """Give the slot back, if one was taken, and see to it that the session is closed."""
        if self._slot is None:
            return
        self._registry.close_session(self._slot.call_sid, slot=self._slot, code=code, reason=reason)
        if self._tracks is not None and self._slot.session is not self._tracks:
            self._tracks.close()  # they came too late for their slot: nobody else knows of them

    def _say_end(self, code: int, reason: str) -> None:
        if not self._refused:
            self._log.disconnected(code, reason, self.faults.total(), self.ignored.total())


def make_blueprint(
    registry: CallRegistry,
    door: Door,
    admission: StreamAdmission,
    open_session: OpenSession,
    begin_record: BeginRecord,
    make_log: MakeLog,
    *,
    start_seconds: float = 10.0,
    max_half_open: int = 50,
) -> Blueprint:
    """The addresses `WS /media` and `WS /media/<tenant>`."""
    blueprint = Blueprint("media", __name__)
    sock = Sock()
    half_open = HalfOpen(max_half_open)

    def check() -> None:  # before the upgrade, so that a refusal is an answer to it
        door.check_upgrade(request)
        g.place = half_open.take()
        if g.place is None:
            logger.warning("[WS] refused: 503 %d sockets have not said their start", half_open.now)
            tallies.refused(tallies.Refusal.HALF_OPEN)
            abort(503)

    def give_back(error: BaseException | None) -> None:  # there may have been no upgrade at all
        if (place := g.pop("place", None)) is not None:
            place.give_back()

    def media(socket: MediaSocket, tenant: str | None = None) -> None:
        asked = {
            "path": tenant,
            "query": request.args.get("tenant"),
            "header": request.headers.get("X-Tenant"),
        }
        MediaCall(
            socket,
            registry,
            admission,
            open_session,
            begin_record,
            make_log,
            asked,
            place=g.place,
            start_seconds=start_seconds,
        ).run()

    blueprint.before_request(check)
    blueprint.teardown_request(give_back)
    sock.route("/media", bp=blueprint)(media)
    sock.route("/media/<tenant>", bp=blueprint, endpoint="tenant_media")(media)
    return blueprint
