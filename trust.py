"""Who may come in: nobody but Twilio, on the webhooks and on the media stream's upgrade.

The check runs before anything else is done for a request, and for a media stream before the
upgrade: a refusal is a 403, one line in the log, and nothing else.
"""

from __future__ import annotations

from flask import Request, abort

import tallies
from call_log import logger, one_line
from twilio_signature import HEADER, TwilioSignature

_SHOWN = 80  # characters of a path that somebody made up


class Door:
    """Lets requests in that Twilio signed; all of them where `signature` is None (unsigned)."""

    def __init__(self, signature: TwilioSignature | None) -> None:
        self._signature = signature

    @property
    def is_guarded(self) -> bool:
        """Whether signatures are checked."""
        return self._signature is not None

    def check_webhook(self, request: Request) -> None:
        """Abort with 403 unless this POST is Twilio's."""
        self._check(request, socket=False)

    def check_upgrade(self, request: Request) -> None:
        """Abort with 403 unless this upgrade to a media stream is Twilio's."""
        self._check(request, socket=True)

    def _check(self, request: Request, *, socket: bool) -> None:
        if self._signature is None:
            return
        signature = request.headers.get(HEADER)
        # not `full_path`, which raises for a query that is not UTF-8
        query = request.query_string.decode(errors="replace")
        path = f"{request.path}?{query}" if query else request.path
        form = None if socket else request.form
        body = b"" if socket else request.get_data()  # nothing is left of one that was a form
        if not self._signature.is_valid(
            signature, request.host, path, form, body=body, socket=socket
        ):
            what = "a wrong signature" if signature else "no signature"
            logger.warning(
                "[TRUST] refused: 403 %s for %s from %s",
                what,
                one_line(request.path)[:_SHOWN],
                one_line(request.remote_addr or "-"),
            )
            tallies.refused(tallies.Refusal.SIGNATURE)
            abort(403)
