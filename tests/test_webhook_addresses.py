"""Which addresses events may go to: whatever a URL says, nothing inside the server's network."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from errors import BadWebhook
from webhook_addresses import Receiver, is_public, parse, resolve


@pytest.mark.parametrize(
    ("url", "receiver", "authority"),
    [
        ("https://crm.example", Receiver("https", "crm.example", 443, "/"), "crm.example"),
        (
            "https://CRM.example:8443/a/b?c=d",
            Receiver("https", "crm.example", 8443, "/a/b?c=d"),
            "crm.example:8443",
        ),
        (
            "https://[2606:4700::1111]/",
            Receiver("https", "2606:4700::1111", 443, "/"),
            "[2606:4700::1111]",
        ),
    ],
)
def test_a_good_url_in_its_parts(url: str, receiver: Receiver, authority: str) -> None:
    """The host, the port of its scheme if it has none, the path with the query."""
    assert parse(url, allow_private=False) == receiver
    assert receiver.authority == authority


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://crm.example/", "https://"),
        ("ftp://crm.example/", "in full"),
        ("crm.example/hook", "in full"),
        ("https:///hook", "in full"),
        ("https://user:secret@crm.example/", "a password"),
        ("https://user@crm.example/", "a user"),
        ("https://@crm.example/", "a user"),
        ("https://crm.example/#part", "#"),
        ("https://crm.example:22/", "port 22"),
        ("https://crm.example:0/", "port 0"),
        ("https://crm.example:99999/", "no URL"),
        ("https://crm.example\\@127.0.0.1/", "ASCII"),
        ("https://crm.example/a b", "ASCII"),
        ("https://crm.example/\nX: y", "ASCII"),
        ("https://דוגמה.example/", "ASCII"),
        ("https://" + "a" * 2000, "ASCII"),
        ("https://[::1/", "no URL"),
    ],
)
def test_a_url_that_is_refused(url: str, told: str) -> None:
    """In one line that says why."""
    with pytest.raises(BadWebhook, match=told) as refused:
        parse(url, allow_private=False)
    assert "\n" not in str(refused.value)


def test_plain_http_and_any_port_where_private_addresses_are_allowed() -> None:
    """For a laptop and for tests."""
    assert parse("http://127.0.0.1:81/", allow_private=True).port == 81


INSIDE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_that_is_not_public(address: str) -> None:
    """Private, local, of the cloud's metadata, of many machines, of nobody, or one in disguise."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"]
)
def test_a_public_address(address: str) -> None:
    """Those of everybody's internet are allowed."""
    assert is_public(address)


def look_up_as(*addresses: str) -> Any:
    """A name service in which every name has these addresses."""

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in addresses
        ]

    return look_up


CRM = Receiver("https", "crm.example", 443, "/")


def test_all_addresses_of_a_name_must_be_public() -> None:
    """One that is not refuses the name, and is named."""
    good = resolve(CRM, allow_private=False, look_up=look_up_as("8.8.8.8", "2606:4700::1111"))
    assert [address[0] for _, address in good] == ["8.8.8.8", "2606:4700::1111"]
    with pytest.raises(BadWebhook, match=r"crm.example is 10\.0\.0\.1, which is not a public"):
        resolve(CRM, allow_private=False, look_up=look_up_as("8.8.8.8", "10.0.0.1"))
    assert resolve(CRM, allow_private=True, look_up=look_up_as("10.0.0.1"))


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
def test_numbers_in_other_forms_are_addresses_too(host: str) -> None:
    """However the loopback is written, the system's own look-up shows what it is."""
    receiver = parse(f"https://{host}/", allow_private=False)
    with pytest.raises(BadWebhook, match=r"127\.0\.0\.1"):
        resolve(receiver, allow_private=False)


def test_a_label_that_no_name_can_have() -> None:
    """Is refused, and not a fault of ours."""
    receiver = parse(f"https://{'a' * 70}.example/", allow_private=False)
    with pytest.raises((BadWebhook, OSError)):
        resolve(receiver, allow_private=False)
