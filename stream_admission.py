"""Whose a media stream is, and whether it may be: decided at its `start`. Pure.

The upgrade was signed, so it comes from Twilio and for this URL. Which call and which business it
is must be proved as well: by the token that the webhook's TwiML gave it or, for a static TwiML
without one, by a business in the path, which the signature covers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from businesses import DEFAULT_TENANT, FindsBusinesses
from call_records import CallParties
from errors import BadConversation, BadToken
from stream_tokens import StreamGrant, StreamTokens
from twilio_messages import Start, is_identifier

POLICY = 1008  # the close code for a stream that may not be (RFC 6455)


class Admitted(NamedTuple):
    """The stream's business, and how many calls of it may be live at once (None: no cap)."""

    tenant_id: str
    max_calls: int | None
    parties: CallParties = CallParties()


class StreamAdmission:
    """Decides on streams. `guarded`: what nobody signed is not believed."""

    def __init__(self, businesses: FindsBusinesses, tokens: StreamTokens, *, guarded: bool) -> None:
        self._businesses = businesses
        self._tokens = tokens
        self._guarded = guarded

    def admit(self, start: Start, asked: Mapping[str, str | None]) -> Admitted:
        """Whose stream this is. Raises `BadConversation` for one that may not be.

        `asked`: the business as the request names it, in its "path", "query" and "header".
        """
        parameters = start.start.custom_parameters or {}
        path = asked.get("path") or None
        if token := parameters.get("token"):
            grant = self._granted(str(token), start.start.call_sid, path)
            return self._known(grant.tenant_id, grant.parties)
        if self._guarded:
            if path is None or self._businesses.of_id(path) is None:
                raise BadConversation(POLICY, "neither a token nor a known business in the path")
            return self._known(path, _told(parameters))
        return self._known(self._believed(asked, parameters.get("tenant")), _told(parameters))

    def _granted(self, token: str, call_sid: str, path: str | None) -> StreamGrant:
        try:
            grant = self._tokens.read(token)
        except BadToken as fault:
            raise BadConversation(POLICY, str(fault)) from None
        if grant.call_sid != call_sid:
            raise BadConversation(POLICY, "the token is another call's")
        if path is not None and path != grant.tenant_id:
            raise BadConversation(POLICY, "the token is another business's")
        return grant

    @staticmethod
    def _believed(asked: Mapping[str, str | None], parameter: object) -> str:
        candidates = (
            ("the path", asked.get("path")),
            ("customParameters.tenant", parameter),
            ("?tenant=", asked.get("query")),
            ("X-Tenant", asked.get("header")),
        )
        for where, tenant in candidates:
            if tenant:
                if not is_identifier(tenant):
                    raise BadConversation(
                        POLICY, f"{where}: a business's id is 1 to 64 letters, digits, dots, _ or -"
                    )
                return str(tenant)
        return DEFAULT_TENANT

    def _known(self, tenant_id: str, parties: CallParties) -> Admitted:
        business = self._businesses.of_id(tenant_id)
        return Admitted(tenant_id, None if business is None else business.max_calls, parties)


def _told(parameters: Mapping[str, object]) -> CallParties:
    """Who calls whom, as a static TwiML may say in its parameters `from`, `to`, `direction`."""
    given = {name: str(parameters.get(name) or "") for name in ("from", "to", "direction")}
    return CallParties(given["from"], given["to"], given["direction"] or "inbound")
