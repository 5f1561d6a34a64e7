"""`/healthz`: the process is alive. `/readyz`: it can take a call now. For load balancers."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, jsonify

from registry import CallRegistry


def make_blueprint(
    registry: CallRegistry, knows_businesses: Callable[[], bool] = lambda: True
) -> Blueprint:
    """The two addresses; both answer JSON and never wait for anything.

    `knows_businesses()`: whether they were read; until then no call can be taken.
    """
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        calls = {"calls": registry.live, "max_calls": registry.max_calls}
        if registry.draining:
            return jsonify(status="draining", **calls), 503
        if not knows_businesses():
            return jsonify(status="waiting for the database", **calls), 503
        if registry.full:
            return jsonify(status="full", **calls), 503
        return jsonify(status="ready", **calls), 200

    return blueprint
