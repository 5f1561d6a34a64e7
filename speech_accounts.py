"""Whose account at Google, and which region, a business's calls are recognised with.

A business may have a key of its own, in an environment variable that its settings name, and a
region. Businesses that share both share their connections. Any thread; nothing waits here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from google.auth.credentials import Credentials

from businesses import Business
from call_log import logger
from errors import SettingsError
from google_credentials import key_credentials
from speech_connections import GLOBAL_HOST, SpeechConnections

# Source: Google's documentation, "Specify a regional endpoint"
_HOSTS = {
    "global": GLOBAL_HOST,
    "eu": "eu-speech.googleapis.com",
    "us": "us-speech.googleapis.com",
}


class SpeechAccounts:
    """The connections for each business.

    `credentials`: the service's own; with None all go to `emulator_host`, which takes no keys.
    `transport`: see `SpeechConnections`.
    """

    def __init__(
        self,
        credentials: Credentials | None,
        emulator_host: str = "",
        transport: str = "",
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._credentials = credentials
        self._emulator_host = emulator_host
        self._transport = transport
        self._environ = environ
        self._lock = threading.Lock()
        self._connections: dict[tuple[str | None, str], SpeechConnections] = {}

    def of(self, business: Business) -> SpeechConnections:
        """The connections with which this business's calls are recognised."""
        where: tuple[str | None, str] = (business.google_key_env, business.region)
        if self._credentials is None:
            where = (None, "global")
        with self._lock:
            connections = self._connections.get(where)
            if connections is None:
                connections = self._connections[where] = self._connect(*where)
            return connections

    def _connect(self, key_env: str | None, region: str) -> SpeechConnections:
        credentials = self._credentials
        if key_env is not None:
            try:
                credentials = key_credentials(self._environ.get(key_env, ""), key_env)
            except SettingsError as fault:
                # a call with text on the service's own account beats one without text
                logger.error("[STT] the service's own Google key is used: %s", fault)
        return SpeechConnections(
            credentials,
            emulator_host=self._emulator_host,
            host=_HOSTS[region],
            transport=self._transport,
        )
