"""The HTTP API of the records, below /api: its addresses, its errors, its OpenAPI document.

An application of its own, in the records' process (`api_server.py`); a worker hands requests on to
it (`api_door.py`). Every view is guarded (`api_guard.py`), whichever module it is of.
"""

from __future__ import annotations

from flask import Flask

import api_calls  # noqa: F401  # its addresses are registered as it is read
import api_leads  # noqa: F401  # as above
import api_problems
import api_search  # noqa: F401  # as above
import api_usage  # noqa: F401  # as above
from api_blueprint import DocumentedApi, blueprint
from api_door import PREFIX
from api_guard import ApiGuard
from api_limits import ApiLimits
from database import attach, database_url
from settings import Settings


def make_app(settings: Settings) -> Flask:
    """The API on the database of `settings`. Raises `SettingsError`."""
    app = Flask("tamlil")
    attach(app, database_url(settings.database_url))
    app.config.update(
        MAX_CONTENT_LENGTH=64 * 1024,
        API_TITLE="Tamlil",
        API_VERSION="1",
        OPENAPI_VERSION="3.0.3",
        OPENAPI_URL_PREFIX="/api",
        API_SPEC_OPTIONS={
            "info": {"description": "The records of a business: who called, and what was said."},
            "security": [{"key": []}],
        },
    )
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # of Flask's own provider
    api_problems.attach(app, PREFIX)
    api = DocumentedApi(app)
    api.spec.components.security_scheme("key", {"type": "http", "scheme": "bearer"})
    api.register_blueprint(blueprint)
    guard = ApiGuard(
        ApiLimits(settings.api_requests_per_minute, settings.api_wrong_keys_per_minute),
        settings.trusted_proxies,
    )
    for endpoint, view in app.view_functions.items():
        if endpoint.startswith(f"{blueprint.name}."):
            app.view_functions[endpoint] = guard.around(view)
    return app
