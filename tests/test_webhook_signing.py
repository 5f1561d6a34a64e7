"""Signatures: those of the standard, by every secret."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from webhook_signing import new_secret, signed_headers

# Of the test suite of Standard Webhooks
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
UID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = datetime.fromtimestamp(1614265330, UTC)
BODY = '{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_vector() -> None:
    """The id, the whole second and the text give the signature that the standard gives."""
    assert signed_headers([SECRET], UID, AT, BODY) == {
        "webhook-id": UID,
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_several_secrets_give_several_signatures() -> None:
    """In the order of the secrets, separated by spaces; each verifies by itself, Hebrew too."""
    first, second, other = new_secret(), new_secret(), new_secret()
    headers = signed_headers([first, second], UID, datetime.now(UTC), '{"text": "שלום"}')
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (first, second):
        assert Webhook(secret).verify('{"text": "שלום"}', headers) == {"text": "שלום"}
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify('{"text": "שלום"}', headers)


def test_secrets_are_new_each_time() -> None:
    """32 random bytes behind the standard's prefix."""
    made = {new_secret() for _ in range(20)}
    assert len(made) == 20
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in made} == {32}
