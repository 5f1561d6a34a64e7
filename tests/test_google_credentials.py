"""Google's credentials: where they come from, and one clear line where they are missing or broken.

No request leaves the machine: there is no metadata server to ask, and no home with defaults.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.transport import Request
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from errors import SettingsError
from google_credentials import SCOPES, load_credentials
from settings import Settings

MakeSettings = Callable[[str], Settings]


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A home without Google's files, and no question to any metadata server."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "APPENGINE_RUNTIME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey, passphrase: bytes = b"") -> str:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


@pytest.fixture
def key(rsa_key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """A service account's key file, as Google's console writes it."""
    return {
        "type": "service_account",
        "project_id": "a-project",
        "private_key_id": "1",
        "private_key": pem(rsa_key),
        "client_email": "tamlil@a-project.iam.example",
        "token_uri": "https://oauth2.example/token",
    }


@pytest.fixture
def file_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings whose GOOGLE_APPLICATION_CREDENTIALS is a file with this text."""

    def make(text: str) -> Settings:
        path = tmp_path / "key.json"
        path.write_text(text)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
        return Settings(google_application_credentials=str(path))

    return make


def in_the_variable(text: str) -> Settings:
    return Settings(google_credentials_json=text)


def complaint(settings: Settings) -> str:
    """The one line that these settings are refused with."""
    with pytest.raises(SettingsError) as caught:
        load_credentials(settings)
    told = str(caught.value)
    assert len(told.splitlines()) == 1
    # no trace of google.auth's own error comes along
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return told


def test_the_emulator_needs_none(key: dict[str, Any]) -> None:
    """SPEECH_EMULATOR_HOST comes before all others, also before ones that are broken."""
    settings = Settings(
        speech_emulator_host="localhost:9090",
        google_credentials_json="broken",
        google_application_credentials="/nowhere",
    )
    assert load_credentials(settings) is None


def test_the_key_itself_comes_before_a_key_file(key: dict[str, Any]) -> None:
    """Heroku has no files: GOOGLE_CREDENTIALS_JSON wins over a path that leads nowhere."""
    settings = Settings(
        google_credentials_json=json.dumps(key), google_application_credentials="/nowhere"
    )
    credentials = load_credentials(settings)
    assert isinstance(credentials, service_account.Credentials)
    assert credentials.service_account_email == key["client_email"]
    assert tuple(credentials.scopes) == SCOPES


def test_a_key_file_is_read(key: dict[str, Any], file_settings: MakeSettings) -> None:
    """The same key by GOOGLE_APPLICATION_CREDENTIALS."""
    credentials = load_credentials(file_settings(json.dumps(key)))
    assert isinstance(credentials, service_account.Credentials)
    assert credentials.service_account_email == key["client_email"]
    assert tuple(credentials.scopes) == SCOPES


def test_the_key_signs_its_own_tokens(key: dict[str, Any]) -> None:
    """A call can be authorised without a question to Google's token server."""
    credentials = load_credentials(in_the_variable(json.dumps(key)))
    assert isinstance(credentials, service_account.Credentials)
    signing = credentials.with_always_use_jwt_access(True)  # type: ignore[no-untyped-call]  # google-auth

    def no_request(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a request was made")

    signing.refresh(_Refusing(no_request))
    assert signing.token


class _Refusing(Request):
    def __init__(self, refuse: Callable[..., Any]) -> None:
        self._refuse = refuse

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._refuse(*args, **kwargs)


def test_a_file_of_another_kind_is_left_to_google(file_settings: MakeSettings) -> None:
    """What `gcloud auth application-default login` writes is a user's, and good on a laptop."""
    user = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "token",
    }
    credentials = load_credentials(file_settings(json.dumps(user)))
    assert isinstance(credentials, user_credentials.Credentials)


def test_default_credentials_are_found_in_the_home(tmp_path: Path) -> None:
    """With nothing set, Google's application default credentials serve."""
    user = {
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "token",
    }
    defaults = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    defaults.parent.mkdir(parents=True)
    defaults.write_text(json.dumps(user))
    assert isinstance(load_credentials(Settings()), user_credentials.Credentials)


def test_without_any_credentials_all_ways_to_give_them_are_named() -> None:
    """Whoever starts it for the first time reads what to set."""
    told = complaint(Settings())
    for variable in (
        "GOOGLE_CREDENTIALS_JSON",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "SPEECH_EMULATOR_HOST",
    ):
        assert variable in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/app/key.json", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "not a service account's key"),
        ("null", "not a service account's key"),
        ("{}", "not a service account's key"),
        ('{"type": "authorized_user"}', "not a service account's key"),
        ('{"type": "service_account"}', "the key is broken"),
    ],
)
def test_a_variable_without_a_key_is_named(text: str, words: str) -> None:
    """A path instead of the key, half a paste, another file: one line about the variable."""
    told = complaint(in_the_variable(text))
    assert told.startswith("GOOGLE_CREDENTIALS_JSON: ")
    assert words in told


@pytest.mark.parametrize("field", ["private_key", "client_email", "token_uri"])
def test_a_key_with_a_field_missing_is_told_which(key: dict[str, Any], field: str) -> None:
    """An edited key file."""
    del key[field]
    assert field in complaint(in_the_variable(json.dumps(key)))


def broken_keys(whole: str) -> dict[str, Any]:
    return {
        "cut": whole[:300],
        "empty": "",
        "line feeds escaped twice": whole.replace("\n", "\\n"),
        "a number": 5,
        "nothing": None,
        "a list": [whole],
        "an object": {"key": whole},
    }


@pytest.mark.parametrize("way", sorted(broken_keys("")))
def test_a_broken_private_key_is_told_and_never_shown(key: dict[str, Any], way: str) -> None:
    """The log of a failed start is read by many: not a letter of the key may be in it."""
    secret = key["private_key"].splitlines()[1]
    key["private_key"] = broken_keys(key["private_key"])[way]
    told = complaint(in_the_variable(json.dumps(key)))
    assert told.startswith("GOOGLE_CREDENTIALS_JSON: the key is broken: ")
    assert secret[:20] not in told


def test_a_key_with_a_passphrase_is_refused_in_one_line(
    key: dict[str, Any], rsa_key: rsa.RSAPrivateKey
) -> None:
    """Nobody could enter the passphrase; it must not end in a stack trace."""
    key["private_key"] = pem(rsa_key, b"a passphrase")
    assert "the key is broken" in complaint(in_the_variable(json.dumps(key)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"type": "service_account"}',
        '{"type": "nonsense"}',
        '{"type": 5}',
        '{"type": "authorized_user"}',
        '{"type": "external_account"}',
        '{"type": "external_account", "audience": "a", "subject_token_type": "b",'
        ' "token_url": "c", "credential_source": 5}',
        '{"type": "impersonated_service_account"}',
    ],
)
def test_a_broken_key_file_is_one_line_that_names_it(
    file_settings: MakeSettings, text: str
) -> None:
    """Whatever is in the file, also of a kind that only google.auth knows."""
    settings = file_settings(text)
    told = complaint(settings)
    assert told.startswith(
        f"GOOGLE_APPLICATION_CREDENTIALS={settings.google_application_credentials}: "
    )


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Not there, a directory, or not a text at all."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nowhere", tmp_path, binary):
        told = complaint(Settings(google_application_credentials=str(path)))
        assert told.startswith(f"GOOGLE_APPLICATION_CREDENTIALS={path}: cannot be read")
