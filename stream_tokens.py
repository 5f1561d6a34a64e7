"""The tokens that tie a media stream to the webhook that asked for it.

A signature proves Twilio and the URL, not the call. So the TwiML that opens a stream carries a
token of our own, made for one call of one business, and `start` must name that call. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from itsdangerous import BadSignature, SignatureExpired, URLSafeTimedSerializer

from call_records import CallParties
from errors import BadToken

TOKEN_SECONDS = 300


class StreamGrant(NamedTuple):
    """What a token allows: the streams of one call, for one business; and who calls whom."""

    call_sid: str
    tenant_id: str
    parties: CallParties = CallParties()


class StreamTokens:
    """Makes and reads tokens, signed with `secret_key`."""

    def __init__(self, secret_key: str, seconds: int = TOKEN_SECONDS) -> None:
        self._serializer = URLSafeTimedSerializer(secret_key, salt="tamlil.stream")
        self._seconds = seconds

    def make(self, grant: StreamGrant) -> str:
        """A token for `grant`: letters, digits, dots, - and _, far fewer than Twilio takes."""
        return self._serializer.dumps([grant.call_sid, grant.tenant_id, *grant.parties])

    def read(self, token: str) -> StreamGrant:
        """What `token` allows. Raises `BadToken`."""
        try:
            call_sid, tenant_id, *parties = self._serializer.loads(token, max_age=self._seconds)
            return StreamGrant(str(call_sid), str(tenant_id), CallParties(*map(str, parties)))
        except SignatureExpired:
            raise BadToken(f"the token is older than {self._seconds} s") from None
        except (BadSignature, TypeError, ValueError):
            raise BadToken("the token is not of our making") from None
