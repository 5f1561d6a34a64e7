"""Faults on order: how they are written, what is refused, and who gets which."""

from __future__ import annotations

import pytest

from speech_server_control import read_faults
from speech_server_faults import KINDS, STATUS_CODES, BadFault, Fault, Faults, parse_fault
from speech_server_rules import TOO_LONG

# Lines and the fault that each orders.
LINES = [
    ("die at=5", Fault("die", at=5.0)),
    ("die", Fault("die", at="open", status="UNAVAILABLE")),
    ("status=PERMISSION_DENIED at=open text='not yours'", Fault(
        "die", status="PERMISSION_DENIED", text="not yours")),
    ("status=13 at=half-close next=3", Fault("die", status="INTERNAL", at="half-close", count=3)),
    ("die status=OK audio=2.5", Fault("die", status="OK", audio=2.5)),
    ("cut", Fault("cut", at=305.0, version="v1")),
    ("cut at=3 v2 next=1", Fault("cut", at=3.0, version="v2", count=1)),
    ("mute for=20", Fault("mute", seconds=20.0)),
    ("slow rate=0.25", Fault("slow", rate=0.25)),
    ("reset at=2 next=1", Fault("reset", at=2.0, count=1)),
    ('in-band status=14 text="gone away"', Fault("in-band", text="gone away")),
    ("unavailable for=20", Fault("unavailable", seconds=20.0)),
    ("exhausted text=quota", Fault("exhausted", text="quota")),
    ("recognize status=DATA_LOSS next=2", Fault("recognize", status="DATA_LOSS", count=2)),
    ('  die text="#1"  # why', Fault("die", text="#1")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "fault"), LINES)
def test_a_line_orders_a_fault(line: str, fault: Fault) -> None:
    """Each kind, moment and scope is read from its line."""
    assert parse_fault(line) == fault


@pytest.mark.parametrize("fault", [fault for _, fault in LINES])
def test_a_fault_says_its_line(fault: Fault) -> None:
    """What a fault is printed as orders the same fault."""
    assert parse_fault(str(fault)) == fault


def test_what_is_a_kinds_own_is_not_printed() -> None:
    """The line is as short as a person would write it."""
    assert str(parse_fault("cut at=305 v1")) == "cut"
    assert str(parse_fault("die status=UNAVAILABLE at=0.123456789")) == "die at=0.123456789"


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("die", "UNAVAILABLE", "The service is currently unavailable."),
        ("cut", "OUT_OF_RANGE", TOO_LONG),
        ("cut v2", "ABORTED", "Max duration of 5 minutes reached for stream."),
        ("exhausted", "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Requests' and limit"
         " 'Requests per minute' of service 'speech.googleapis.com'."),
        ("status=DATA_LOSS", "DATA_LOSS", "DATA_LOSS on order."),
        ('in-band status=5 text=""', "NOT_FOUND", ""),
    ],
)  # fmt: skip
def test_code_and_words(line: str, code: str, text: str) -> None:
    """A fault ends a stream in the words of the service, or as ordered."""
    verdict = parse_fault(line).verdict
    assert (verdict.code, verdict.text) == (code, text)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "empty line is no fault; it begins with die cut mute"),
        ("explode", "no kind of fault is called 'explode'; there are die cut mute"),
        ("at=5 die", "no kind of fault is called 'at=5'"),
        ("die soon", "cannot read 'soon' in a fault; its words are status text at"),
        ("die when=5", "cannot read 'when=5'"),
        ("die at=5 at=6", "at is there twice"),
        ("cut v1 v2", "version is there twice"),
        ("die at=noon", "at=noon is no moment; it is open, half-close or seconds"),
        ("die at=-1", "at=-1.0 is no moment"),
        ("die at=inf", "at=inf is no moment"),
        ("die at=1 audio=1", "one moment: at= or audio="),
        ("die audio=0", "audio=0 must be above 0"),
        ("die audio=much", "audio=much is not a number"),
        ("die for=nan", "for=nan must be above 0"),
        ("die next=0", "next=0 must be 1 or more"),
        ("die next=1.5", "next=1.5 is not a whole number"),
        ("die status=17", "status=17 is no gRPC status; OK CANCELLED"),
        ("status=BROKEN", "status=BROKEN is no gRPC status"),
        ("in-band status=0", "in-band cannot be OK"),
        ("recognize status=OK", "recognize cannot be OK"),
        ("cut version=v3", "'v3' is no version; it is v1 or v2"),
        ("mute status=INTERNAL", "mute takes no status; it takes at audio for next"),
        ("slow at=half-close", "slow has nothing left to read"),
        ("slow rate=0", "rate=0 must be above 0"),
        ("unavailable at=5", "unavailable takes no at; it takes for text"),
        ("exhausted next=2", "exhausted takes no next"),
        ("recognize at=5", "recognize takes no at"),
        ('die text="never ends', "no closing quotation"),
    ],
)
def test_wrong_lines(line: str, complaint: str) -> None:
    """A wrong line is refused in one line, with a word on what would be right."""
    with pytest.raises(BadFault) as refusal:
        parse_fault(line)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_wrong_faults_in_python() -> None:
    """A fault that is made without a line is checked as well."""
    with pytest.raises(BadFault, match="takes no rate"):
        Fault("die", rate=0.5)
    with pytest.raises(BadFault, match="no kind"):
        Fault("explode")


def test_codes_stand_at_their_numbers() -> None:
    """The names of codes are gRPC's, in the order of its numbers."""
    import grpc

    assert [grpc.StatusCode[name].value[0] for name in STATUS_CODES] == list(range(17))


# Who gets which.


def faults_of(*lines: str, now: float = 0.0) -> Faults:
    faults = Faults()
    faults.order(*map(parse_fault, lines), now=now)
    return faults


def stream_faults(faults: Faults, count: int, now: float = 0.0) -> list[str]:
    """What the next streams get."""
    return [str(faults.for_stream(now) or "") for _ in range(count)]


def test_a_fault_holds_until_it_is_cleared() -> None:
    """Without a scope every stream gets it; cleared, none does."""
    faults = faults_of("mute")
    assert stream_faults(faults, 3, now=1e6) == ["mute"] * 3
    faults.clear()
    assert stream_faults(faults, 1) == [""]
    assert faults.in_force(0.0) == ()


def test_next_is_counted() -> None:
    """Each order is for so many streams; then comes the order behind it, and then none."""
    faults = faults_of("die next=2", "mute next=1")
    assert stream_faults(faults, 4) == ["die next=2", "die next=2", "mute next=1", ""]


def test_for_is_timed_from_the_order() -> None:
    """An order for some seconds holds that long after it was given."""
    faults = faults_of("mute for=20", now=100.0)
    assert stream_faults(faults, 1, now=119.9) == ["mute for=20"]
    assert stream_faults(faults, 1, now=120.0) == [""]


def test_the_first_in_force_is_the_streams() -> None:
    """A stream gets one fault: the first that was ordered and still holds."""
    faults = faults_of("mute for=1", "die")
    faults.order(parse_fault("reset"), now=0.0)
    assert stream_faults(faults, 1, now=0.5) == ["mute for=1"]
    assert stream_faults(faults, 1, now=1.0) == ["die"]
    assert list(map(str, faults.in_force(1.0))) == ["die", "reset"]


def test_streams_and_recordings_get_their_own() -> None:
    """Recognize gets what is ordered for it and what takes the service away, streams the rest."""
    faults = faults_of("recognize next=1", "die next=1", "exhausted")
    assert stream_faults(faults, 2) == ["die next=1", "exhausted"]
    assert [str(faults.for_recognize(0.0)) for _ in range(2)] == ["recognize next=1", "exhausted"]


def test_every_kind_is_for_someone() -> None:
    """No kind can be ordered that nobody can get."""
    for kind in KINDS:
        fault = Fault(kind)
        assert fault.on_streams or fault.on_recognize


def test_lines_of_a_file() -> None:
    """Comments and empty lines are none; a wrong line is named, and the others hold."""
    faults, wrong = read_faults("# mute\n\ndie at=5 # soon\n  # more\nexplode\nreset\n")
    assert list(map(str, faults)) == ["die at=5", "reset"]
    assert len(wrong) == 1
    assert wrong[0].startswith("line 5: no kind of fault is called 'explode'")
