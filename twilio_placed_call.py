"""A call placed to a service as Twilio places it: a signed webhook, then whatever TwiML says.

`place_call` is one call; gather several for many at once. The verbs are followed one by one
while the call's line goes on (`phone_line`); each stream is a task of its own. Runs on an
asyncio loop, and must never raise for what a service does: that is in the report.
Source: Twilio's documentation, "TwiML for Programmable Voice" and "Media Streams".
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from phone_line import PhoneLine
from placed_call_report import Heard, HeardKind, PlacedCallReport
from twilio_call_requests import CallRequests, Document, NoTwiml, Parties
from twilio_calls import new_sid
from twilio_chaos import CALM, Chaos, StreamChaos
from twilio_placed_stream import PlacedStream, StreamPlan
from twilio_stream import FRAME_SECONDS, Pacing, Track
from twilio_webhooks import Form, ServiceAddress, Webhooks, resolve
from twiml import (
    Connect,
    Dial,
    Hangup,
    Method,
    Pause,
    Play,
    Redirect,
    Reject,
    Say,
    Start,
    Stream,
    Verb,
)

DOCUMENTS_WITHOUT_TIME = 10  # so many may follow one another while no time passes
FORKED_TRACKS = 4  # of <Start><Stream>, at most, in a call
SPOKEN_CHARACTERS = 15  # a second, by Twilio's voices: an estimate
PLAY_SECONDS = 2.0  # a recording is not fetched; it is taken to last that long

Dialled = Literal["completed", "busy", "no-answer", "failed"]


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """One call; what is empty is made up, or left out."""

    number: str  # the business's: To
    caller: str = "+972500000000"  # From; may be anonymous
    # What the two say: frames of 160 bytes of mu-law; the business speaks from its <Dial> on.
    tracks: Mapping[Track, Sequence[bytes]] = field(default_factory=dict)
    call_sid: str = ""
    account_sid: str = ""
    dialled: Dialled = "completed"  # what becomes of a <Dial>
    chaos: Chaos = CALM
    report: PlacedCallReport | None = None  # handed in by whoever wants to watch the call


async def place_call(
    service_url: str,
    call: PlacedCall,
    *,
    public_url: str = "",
    connect_to: str = "",
    auth_token: str = "",
    status_callback: str | None = None,
    voice_path: str = "/voice",
    pacing: Pacing | None = None,
    close_wait: float = 3.0,
) -> PlacedCallReport:
    """Place `call` to the service at `service_url` and report how it went.

    `public_url` is what Twilio would have as the service's address, and sign; `connect_to` is
    the HOST:PORT at which it is really to be had, without TLS. Without `auth_token` nothing is
    signed. `status_callback` is the address for the call's status, by default /status of the
    service; "" is none. At a pace of 0 the call goes as fast as the streams take it. Cancelled,
    it hangs up properly. Raises WrongServiceUrl; all else is in the report.
    """
    address = ServiceAddress(service_url, public_url, connect_to)
    if status_callback is None:
        status_callback = address.public("/status")
    report = PlacedCallReport() if call.report is None else call.report
    async with Webhooks(address, auth_token) as webhooks:
        live = _LiveCall(call, report, webhooks, pacing or Pacing(), close_wait)
        await live.run(address.public(voice_path), status_callback)
    return report


class _HungUp(Exception):
    """The call is over."""


class _LiveCall:
    """The life of one call: `run` is all of it, in the order in which it is written here."""

    def __init__(
        self,
        call: PlacedCall,
        report: PlacedCallReport,
        webhooks: Webhooks,
        pacing: Pacing,
        close_wait: float,
    ) -> None:
        self._call, self._report, self._webhooks = call, report, webhooks
        self._close_wait = close_wait
        self._line = PhoneLine(call.tracks.get("inbound", ()), pacing)
        self._call_sid = report.call_sid = call.call_sid or new_sid("CA")
        self._account_sid = call.account_sid or new_sid("AC")
        report.number = call.number
        self._requests = CallRequests(
            Parties(self._call_sid, self._account_sid, call.caller, call.number),
            webhooks,
            report,
            doubled="doubled-webhook" in call.chaos.kinds,
        )
        self._streams: list[tuple[PlacedStream, asyncio.Task[None]]] = []
        self._idle_documents = 0
        self._asked_at = 0  # the line's position at the last document

    async def run(self, voice_url: str, status_callback: str) -> None:
        """Ring, follow the TwiML, hang up, and tell the status."""
        report = self._report
        report.state = "ringing"
        self._hear("ring")
        ticking = asyncio.create_task(self._line.run())
        try:
            document: Document | None = await self._ask(voice_url, "POST")
            while document is not None:
                document = await self._follow(document)
        except _HungUp:
            pass
        finally:
            ticking.cancel()
            await self._end_streams()
            report.unsent_seconds = self._line.unsent_seconds
            report.seconds = self._line.position * FRAME_SECONDS
            report.spoken_frames = len(self._line.caller) - self._line.left
            report.call_status = report.call_status or "completed"
            if status_callback:
                duration = [("CallDuration", _whole_seconds(report.seconds))]
                await self._requests.tell_call(status_callback, report.call_status, duration)
            report.judge_streams(troubled=bool(self._call.chaos.kinds))
            report.state = "ended"

    async def _follow(self, document: Document) -> Document | None:
        """Run a document's verbs; returns the document that comes next, None at the call's end."""
        for number, verb in enumerate(document.verbs):
            if isinstance(verb, Reject) and not number and self._report.state == "ringing":
                self._reject(verb)
            following = await self._do(verb, document.url)
            if following is not None:
                return following
        return None

    async def _do(self, verb: Verb, base: str) -> Document | None:
        """Run one verb; returns the document that takes the place of this one, if any."""
        match verb:
            case Redirect():
                self._answer()
                return await self._ask(resolve(base, verb.url), verb.method)
            case Hangup():
                raise _HungUp
            case Reject():  # in a call that is answered, it only hangs up
                raise _HungUp
            case Connect():
                return await self._connect(verb, base)
            case Dial():
                return await self._dial(verb, base)
            case Start():
                await self._start(verb.stream)
            case Say() | Play() | Pause():
                await self._sound(verb)
        return None

    def _reject(self, verb: Reject) -> None:
        self._hear("busy tone" if verb.reason == "busy" else "not in service")
        self._report.call_status = "busy" if verb.reason == "busy" else "no-answer"
        raise _HungUp

    async def _sound(self, verb: Say | Play | Pause) -> None:
        self._answer()
        match verb:
            case Say():
                seconds = max(1.0, len(verb.text) / SPOKEN_CHARACTERS)
                self._hear("say", verb.text, verb.language)
            case Play():
                seconds = PLAY_SECONDS
                self._hear("play", verb.url)
            case Pause():
                seconds = verb.length
                self._hear("silence", seconds=seconds)
        frames = _frames(seconds)
        if isinstance(verb, Pause) or verb.loop:
            await self._wait(frames * (1 if isinstance(verb, Pause) else verb.loop))
        else:  # without end: until the caller, who has said everything, hangs up
            await self._wait(max(frames, self._line.left))
            raise _HungUp

    async def _connect(self, verb: Connect, base: str) -> Document | None:
        """Give the line to a stream until that ends or the caller, through, hangs up."""
        self._answer()
        stream = self._open_stream(verb.stream, bidirectional=True)
        before = self._line.position
        await stream.settled.wait()
        await self._wait(self._line.left, stream)
        hung_up = not stream.ended.is_set()
        self._hear("silence", seconds=(self._line.position - before) * FRAME_SECONDS)
        stream.hang_up()
        await stream.ended.wait()
        if stream.heard_frames:
            self._hear("audio", seconds=stream.heard_frames * FRAME_SECONDS)
        if not verb.action:
            if hung_up:
                raise _HungUp
            return None
        url = resolve(base, verb.action)
        if hung_up:
            # Twilio asks also then, but there is no call any more that could follow the answer.
            await self._requests.ask_at_end(url, verb.method)
            raise _HungUp
        return await self._ask(url, verb.method)

    async def _start(self, stream: Stream) -> None:
        self._answer()
        open_tracks = sum(s.track_count for s, _ in self._streams if not s.ended.is_set())
        if open_tracks + (2 if stream.track == "both_tracks" else 1) > FORKED_TRACKS:
            self._fail(f"a call has {FORKED_TRACKS} forked tracks at most: <Start> was left out")
            return
        opened = self._open_stream(stream, bidirectional=False)
        if not self._line.pacing.seconds:
            # A call that is faster than life would be over before the stream is open.
            await opened.settled.wait()

    async def _dial(self, verb: Dial, base: str) -> Document | None:
        self._answer()
        dialled = self._call.dialled
        self._hear("dial", ", ".join(verb.numbers))
        frames = 0
        if dialled == "completed":
            frames = self._line.join(self._call.tracks.get("outbound", ()))
            self._hear("talk", seconds=frames * FRAME_SECONDS)
            await self._wait(frames)
        elif dialled == "no-answer":
            await self._wait(_frames(verb.timeout))
        else:
            self._hear("busy tone")
        if not verb.action:
            return None
        form = [("DialCallStatus", dialled), ("DialCallSid", new_sid("CA"))]
        form.append(("DialCallDuration", _whole_seconds(frames * FRAME_SECONDS)))
        return await self._ask(resolve(base, verb.action), verb.method, form)

    def _open_stream(self, stream: Stream, *, bidirectional: bool) -> PlacedStream:
        """Open `stream` in a task of its own, and a second socket for it if that is the chaos."""
        first, *_ = placed = [
            PlacedStream(
                StreamPlan(
                    stream,
                    self._call_sid,
                    self._account_sid,
                    bidirectional,
                    StreamChaos(self._call.chaos, len(self._report.streams)),
                    self._close_wait,
                    second,
                ),
                self._line,
                self._webhooks,
                self._requests.tell,
            )
            for second in (False, True)[: 1 + ("two-sockets" in self._call.chaos.kinds)]
        ]
        self._report.streams.append(first.report)
        self._report.second_sockets += [stream.report for stream in placed[1:]]
        self._streams += [(stream, asyncio.create_task(stream.run())) for stream in placed]
        return first

    async def _end_streams(self) -> None:
        for stream, _ in self._streams:
            stream.hang_up()
        await asyncio.gather(*(task for _, task in self._streams))

    async def _wait(self, frames: int, stream: PlacedStream | None = None) -> None:
        """Let `frames` of the call pass, or fewer if `stream` ends."""
        await self._line.wait(frames, stream.ended.is_set if stream else lambda: False)
        self._report.spoken_frames = len(self._line.caller) - self._line.left

    def _answer(self) -> None:
        self._report.state = "in progress"
        self._line.answer()

    def _hear(
        self, kind: HeardKind, text: str = "", language: str = "", seconds: float = 0.0
    ) -> None:
        self._report.heard.append(Heard(kind, text, language, seconds))

    def _fail(self, error: str) -> None:
        self._report.errors.append(error)

    def _break_off(self, error: str) -> _HungUp:
        """What Twilio does with an answer that it cannot follow."""
        self._fail(error)
        self._hear("application error")
        if self._report.state == "ringing":
            self._report.call_status = "failed"
        return _HungUp()

    async def _ask(self, url: str, method: Method, form: Form = ()) -> Document:
        """The document that the service answers at `url`; without one the call is over."""
        if self._line.position > self._asked_at:
            self._idle_documents = 0
        self._idle_documents += 1
        self._asked_at = self._line.position
        if self._idle_documents > DOCUMENTS_WITHOUT_TIME:
            raise self._break_off(
                f"{DOCUMENTS_WITHOUT_TIME} documents followed one another in no time, and then"
                f" {url}: the TwiML goes round in circles"
            )
        status = "ringing" if self._report.state == "ringing" else "in-progress"
        try:
            return await self._requests.ask(url, method, status, form)
        except NoTwiml as error:
            raise self._break_off(str(error)) from None


def _frames(seconds: float) -> int:
    return math.ceil(seconds / FRAME_SECONDS - 1e-9)


def _whole_seconds(seconds: float) -> str:
    return str(math.ceil(seconds - 1e-9))
