"""The command with --number: what it sends, what it says, and its exit codes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import soundfile
from placed_calls import media
from twilio_service import Asked, TwilioService

import twilio_simulator
from twilio_webhooks import sign

COMMAND = Path(__file__).parent.parent / "twilio_simulator.py"
BOTH = 'track="both_tracks"'


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A tenth of a second of audio: five frames."""
    path = tmp_path / "short.wav"
    soundfile.write(path, [n / 800 for n in range(800)], 8000, subtype="ULAW")
    return path


def run(
    service: TwilioService, arguments: Sequence[object], capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of the command; "URL" stands for the service's."""

    async def command() -> int:
        async with service:
            given = [service.url if one == "URL" else str(one) for one in arguments]
            return await asyncio.to_thread(twilio_simulator.main, given)

    code = asyncio.run(command())
    out, err = capsys.readouterr()
    return code, out, err


def test_a_call_to_a_number(
    wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the webhook, signed with the environment's token, to what the caller heard."""
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "new,old")

    def answer(asked: Asked) -> str:
        if asked.path == "/after":
            return '<Say language="he-IL">שלום</Say>'
        start = f"<Start>{media(service.url, more=BOTH)}</Start>"
        return f'{start}<Dial action="/after">+972500000001</Dial>'

    service = TwilioService(answer)
    arguments = ["--number", "+97231234567", "--from", "anonymous", "--business", wav]
    code, out, err = run(service, [*arguments, "URL", wav], capsys)
    assert (code, err) == (0, "")
    voice = service.asked[0]
    assert (voice["To"], voice["From"]) == ("+97231234567", "anonymous")
    wanted = sign("new", f"{service.url}/voice", voice.form)
    assert voice.headers["X-Twilio-Signature"] == wanted
    (stream,) = service.streams
    assert stream.start["tracks"] == ["inbound", "outbound"]
    for line in (
        f"{voice['CallSid']} to +97231234567: completed, 1.1 s, ",
        "  webhook /voice: HTTP 200\n",
        "  heard: dial +972500000001\n  heard: talk 0.1 s\n  heard: say (he-IL) שלום\n",
        " frames, closed with 1000 by the service\n",
        "  status completed to /status: HTTP 204\n",
        "1 placed, 1 ok, 0 failed\n",
    ):
        assert line in out


def test_a_failed_call_is_a_line_and_an_exit_code(
    wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Twilio would complain of, on stderr."""
    code, out, err = run(
        TwilioService(lambda _: "<Conference/>"), ["--number", "+1", "URL", wav], capsys
    )
    assert code == 1
    assert "heard: application error" in out
    assert "1 placed, 0 ok, 1 failed" in out
    assert err.count("\n") == 1
    assert "error 12100, document parse failure: <Conference> is no verb" in err


def test_several_calls_take_numbers_in_turn(wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two numbers and three calls, without a status callback."""
    service = TwilioService(lambda _: "<Reject/>")
    code, _, _ = run(
        service,
        ["--number", "+1", "--number", "+2", "--calls", 3, "--status-callback", "", "URL", wav],
        capsys,
    )
    assert code == 0
    assert sorted(asked["To"] for asked in service.asked) == ["+1", "+1", "+2"]
    assert service.statuses == []


def test_chaos_is_a_list_of_kinds(wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After the files without any: all of them."""
    service = TwilioService(lambda _: "<Reject/>")
    code, _, _ = run(service, ["--number", "+1", "URL", wav, "--chaos"], capsys)
    assert (code, len(service.asked)) == (0, 2)
    service = TwilioService(lambda _: "<Reject/>")
    code, _, _ = run(service, ["--chaos=cut,gaps", "--number", "+1", "URL", wav], capsys)
    assert (code, len(service.asked)) == (0, 1)


def test_wrong_usage_is_one_line_each(wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is wrong, and exit code 2."""
    arguments = ["--number", "+1", "--tenant", "T1", "--business", "none.wav"]
    assert twilio_simulator.main([*arguments, "ws://h/media", str(wav)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "--tenant is for ws:// addresses" in lines[0]
    assert "no service's address" in lines[1]
    assert "none.wav" in lines[2]
    with pytest.raises(SystemExit):
        twilio_simulator.main(["--number", "+1", "--chaos", "http://h", str(wav)])
    assert "is no kind of chaos" in capsys.readouterr().err


def test_ctrl_c_hangs_up(tmp_path: Path) -> None:
    """The stream gets its `stop`, the status is told, and the exit code is 130."""
    wav = tmp_path / "long.wav"
    soundfile.write(wav, [0.1] * 8000 * 60, 8000, subtype="ULAW")

    async def command() -> tuple[int | None, str]:
        async with service:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(COMMAND), "--number", "+1", service.url, str(wav)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            await service.media_arrived.wait()
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
            return process.returncode, err.decode()

    service = TwilioService(lambda _: f"<Connect>{media(service.url)}</Connect>")
    code, err = asyncio.run(command())
    assert code == 130
    assert err.startswith("interrupted: every call was hung up")
    assert service.streams[0].events()[-1] == "stop"
    assert service.statuses[0]["CallStatus"] == "completed"
