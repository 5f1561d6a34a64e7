"""The HTTP/2 connections to Google Speech-to-Text that a process's calls share.

An HTTP/2 connection carries about 100 streams; the next one is queued by the client and hangs
without any error. So a connection is leased to at most 90 streams, and another one is opened for
the 91st. They are made when the first stream needs them, hence after any fork, and are kept.

`lease()` and `release()` may be called from any thread; nothing waits for the network in them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.auth.credentials import Credentials
from google.cloud.speech_v1.services.speech.transports import SpeechGrpcTransport
from google.cloud.speech_v1.types import (
    RecognizeRequest,
    RecognizeResponse,
    StreamingRecognizeRequest,
    StreamingRecognizeResponse,
)

from http2_channel import Http2Channel
from speech_http2 import emulator_channel, google_channel

STREAMS_PER_CONNECTION = 90
GLOBAL_HOST = "speech.googleapis.com"
DEFAULT_TRANSPORT = "h2"

_OPTIONS = (
    # Without it, channels with the same arguments share one connection after all.
    ("grpc.use_local_subchannel_pool", 1),
    # While Google cannot be reached, gRPC waits longer each time before it tries to connect, up
    # to two minutes, and fails every stream meanwhile. A call's audio cannot wait that long.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_Request = StreamingRecognizeRequest.pb()
_Response = StreamingRecognizeResponse.pb()
_PlainRequest = RecognizeRequest.pb()
_PlainResponse = RecognizeResponse.pb()


class SpeechConnection:
    """One HTTP/2 connection to the Speech API, with the number of streams that hold it.

    `streams` carries the streams, which are nearly all there is; `channel` the plain calls, and
    the streams as well if it is None.
    """

    def __init__(self, channel: grpc.Channel, streams: Http2Channel | None = None) -> None:
        self.channel = channel
        self.streams = streams
        self.leases = 0
        self.retired = False
        # A SpeechClient's own method blocks until the first response, so that a silent call would
        # leave nothing to cancel, retries with a generator that it has used up, and wraps every
        # message in a second object. The channel under it gives the call at once, retries
        # nothing, and takes the protobuf messages as they are.
        self._streaming_recognize: Callable[[Iterator[Any]], Any] = (
            channel if streams is None else streams
        ).stream_stream(
            "/google.cloud.speech.v1.Speech/StreamingRecognize",
            request_serializer=_Request.SerializeToString,
            response_deserializer=_Response.FromString,
        )
        self._recognize = channel.unary_unary(
            "/google.cloud.speech.v1.Speech/Recognize",
            request_serializer=_PlainRequest.SerializeToString,
            response_deserializer=_PlainResponse.FromString,
        )

    def close(self) -> None:
        """Close it; streams on it are cancelled."""
        if self.streams is not None:
            self.streams.close()
        self.channel.close()

    def recognize(self, request: Any, timeout: float) -> Any:
        """Begin a plain `Recognize` call with a raw `RecognizeRequest`; returns gRPC's future.

        Its `result()` raises `grpc.RpcError`, also after `timeout` seconds.
        """
        return self._recognize.future(request, timeout=timeout)

    def streaming_recognize(self, requests: Iterator[Any]) -> Any:
        """Open a stream; returns gRPC's call at once: iterate it for responses, or cancel it.

        `requests` yields raw `StreamingRecognizeRequest` messages and is run by a thread of
        gRPC's. Iterating raises `grpc.RpcError` when the stream fails.
        """
        return self._streaming_recognize(requests)


class SpeechConnections:
    """The connections that are made with one set of credentials.

    `credentials` None: to `emulator_host` ("host:port"), without TLS. `host`: Google's, for a
    region of its own. `transport`: what carries the streams, "h2" (`http2_channel`) or "grpc"
    (gRPC's own library, at three times the cost).
    """

    def __init__(
        self,
        credentials: Credentials | None,
        *,
        emulator_host: str = "",
        host: str = GLOBAL_HOST,
        transport: str = "",
        streams_per_connection: int = STREAMS_PER_CONNECTION,
    ) -> None:
        self._credentials = credentials
        self._emulator_host = emulator_host
        self._host = host
        self._is_http2 = (transport or DEFAULT_TRANSPORT) == "h2"
        self._streams_per_connection = streams_per_connection
        self._lock = threading.Lock()
        self._connections: list[SpeechConnection] = []
        self._pid = os.getpid()

    def lease(self) -> SpeechConnection:
        """A connection with room for one more stream. Give it back with `release()`."""
        with self._lock:
            if self._pid != os.getpid():  # connections do not survive a fork
                self._connections, self._pid = [], os.getpid()
            for connection in self._connections:
                if connection.leases < self._streams_per_connection:
                    break
            else:
                connection = self._connect()
                self._connections.append(connection)
            connection.leases += 1
            return connection

    def release(self, connection: SpeechConnection) -> None:
        """Give a lease back."""
        with self._lock:
            connection.leases -= 1
            over = connection.retired and not connection.leases
        if over:
            connection.close()

    def retire(self, connection: SpeechConnection) -> None:
        """Lease this connection no more: a stream on it hangs. The others on it are left alone."""
        with self._lock:
            connection.retired = True
            if connection in self._connections:
                self._connections.remove(connection)
            over = not connection.leases
        if over:  # the stream was quicker to end
            connection.close()

    def close(self) -> None:
        """Close all connections; streams on them are cancelled."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.close()

    def _connect(self) -> SpeechConnection:
        streams: Http2Channel | None = None
        if self._credentials is None:
            channel = grpc.insecure_channel(self._emulator_host, options=list(_OPTIONS))
            if self._is_http2:
                streams = emulator_channel(self._emulator_host)
        else:
            channel = SpeechGrpcTransport(
                host=self._host,
                credentials=self._credentials,
                # tokens are signed here instead of fetched one after the other
                always_use_jwt_access=True,
                channel=_own_channel,
            ).grpc_channel
            if self._is_http2:
                streams = google_channel(self._credentials, self._host)
        return SpeechConnection(channel, streams)


def _own_channel(host: str, **arguments: Any) -> grpc.Channel:
    arguments["options"] = [*(arguments.get("options") or ()), *_OPTIONS]
    return SpeechGrpcTransport.create_channel(host, **arguments)
