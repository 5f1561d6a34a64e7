"""A wire, over TLS as to Google and without: both ways at once, refusals, ends."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wire import Wire, connect, google_tls

PATIENCE = 10.0
Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class Server:
    """Serves one connection by `serve`, in a thread."""

    def __init__(self, serve: Serve, certificate: Path | None, protocol: str = "h2") -> None:
        self._serve = serve
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
            self._tls.set_alpn_protocols([protocol])
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sock, _ = self._listening.accept()
        sock.settimeout(PATIENCE)
        with sock:
            try:
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                self._serve(sock)
            except OSError:  # the client refused us
                return

    def close(self) -> None:
        self._thread.join(PATIENCE)
        self._listening.close()


@pytest.fixture(params=["TLS", "plain"])
def wire_to(request: pytest.FixtureRequest, certificate: Path) -> Iterator[Callable[..., Wire]]:
    """Connects to a server of what it is given, in both ways."""
    secure = request.param == "TLS"
    made: list[tuple[Wire, Server]] = []

    def wire_to(serve: Serve) -> Wire:
        server = Server(serve, certificate if secure else None)
        wire = connect("127.0.0.1", server.port, trusting(certificate) if secure else None, 10.0)
        made.append((wire, server))
        return wire

    yield wire_to
    for wire, server in made:
        wire.close()
        wire.release()
        server.close()


def trusting(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2"])
    return context


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_one_reads_while_others_write(wire_to: Callable[..., Wire]) -> None:
    """2 MB each way, from three threads: nothing is lost or mixed up within a write."""
    wire = wire_to(echo)
    parts = [bytes([n]) * 7000 for n in range(1, 4)]

    def write(part: bytes) -> None:
        for _ in range(100):
            wire.write(part)

    threads = [threading.Thread(target=write, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    heard = b""
    while len(heard) < 7000 * 300:
        data = wire.read()
        assert data
        heard += data
    for thread in threads:
        thread.join(PATIENCE)
    assert {heard[at : at + 7000] for at in range(0, len(heard), 7000)} == set(parts)


def test_a_read_waits_for_nobody_who_writes(wire_to: Callable[..., Wire]) -> None:
    """A server that takes nothing for a while is heard all the same: it may say why."""
    asked: SimpleQueue[bytes | None] = SimpleQueue()

    def say(sock: socket.socket) -> None:
        while said := asked.get(timeout=PATIENCE):
            sock.sendall(said)
        while sock.recv(65536):
            continue

    wire = wire_to(say)
    writer = threading.Thread(target=lambda: wire.write(bytes(20_000_000)), daemon=True)
    writer.start()
    for said in (b"first", b"second", b"third"):
        asked.put(said)
        assert wire.read() == said
    assert writer.is_alive()
    asked.put(None)
    writer.join(PATIENCE)
    assert not writer.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no such limit")
def test_a_connection_that_nobody_acknowledges_is_given_up(wire_to: Callable[..., Wire]) -> None:
    """The system does it; without this it would try on for a quarter of an hour."""
    wire = wire_to(lambda sock: sock.recv(1))
    assert wire._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def test_the_other_sides_end_is_no_bytes(wire_to: Callable[..., Wire]) -> None:
    """Also where TLS says good-bye first."""

    def leave(sock: socket.socket) -> None:
        sock.sendall(b"last words")
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()

    wire = wire_to(leave)
    assert wire.read() == b"last words"
    assert wire.read() == b""


def test_close_ends_a_read_from_another_thread(wire_to: Callable[..., Wire]) -> None:
    """Whoever reads would wait for minutes."""
    wire = wire_to(lambda sock: sock.recv(1))
    over = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):  # an end as good as no bytes
            assert wire.read() == b""
        over.set()

    threading.Thread(target=read, daemon=True).start()
    wire.close()
    assert over.wait(PATIENCE)


def test_nobody_says_anything_for_too_long(certificate: Path) -> None:
    """It is told, so that whoever reads can look after the connection."""
    over = threading.Event()

    def say_nothing(_: socket.socket) -> None:
        over.wait(PATIENCE)

    server = Server(say_nothing, certificate)
    wire = connect("127.0.0.1", server.port, trusting(certificate), 0.3)
    with pytest.raises(TimeoutError):
        wire.read()
    over.set()
    server.close()
    wire.release()


def test_a_server_that_is_not_who_it_should_be_is_refused(certificate: Path) -> None:
    """Google's context trusts nobody whose certificate no authority has signed."""
    server = Server(echo, certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect("127.0.0.1", server.port, google_tls(), PATIENCE)
    server.close()


def test_a_name_that_is_not_on_the_certificate_is_refused(certificate: Path) -> None:
    """Somebody else's certificate is as good as none."""
    server = Server(echo, certificate)
    with pytest.raises(ssl.SSLCertVerificationError, match="localhost"):
        connect("localhost", server.port, trusting(certificate), PATIENCE)
    server.close()


def test_a_server_without_http2_is_refused(certificate: Path) -> None:
    """A proxy that looks into TLS, for example."""
    server = Server(echo, certificate, protocol="http/1.1")
    with pytest.raises(ConnectionError, match="does not speak HTTP/2"):
        connect("127.0.0.1", server.port, trusting(certificate), PATIENCE)
    server.close()


def test_google_tls_checks_names_and_speaks_http2() -> None:
    """The settings that make it TLS to Google, and one context for all connections."""
    context = google_tls()
    assert context is google_tls()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.get_ca_certs()


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys, threading
sys.path[:0] = [".", "tests"]
from pathlib import Path
from test_wire import Server, echo, trusting
from wire import connect
certificate = Path(sys.argv[1])
server = Server(echo, certificate)
wire = connect("127.0.0.1", server.port, trusting(certificate), 10.0)
threading.Timer(0.1, wire.write, [b"from a greenlet"]).start()
print(wire.read().decode())
wire.close()
"""


def test_it_is_the_same_among_greenlets(certificate: Path) -> None:
    """A read lets the others go on, though all are in one thread."""
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, str(certificate)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "from a greenlet\n", done.stderr
