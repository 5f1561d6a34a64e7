"""What must be right before the service starts: `python preflight.py` says what is not.

gunicorn's master runs it as a process of its own, because a worker that exits is only started
again, and because nothing of Google's may be imported before gevent has patched the worker.
Exit code 0, or 2 with one line on stderr that names the variable and says how to mend it.
"""

from __future__ import annotations

import os
import sys

import database_ready
from businesses import load_businesses
from errors import SettingsError
from google_credentials import load_credentials
from settings import Settings
from trust_settings import check_metrics_token, signature_of


def main() -> int:
    try:
        settings = Settings.from_env(os.environ)
        signature_of(settings)
        check_metrics_token(settings)
        load_businesses(settings.businesses)
        load_credentials(settings)
        database_ready.prepare(settings)
    except SettingsError as fault:
        print(f"tamlil: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
