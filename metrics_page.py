"""`GET /metrics`: the figures of all workers of this machine, for Prometheus.

It answers whoever brings the token of the setting `METRICS_TOKEN` (`Authorization: Bearer …`). On
a laptop where everybody is believed (`ALLOW_UNSIGNED=1`) none is needed; elsewhere, without the
setting, there is no such address.

Under gunicorn the files of all workers are read and added up, in a native thread: that takes a few
milliseconds of computing, in which the calls get their turns.
"""

from __future__ import annotations

import hmac
import os

from flask import Blueprint, Response, abort, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

import metrics_files
import native_threads
from settings import Settings


def make_blueprint(settings: Settings, registry: CollectorRegistry) -> Blueprint:
    """The address; `registry` has the instruments of this process."""
    blueprint = Blueprint("metrics", __name__)
    directory = os.environ.get(metrics_files.VARIABLE)
    token = settings.metrics_token.encode()

    def render() -> bytes:
        if not directory:
            return generate_latest(registry)
        # Not by way of a registry: its lock would be a greenlet's, and this is another thread
        collector = MultiProcessCollector(None, directory)  # type: ignore[no-untyped-call]  # has none
        with metrics_files.reading(directory):
            return generate_latest(collector)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        if not token and not settings.allow_unsigned:
            abort(404)
        if token and not _is_shown(token):
            response = Response("the token is missing or wrong\n", 401, mimetype="text/plain")
            response.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
            return response
        body = native_threads.here().call(render)
        return Response(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)

    return blueprint


def _is_shown(token: bytes) -> bool:
    """Whether the request brings the token; takes as long for any wrong one."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token)
