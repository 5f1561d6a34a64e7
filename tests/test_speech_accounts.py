"""Which connections a business gets: by its key and its region, shared where both are the same."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.credentials import AnonymousCredentials, Credentials

import call_log
import speech_accounts
from businesses import Business
from speech_accounts import SpeechAccounts
from speech_connections import SpeechConnections

OWN = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth is only typed in part


@pytest.fixture(scope="module")
def key() -> str:
    """A throwaway key of a service account, as JSON."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return json.dumps(
        {
            "type": "service_account",
            "client_email": "clinic@project.iam.gserviceaccount.com",
            "token_uri": "https://oauth2.googleapis.com/token",
            "private_key": pem.decode(),
        }
    )


class Noted(SpeechConnections):
    """Knows what it was made with, and connects to nothing."""

    def __init__(
        self, credentials: Credentials | None, *, emulator_host: str, host: str, transport: str
    ) -> None:
        super().__init__(credentials, emulator_host=emulator_host, host=host, transport=transport)
        self.made_with = credentials, emulator_host, host


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_accounts, "SpeechConnections", Noted)


def made_with(accounts: SpeechAccounts, business: Business) -> tuple[Credentials | None, str, str]:
    connections = accounts.of(business)
    assert isinstance(connections, Noted)
    return connections.made_with


def test_businesses_share_the_services_own_account() -> None:
    """One set of connections for all that ask for nothing else."""
    accounts = SpeechAccounts(OWN)
    assert accounts.of(Business("clinic")) is accounts.of(Business("garage"))
    assert made_with(accounts, Business("clinic")) == (OWN, "", "speech.googleapis.com")


@pytest.mark.parametrize("region", ["eu", "us"])
def test_a_region_is_an_address_of_its_own(region: str) -> None:
    """Google recognises where the audio is sent."""
    accounts = SpeechAccounts(OWN)
    business = Business("clinic", region=region)  # type: ignore[arg-type]  # one of the two
    assert made_with(accounts, business)[2] == f"{region}-speech.googleapis.com"
    assert accounts.of(business) is not accounts.of(Business("garage"))


def test_a_key_of_its_own_is_read_from_its_variable(key: str) -> None:
    """And is nobody else's."""
    accounts = SpeechAccounts(OWN, environ={"CLINIC_KEY": key})
    credentials, _, _ = made_with(accounts, Business("clinic", google_key_env="CLINIC_KEY"))
    assert credentials is not None
    assert credentials.service_account_email == "clinic@project.iam.gserviceaccount.com"  # type: ignore[attr-defined]  # a service account's
    assert made_with(accounts, Business("garage"))[0] is OWN


@pytest.mark.parametrize("environ", [{}, {"CLINIC_KEY": "not a key"}])
def test_a_missing_key_costs_no_text(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's own account is used, and it is said, once, which variable to mend."""
    lines: list[str] = []
    monkeypatch.setattr(call_log.logger, "error", lambda line, *told: lines.append(line % told))
    accounts = SpeechAccounts(OWN, environ=environ)
    for _ in range(3):
        business = Business("clinic", google_key_env="CLINIC_KEY")
        assert made_with(accounts, business)[0] is OWN
    [line] = lines
    assert line.startswith("[STT] the service's own Google key is used: CLINIC_KEY")


def test_an_emulator_takes_no_keys_and_has_no_regions(key: str) -> None:
    """All businesses go to it."""
    accounts = SpeechAccounts(None, "127.0.0.1:9", environ={"CLINIC_KEY": key})
    business = Business("clinic", region="eu", google_key_env="CLINIC_KEY")
    assert made_with(accounts, business) == (None, "127.0.0.1:9", "speech.googleapis.com")
    assert accounts.of(business) is accounts.of(Business("garage"))
