"""TwiML, read: the XML with which a service answers Twilio, as the verbs that a call follows.

Pure: no clock, no socket. The document comes from a peer, so it is parsed without entities: a
document type is refused before anything of it is expanded. Whatever is wrong is one error with
Twilio's number for it, never another exception.
Source: Twilio's documentation, "TwiML for Programmable Voice" and error 12100.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn, cast, get_args
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

DOCUMENT_PARSE_FAILURE = 12100
DOCUMENT_BYTES = 64 * 1024  # Twilio reads no more of an answer
PARAMETER_CHARACTERS = 500  # a parameter's name and value together
NO_LOOP = 1

TrackName = Literal["inbound_track", "outbound_track", "both_tracks"]
Reason = Literal["rejected", "busy"]
Method = Literal["POST", "GET"]


class BadTwiml(ValueError):
    """The document cannot be followed; the text says in one line why, as Twilio's error does."""

    code = DOCUMENT_PARSE_FAILURE

    def __init__(self, why: str) -> None:
        super().__init__(f"error {self.code}, document parse failure: {why}")


@dataclass(frozen=True, slots=True)
class Stream:
    """A media stream to be opened; its URL is as written, with a query if there was one."""

    url: str
    name: str = ""
    track: TrackName = "inbound_track"
    parameters: Mapping[str, str] | None = None
    status_callback: str = ""
    status_callback_method: Method = "POST"


@dataclass(frozen=True, slots=True)
class Connect:
    """Give the call to a stream until that ends."""

    stream: Stream
    action: str = ""
    method: Method = "POST"


@dataclass(frozen=True, slots=True)
class Start:
    """Fork the call's audio to a stream, and go on."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Dial:
    """Call somebody else and let the two talk."""

    numbers: tuple[str, ...]
    action: str = ""
    method: Method = "POST"
    timeout: float = 30.0  # seconds of ringing


@dataclass(frozen=True, slots=True)
class Say:
    text: str
    language: str = "en-US"
    voice: str = ""
    loop: int = NO_LOOP  # 0: until the caller hangs up


@dataclass(frozen=True, slots=True)
class Play:
    url: str
    loop: int = NO_LOOP


@dataclass(frozen=True, slots=True)
class Pause:
    length: float = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Redirect:
    url: str
    method: Method = "POST"


@dataclass(frozen=True, slots=True)
class Reject:
    reason: Reason = "rejected"


@dataclass(frozen=True, slots=True)
class Hangup:
    pass


Verb = Connect | Start | Dial | Say | Play | Pause | Redirect | Reject | Hangup


def parse_twiml(document: str | bytes) -> tuple[Verb, ...]:
    """The verbs of `document` in their order. Raises BadTwiml."""
    root = _parse_xml(document)
    if root.tag != "Response":
        raise BadTwiml(f"the root is <{_short(root.tag)}>, not <Response>")
    _no_text(root)
    return tuple(_verb(element) for element in root)


def _parse_xml(document: str | bytes) -> Element:
    content = document.encode("utf-8", "surrogatepass") if isinstance(document, str) else document
    if not content.strip():
        raise BadTwiml("the answer is empty")
    if len(content) > DOCUMENT_BYTES:
        raise BadTwiml(f"the answer has {len(content)} bytes, more than {DOCUMENT_BYTES}")
    # A text has been decoded already: what its declaration says of bytes is of no account.
    parser = expat.ParserCreate("utf-8" if isinstance(document, str) else None)
    builder = TreeBuilder()
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BadTwiml(f"the answer is no XML: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that is none
        if isinstance(error, BadTwiml):
            raise
        raise BadTwiml(f"the answer is no XML: {error}") from None
    return builder.close()


def _refuse_doctype(*_: object) -> NoReturn:
    raise BadTwiml("the answer has a document type, which TwiML has not")


def _verb(element: Element) -> Verb:
    reader = _READERS.get(element.tag)
    if reader is None:
        raise BadTwiml(f"<{_short(element.tag)}> is no verb that is known here")
    return reader(element)


def _connect(element: Element) -> Connect:
    _attributes(element, {"action", "method"})
    stream = _stream(_only_child(element))
    if stream.track != "inbound_track":
        raise BadTwiml(f"<Connect><Stream> has the inbound track only, not {stream.track}")
    return Connect(stream, element.get("action", "").strip(), _method(element))


def _start(element: Element) -> Start:
    _attributes(element, {"action", "method"})
    return Start(_stream(_only_child(element)))


def _only_child(element: Element) -> Element:
    _no_text(element)
    children = list(element)
    if len(children) != 1 or children[0].tag != "Stream":
        names = "".join(f"<{_short(child.tag)}>" for child in children[:5]) or "nothing"
        raise BadTwiml(f"<{element.tag}> holds {names}: one <Stream> is known here")
    return children[0]


def _stream(element: Element) -> Stream:
    known = {"url", "name", "track", "statusCallback", "statusCallbackMethod"}
    _attributes(element, known)
    _no_text(element)
    url = element.get("url", "").strip()
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("wss", "ws") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise BadTwiml(f"the <Stream> has the url {_short(url)!r}: it must be wss://HOST/PATH")
    track = element.get("track", "inbound_track")
    if track not in get_args(TrackName):
        raise BadTwiml(f"the <Stream> has the track {_short(track)!r}: {_one_of(TrackName)}")
    return Stream(
        url,
        element.get("name", ""),
        cast(TrackName, track),
        _parameters(element),
        element.get("statusCallback", "").strip(),
        _method(element, "statusCallbackMethod"),
    )


def _parameters(stream: Element) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for child in stream:
        if child.tag != "Parameter":
            raise BadTwiml(f"<Stream> holds <{_short(child.tag)}>: only <Parameter> is known here")
        _attributes(child, {"name", "value"})
        name, value = child.get("name"), child.get("value")
        if not name or value is None:
            raise BadTwiml("a <Parameter> lacks its name or its value")
        if len(name) + len(value) > PARAMETER_CHARACTERS:
            raise BadTwiml(
                f"the <Parameter> {_short(name)!r} has {len(name) + len(value)} characters with"
                f" its value, more than {PARAMETER_CHARACTERS}"
            )
        parameters[name] = value
    return parameters


DIAL_ATTRIBUTES = frozenset({
    *("action", "method", "timeout", "callerId", "answerOnBridge", "hangupOnStar", "timeLimit"),
    *("ringTone", "record", "recordingStatusCallback", "recordingStatusCallbackMethod"),
    *("recordingTrack", "trim"),
})  # fmt: skip
NUMBER_ATTRIBUTES = frozenset({
    *("url", "method", "sendDigits", "statusCallback", "statusCallbackEvent"),
    "statusCallbackMethod",
})  # fmt: skip


def _dial(element: Element) -> Dial:
    _attributes(element, DIAL_ATTRIBUTES)
    numbers = [text] if (text := (element.text or "").strip()) else []
    for child in element:
        if child.tag not in ("Number", "Client", "Sip"):
            raise BadTwiml(f"<Dial> holds <{_short(child.tag)}>, which is not known here")
        _attributes(child, NUMBER_ATTRIBUTES)
        numbers.append((child.text or "").strip())
    if not all(numbers) or not numbers:
        raise BadTwiml("<Dial> names nobody to call")
    timeout = _number(element, "timeout", 30.0)
    return Dial(tuple(numbers), element.get("action", "").strip(), _method(element), timeout)


def _say(element: Element) -> Say:
    _attributes(element, {"language", "voice", "loop"})
    # SSML may stand within; what is spoken is its text.
    text = " ".join("".join(element.itertext()).split())
    if not text:
        raise BadTwiml("<Say> says nothing")
    loop = int(_number(element, "loop", NO_LOOP))
    return Say(text, element.get("language", "en-US"), element.get("voice", ""), loop)


def _play(element: Element) -> Play:
    _attributes(element, {"loop", "digits"})
    _no_children(element)
    url = (element.text or "").strip()
    if not url and not element.get("digits"):
        raise BadTwiml("<Play> names no file")
    return Play(url or f"digits {element.get('digits')}", int(_number(element, "loop", NO_LOOP)))


def _pause(element: Element) -> Pause:
    _attributes(element, {"length"})
    _no_children(element)
    return Pause(_number(element, "length", 1.0))


def _redirect(element: Element) -> Redirect:
    _attributes(element, {"method"})
    _no_children(element)
    return Redirect((element.text or "").strip(), _method(element))


def _reject(element: Element) -> Reject:
    _attributes(element, {"reason"})
    _no_children(element)
    reason = element.get("reason", "rejected")
    if reason not in get_args(Reason):
        raise BadTwiml(f"<Reject> has the reason {_short(reason)!r}: {_one_of(Reason)}")
    return Reject(cast(Reason, reason))


def _hangup(element: Element) -> Hangup:
    _attributes(element, set())
    _no_children(element)
    return Hangup()


_READERS: Mapping[str, Callable[[Element], Verb]] = {
    "Connect": _connect,
    "Start": _start,
    "Dial": _dial,
    "Say": _say,
    "Play": _play,
    "Pause": _pause,
    "Redirect": _redirect,
    "Reject": _reject,
    "Hangup": _hangup,
}


def _attributes(element: Element, known: set[str] | frozenset[str]) -> None:
    for name in element.keys():  # noqa: SIM118 an element iterates over its children
        if name not in known:
            raise BadTwiml(f"<{element.tag}> has no attribute {_short(name)!r}")


def _no_text(element: Element) -> None:
    texts = [element.text, *(child.tail for child in element)]
    for text in texts:
        if text and text.strip():
            raise BadTwiml(f"<{element.tag}> holds the text {_short(text.strip())!r}")


def _no_children(element: Element) -> None:
    if len(element):
        raise BadTwiml(f"<{element.tag}> holds <{_short(element[0].tag)}>")


def _method(element: Element, name: str = "method") -> Method:
    method = element.get(name, "POST").upper()
    if method not in get_args(Method):
        raise BadTwiml(f"<{element.tag}> has the {name} {_short(method)!r}: {_one_of(Method)}")
    return cast(Method, method)


def _number(element: Element, name: str, default: float) -> float:
    text = element.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise BadTwiml(f"<{element.tag}> has the {name} {_short(text)!r}: a whole number is meant")
    return float(text)


def _one_of(names: object) -> str:
    return f"it must be one of {', '.join(get_args(names))}"


def _short(text: str) -> str:
    """One line, of a screen's width at most."""
    return " ".join(text.split())[:80]
