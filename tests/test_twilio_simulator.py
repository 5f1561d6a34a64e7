"""The command: its lines, its exit codes, and the text that it reads back from the log."""

from __future__ import annotations

import asyncio
import base64
import signal
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import soundfile
from rich.console import Console
from stream_server import StreamServer, close_after_stop
from websockets.asyncio.server import ServerConnection

import twilio_simulator
from wav_frames import encode_mulaw, read_mulaw

COMMAND = Path(__file__).parent.parent / "twilio_simulator.py"


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    """A tenth of a second of audio: five frames."""
    path = tmp_path / "short.wav"
    soundfile.write(path, [n / 800 for n in range(800)], 8000, subtype="ULAW")
    return path


async def start(arguments: Sequence[object]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(COMMAND),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def run(server: StreamServer, *arguments: object) -> tuple[int | None, str, str]:
    """The exit code, stdout and stderr of the command, called with the server's URL."""

    async def command() -> tuple[int | None, str, str]:
        async with server:
            return await finish(await start([server.url, *arguments]))

    return asyncio.run(command())


def usage(*arguments: object) -> tuple[int, list[str]]:
    """The exit code and the lines on stderr of a command that must not get as far as a call."""

    async def command() -> tuple[int | None, str, str]:
        return await finish(await start(arguments))

    code, out, err = asyncio.run(command())
    assert out == ""
    assert code is not None
    return code, err.splitlines()


def test_calls_take_files_and_tenants_in_turn(wav: Path, tmp_path: Path) -> None:
    """Three calls of two files and two businesses: what is sent, told and returned."""
    other = tmp_path / "other.wav"
    soundfile.write(other, [0.25] * 320, 8000, subtype="PCM_16")
    server = StreamServer()
    code, out, err = run(
        server, wav, other, "--calls", 3, "--tenant", "clinic", "--tenant", "garage"
    )
    assert (code, err) == (0, "")
    heard = {
        stream.messages[1]["start"]["callSid"]: (
            stream.messages[1]["start"]["customParameters"]["tenant"],
            b"".join(base64.b64decode(m["payload"]) for m in stream.media()),
        )
        for stream in server.streams
    }
    clinic, garage = read_mulaw(wav), read_mulaw(other)
    assert sorted(heard.values()) == sorted([("clinic", clinic)] * 2 + [("garage", garage)])
    for sid, (tenant, _) in heard.items():
        assert f"{sid} {tenant} " in out
    assert out.count("short.wav: ended\n") == 2
    assert out.splitlines()[-1].startswith("3 calls, 3 ok, 0 failed; 12 frames sent, the latest ")
    assert out.endswith("closed with 1000 ×3\n")


def test_options_reach_the_calls(wav: Path) -> None:
    """A tenant in the path, the file twice, and an end without `stop`."""
    server = StreamServer()
    code, _, _ = run(
        server, wav, "--tenant", "T1", "--tenant-in", "path", "--repeat", 2, "--end", "close"
    )
    (stream,) = server.streams
    assert code == 0
    assert stream.path == "/media/T1"
    assert len(stream.media()) == 10
    assert stream.events()[-1] == "media"


def test_many_calls_are_told_of_in_sums(wav: Path) -> None:
    """Twenty calls do not print twenty lines."""
    code, out, _ = run(StreamServer(), wav, "--calls", 20, "--ramp", 0.1)
    assert code == 0
    assert "20 calls: 20 ended; 100 frames sent" in out
    assert "closed with 1000 ×20" in out
    assert "CA" not in out


def test_refused_calls_fail_in_one_line(wav: Path) -> None:
    """The same error of several calls is one line on stderr, and the exit code is 1."""
    code, out, err = run(StreamServer(status=HTTPStatus.FORBIDDEN), wav, "--calls", 2)
    assert code == 1
    assert "2 calls, 0 ok, 2 failed" in out
    assert err.count("\n") == 1
    assert "HTTP 403" in err
    assert "(2 calls)" in err


@pytest.mark.parametrize(("close_code", "exit_code"), [(1000, 0), (1013, 1)])
def test_a_call_that_the_server_ends(wav: Path, close_code: int, exit_code: int) -> None:
    """1000 is a good end and told of; any other code fails the command."""

    async def hang_up(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "media":
            await socket.close(close_code, "that is all")

    code, out, err = run(StreamServer(hang_up), wav)
    assert code == exit_code
    assert f"closed with {close_code} that is all, ended early by the server" in out
    assert (f"with {close_code} that is all" in err) is bool(exit_code)


def test_wrong_usage_is_one_line_each(wav: Path, tmp_path: Path) -> None:
    """A wrong URL, files that cannot be played and a missing log: a line each, exit code 2."""
    mp3 = tmp_path / "song.mp3"
    mp3.write_bytes(b"ID3 and so on")
    missing = tmp_path / "none.wav"
    code, lines = usage(
        "http://localhost:8000/media", wav, mp3, missing, "--transcript", tmp_path / "none.log"
    )
    assert code == 2
    assert len(lines) == 4
    assert all(line.startswith("twilio_simulator.py: ") for line in lines)
    assert "a media stream's is ws://localhost:8000/media" in lines[0]
    assert "not a WAV" in lines[1]
    assert str(missing) in lines[2]
    assert "none.log: no such file" in lines[3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: URL, FILE.wav"),
        (["ws://h/media", "a.wav", "--calls", "0"], "'0' is no whole number from 1 on"),
        (["ws://h/media", "a.wav", "--ramp", "-1"], "'-1' is no number of seconds"),
        (["ws://h/media", "a.wav", "--ramp", "nan"], "'nan' is no number of seconds"),
        (["ws://h/media", "a.wav", "--end", "never"], "invalid choice: 'never'"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """argparse's errors come without its usage, and with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        twilio_simulator.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows commands that can be copied, and the exit codes."""
    with pytest.raises(SystemExit) as caught:
        twilio_simulator.main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "python twilio_simulator.py ws://127.0.0.1:8000/media samples/" in out
    assert "130 stopped by Ctrl-C" in out


def test_a_query_is_stripped_with_a_note(wav: Path) -> None:
    """What Twilio would strip is stripped, and said."""

    async def command() -> tuple[int | None, str, str]:
        async with StreamServer() as server:
            return await finish(await start([f"{server.url}?token=1", wav]))

    code, _, err = asyncio.run(command())
    assert code == 0
    assert err.startswith("note: Twilio strips")


def test_ctrl_c_hangs_up(tmp_path: Path) -> None:
    """An interrupt ends every call with `stop` and a close, and the command with 130."""
    wav = tmp_path / "long.wav"
    soundfile.write(wav, [0.1] * 8000 * 60, 8000, subtype="ULAW")

    async def command() -> tuple[StreamServer, tuple[int | None, str, str]]:
        async with StreamServer() as server:
            process = await start([server.url, wav])
            await server.media_arrived.wait()
            process.send_signal(signal.SIGINT)
            result = await finish(process)
            await server.all_closed.wait()
        return server, result

    server, (code, _, err) = asyncio.run(command())
    assert code == 130
    assert err.startswith("interrupted: every call was hung up")
    assert err.count("\n") == 1
    assert server.streams[0].events()[-1] == "stop"
    assert server.streams[0].close_code == 1000


def test_the_text_is_read_from_the_services_log(wav: Path, tmp_path: Path) -> None:
    """Each call's finals are printed under its own id; a call without any is told of."""
    log = tmp_path / "service.log"
    log.write_text("[INFO] Booting worker\n", encoding="utf-8")
    texts = {"clinic": ["שלום, אני רוצה תור", "call me call=CA1 tenant=x"], "garage": []}
    about: dict[ServerConnection, tuple[str, str]] = {}

    async def transcribe(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "start":
            start = message["start"]
            about[socket] = start["callSid"], start["customParameters"]["tenant"]
        elif message["event"] == "stop":
            call, tenant = about[socket]
            with log.open("a", encoding="utf-8") as file:
                for text in texts[tenant]:
                    file.write(f"🟢 Final: {text} call={call} tenant={tenant}\n")
                file.write(
                    f"[STT] session closed call={call} tenant={tenant}"
                    " frames=5 dropped=0 seconds=0.1\n"
                )
            await close_after_stop(socket, message)

    code, out, _ = run(
        StreamServer(transcribe),
        *(wav, "--calls", 2, "--tenant", "clinic", "--tenant", "garage", "--transcript", log),
    )
    assert code == 0
    sids = {tenant: call for call, tenant in about.values()}
    assert (
        f"text of {sids['clinic']} clinic short.wav:\n"
        "  שלום, אני רוצה תור\n"
        "  call me call=CA1 tenant=x\n"
        f"text of {sids['garage']} garage short.wav:\n"
        "  (none: nothing final was recognised, or LOG_TRANSCRIPTS is 0)\n"
    ) in out


def test_a_log_that_never_closes_is_not_waited_for_ever(wav: Path, tmp_path: Path) -> None:
    """The wait for the end of a call in the log is bounded, and its absence is said."""
    log = tmp_path / "service.log"
    log.touch()

    async def begin_only(socket: ServerConnection, message: dict[str, Any]) -> None:
        if message["event"] == "start" and message["start"]["customParameters"]:
            about = f"call={message['start']['callSid']} tenant=T1"
            log.write_text(f"[STT] session started {about}\n", encoding="utf-8")
        await close_after_stop(socket, message)

    wait = ("--transcript", log, "--transcript-wait", 0.2)
    code, out, _ = run(StreamServer(begin_only), wav, "--tenant", "T1", *wait)
    assert code == 0
    assert "(none yet: the log does not tell the end" in out
    code, out, _ = run(StreamServer(begin_only), wav, *wait)
    assert "(none: the log says nothing of this call" in out
    code, out, _ = run(StreamServer(status=HTTPStatus.FORBIDDEN), wav, *wait)
    assert "(none: nothing was played)" in out


@pytest.mark.parametrize("calls", [2, 20])
def test_a_terminal_gets_bars(
    calls: int, wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal a bar is drawn for each call, or one for all if they are many."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(
        twilio_simulator, "Console", lambda: Console(force_terminal=True, width=160)
    )

    async def command() -> int:
        async with StreamServer() as server:
            # A name in brackets must not be taken for rich's markup.
            arguments = [server.url, str(wav), "--calls", str(calls), "--tenant", "[/b]"]
            return await asyncio.to_thread(twilio_simulator.main, arguments)

    assert asyncio.run(command()) == 0
    out = capsys.readouterr().out
    assert "━" in out
    assert ("20 calls" in out) is (calls == 20)
    assert "ended" in out


def test_mulaw_of_the_fixture_is_not_silence(wav: Path) -> None:
    """The audio that the tests above compare has many different bytes."""
    assert len(set(read_mulaw(wav))) > 50
    assert encode_mulaw(soundfile.read(wav)[0]) == read_mulaw(wav)
