"""Signatures: those of the standard, by every secret."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from running_service import PROJECT
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


def snippet(language: str) -> str:
    """What README.md tells a receiver in this language."""
    section = (PROJECT / "README.md").read_text().partition("## Events (webhooks)")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


def signed_event(secret: str) -> tuple[str, dict[str, str]]:
    body = '{"id": "e1", "data": {"text": "שלום"}}'
    return body, signed_headers([new_secret(), secret], "e1", datetime.now(UTC), body)


def test_the_python_of_the_readme_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was signed, and nothing else."""
    secret = new_secret()
    monkeypatch.setenv("TAMLIL_WEBHOOK_SECRET", secret)
    receiver: dict[str, Any] = {}
    exec(snippet("python"), receiver)
    body, headers = signed_event(secret)
    assert receiver["verify"](body.encode(), headers)["data"] == {"text": "שלום"}
    with pytest.raises(WebhookVerificationError):
        receiver["verify"](body.encode() + b" ", headers)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
def test_the_javascript_of_the_readme_verifies(tmp_path: Path) -> None:
    """What was signed, and neither another text nor an old one."""
    secret = new_secret()
    body, headers = signed_event(secret)
    (tmp_path / "verify.mjs").write_text(snippet("js"))
    tries = [(body, headers), (body + " ", headers), (body, headers | {"webhook-timestamp": "1"})]
    (tmp_path / "tries.mjs").write_text(
        'import { verify } from "./verify.mjs";\n'
        f"for (const [body, headers] of {json.dumps(tries)}) {{\n"
        "  try { console.log(verify(body, headers).data.text); }\n"
        "  catch (error) { console.log(error.message); }\n}\n"
    )
    done = subprocess.run(
        ["node", str(tmp_path / "tries.mjs")],
        env=os.environ | {"TAMLIL_WEBHOOK_SECRET": secret},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["שלום", "not signed by Tamlil", "too old"]
