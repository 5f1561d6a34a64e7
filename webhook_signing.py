"""Signs the events that go out, as Standard Webhooks says (standardwebhooks.com). Pure.

A receiver knows by the signature that an event is ours and by the timestamp that it is not an old
one sent again. While a secret is rotated an event carries a signature by each of them.
"""

from __future__ import annotations

import base64
import secrets as randomness
from collections.abc import Iterable
from datetime import datetime

from standardwebhooks.webhooks import Webhook

_PREFIX = "whsec_"
_SECRET_BYTES = 32  # the standard wants 24 to 64


def new_secret() -> str:
    """A new secret, `whsec_…`."""
    return _PREFIX + base64.b64encode(randomness.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secrets: Iterable[str], uid: str, at: datetime, body: str) -> dict[str, str]:
    """The headers of the event `uid` with the text `body`, sent at `at` (UTC).

    Every try has a timestamp of its own; the id stays.
    """
    signatures = (Webhook(secret).sign(uid, at, body) for secret in secrets)
    return {
        "webhook-id": uid,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
